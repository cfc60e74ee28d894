"""How much one client may ask for, and what it is told when that is too much."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import ClassVar

from nephros.errors import NephrosError


class RequestRejected(Exception):
    """A request that gets no answer: its HTTP status and one plain sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class RequestLimits:
    """What a request may bring and take."""

    __pydantic_config__: ClassVar[dict[str, bool]] = {"use_attribute_docstrings": True}
    """The words under the fields are also those of OpenAPI."""

    max_upload_bytes: int = 64 << 20
    """Of a request's body."""
    max_files: int = 1000
    """In a request."""
    max_cells: int = 10_000
    """Pictures of all files together: pages and rows count."""
    max_file_pixels: int = 100_000_000
    """Of all pages or rows of a file, unpacked; a single picture may have 25 million."""
    timeout_s: float = 60.0
    """In which an upload must have come, and after that so many again in which it must be answered."""
    idle_timeout_s: float = 10.0
    """In which a client must send something more, or take something of the answer."""

    def to_dict(self) -> dict[str, float]:
        """Return the limits as plain JSON values."""
        return asdict(self)


BATCH_LIMITS = RequestLimits(256 << 20, 1000, 250_000, 250_000_000, 900.0)
"""Of ``POST /predict/batch``: TissueMNIST's file fits."""
MAX_BUFFERED_BYTES = 1 << 30
"""Of uploads in memory at one time, all clients' together."""


class DecodeLimiter:
    """Counts what the files of one request give; called for each file, as `nephros.inference.reader.Guard` says."""

    def __init__(self, limits: RequestLimits) -> None:
        self._limits, self._deadline = limits, time.monotonic() + limits.timeout_s
        self._n_cells = 0
        self._current_file: object = None
        self._file_pixels = 0

    def __call__(self, name: object, n_cells: int, pixels_per_cell: int) -> None:
        """UserError, in one sentence that begins with `name`, when the file goes over a limit."""
        if name is not self._current_file:
            self._current_file, self._file_pixels = name, 0
        if self._n_cells + n_cells > self._limits.max_cells:
            raise NephrosError(
                f"{name} brings the upload above {self._limits.max_cells:,} cells, the most that are answered at once; "
                "divide it, or use `nephros predict`."
            )
        if self._file_pixels + n_cells * pixels_per_cell > self._limits.max_file_pixels:
            raise NephrosError(
                f"{name} unpacks to more than {self._limits.max_file_pixels / 1e6:,.0f} million pixels; crop the cells out first."
            )
        if time.monotonic() > self._deadline:
            raise NephrosError(
                f"{name} was not read within {self._limits.timeout_s:g} seconds; send fewer files at once."
            )
        self._n_cells += n_cells
        self._file_pixels += n_cells * pixels_per_cell


class MemoryBudget:
    """Bytes that all requests together may hold."""

    def __init__(self, capacity: int = MAX_BUFFERED_BYTES) -> None:
        self._available, self._lock = capacity, threading.Lock()

    @contextmanager
    def lease(self) -> Iterator[MemoryLease]:
        """Within the block a request takes what it needs; at the end all of it is given back."""
        memory_lease = MemoryLease(self)
        try:
            yield memory_lease
        finally:
            self.reserve(-memory_lease.reserved)

    def reserve(self, n_bytes: int) -> None:
        """Take so many bytes; Refused when there are not so many left."""
        with self._lock:
            if n_bytes > self._available:
                raise RequestRejected(503, "The server holds as many uploads as it can: try again in a few seconds.")
            self._available -= n_bytes


class MemoryLease:
    """One request's part of a Budget."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget, self.reserved = budget, 0

    def reserve(self, n_bytes: int) -> None:
        """Take so many more bytes; Refused when there are not so many left."""
        self._budget.reserve(n_bytes)
        self.reserved += n_bytes
