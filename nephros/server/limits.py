"""How much one client may ask for, and what it is told when that is too much."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import ClassVar

from nephros.errors import UserError


class Refused(Exception):
    """A request that gets no answer: its HTTP status and one plain sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


@dataclass(frozen=True)
class Limits:
    """What a request may bring and take."""

    __pydantic_config__: ClassVar[dict[str, bool]] = {"use_attribute_docstrings": True}
    """The words under the fields are also those of OpenAPI."""

    upload_bytes: int = 64 << 20
    """Of a request's body."""
    files: int = 1000
    """In a request."""
    cells: int = 10_000
    """Pictures of all files together: pages and rows count."""
    file_pixels: int = 100_000_000
    """Of all pages or rows of a file, unpacked; a single picture may have 25 million."""
    seconds: float = 60.0
    """In which an upload must have come, and after that so many again in which it must be answered."""
    idle_seconds: float = 10.0
    """In which a client must send something more, or take something of the answer."""

    def to_dict(self) -> dict[str, float]:
        """Return the limits as plain JSON values."""
        return asdict(self)


FOR_BATCHES = Limits(256 << 20, 1000, 250_000, 250_000_000, 900.0)
"""Of ``POST /predict/batch``: TissueMNIST's file fits."""
HELD_BYTES = 1 << 30
"""Of uploads in memory at one time, all clients' together."""


class Guard:
    """Counts what the files of one request give; called for each file, as `nephros.inference.reader.Guard` says."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._end = limits, time.monotonic() + limits.seconds
        self._cells = 0
        self._file: object = None
        self._pixels = 0

    def __call__(self, name: object, cells: int, pixels: int) -> None:
        """UserError, in one sentence that begins with `name`, when the file goes over a limit."""
        if name is not self._file:
            self._file, self._pixels = name, 0
        if self._cells + cells > self._limits.cells:
            raise UserError(
                f"{name} brings the upload above {self._limits.cells:,} cells, the most that are answered at once; "
                "divide it, or use `nephros predict`."
            )
        if self._pixels + cells * pixels > self._limits.file_pixels:
            raise UserError(
                f"{name} unpacks to more than {self._limits.file_pixels / 1e6:,.0f} million pixels; crop the cells out first."
            )
        if time.monotonic() > self._end:
            raise UserError(f"{name} was not read within {self._limits.seconds:g} seconds; send fewer files at once.")
        self._cells += cells
        self._pixels += cells * pixels


class Budget:
    """Bytes that all requests together may hold."""

    def __init__(self, most: int = HELD_BYTES) -> None:
        self._left, self._door = most, threading.Lock()

    @contextmanager
    def share(self) -> Iterator[Share]:
        """Within the block a request takes what it needs; at the end all of it is given back."""
        share = Share(self)
        try:
            yield share
        finally:
            self.take(-share.taken)

    def take(self, count: int) -> None:
        """Take so many bytes; Refused when there are not so many left."""
        with self._door:
            if count > self._left:
                raise Refused(503, "The server holds as many uploads as it can: try again in a few seconds.")
            self._left -= count


class Share:
    """One request's part of a Budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self.taken = budget, 0

    def take(self, count: int) -> None:
        """Take so many more bytes; Refused when there are not so many left."""
        self._budget.take(count)
        self.taken += count
