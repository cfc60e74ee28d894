"""The console for tables, and progress bars for long work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")

_bars_wanted = True


@contextlib.contextmanager
def progress_bars(enabled: bool) -> Iterator[None]:
    """Within the block, show progress bars or not (the command line's --quiet)."""
    global _bars_wanted
    previous, _bars_wanted = _bars_wanted, enabled
    try:
        yield
    finally:
        _bars_wanted = previous


def shows_bars(console: Console) -> bool:
    """Return whether progress bars belong on this console: a terminal, without --quiet."""
    return _bars_wanted and console.is_terminal


def progress_bar(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield `items`, with a progress bar on stderr where that is a terminal."""
    console = Console(stderr=True)
    yield from track(items, description, total=total, console=console, disable=not shows_bars(console), transient=True)


def table_console() -> Console:
    """Return a console as wide as the terminal; where output is not a terminal, wide enough that no table is cut."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, width=2000)
