"""The console for tables, and progress bars for long work."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.text import Text

from nephros.escaping import escape_for_terminal

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
    console, description = Console(stderr=True), escape(escape_for_terminal(description))
    yield from track(items, description, total=total, console=console, disable=not shows_bars(console), transient=True)


class TextConsole(Console):
    """A console that prints strings, also those in tables, as the text they are: no markup, no emoji codes, no control codes.

    What is meant to have a style or a line break is a `rich.text.Text`.
    """

    def __init__(self, **kwargs: Any) -> None:
        """Take the keywords of `rich.console.Console`."""
        super().__init__(highlight=False, markup=False, emoji=False, **kwargs)

    def render_str(self, text: str, **kwargs: Any) -> Text:
        """Return the text to print for a string."""
        return super().render_str(escape_for_terminal(text), **{**kwargs, "markup": False, "emoji": False})


def table_console() -> Console:
    """Return a console as wide as the terminal; where output is not a terminal, wide enough that no table is cut."""
    console = TextConsole(soft_wrap=True)
    return console if console.is_terminal else TextConsole(width=2000)
