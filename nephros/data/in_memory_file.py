"""A file that came over a connection: its bytes in memory, with a name that is shown and never opened."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True)
class InMemoryFile:
    """Stands where a Path of an existing file may stand, so that nothing needs to be written to disk."""

    name: str
    data: bytes = field(repr=False)

    def __str__(self) -> str:
        """Return the name, by which errors call it."""
        return self.name

    @property
    def suffix(self) -> str:
        """As `pathlib.Path.suffix`."""
        return PurePosixPath(self.name).suffix

    def open(self) -> io.BytesIO:
        """Return the bytes as a file that is open for reading."""
        return io.BytesIO(self.data)
