"""The console for tables, and a bar for long work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def with_bar(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield `items`, with a progress bar on stderr where that is a terminal."""
    console = Console(stderr=True)
    yield from track(items, what, total=total, console=console, disable=not console.is_terminal, transient=True)


def table_console() -> Console:
    """Return a console as wide as the terminal; where output is not a terminal, wide enough that no table is cut."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, width=2000)
