"""A bar while something long goes through its parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def shown(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield `items`, with a progress bar on stderr where that is a terminal."""
    console = Console(stderr=True)
    yield from track(items, what, total=total, console=console, disable=not console.is_terminal, transient=True)
