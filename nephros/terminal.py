"""The console for tables."""

from __future__ import annotations

from rich.console import Console


def table_console() -> Console:
    """Return a console as wide as the terminal; where output is not a terminal, wide enough that no table is cut."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, width=2000)
