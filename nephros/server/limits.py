"""Limits on what one request may use, and the error that rejects a request."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

from nephros.data.images.decoder import check_decode_timeout
from nephros.errors import FileError, InvalidArgument

MAX_BUFFERED_BYTES = 1 << 30
"""Bytes of uploads in memory at one time, over all clients."""


class RequestRejected(Exception):
    """A request that gets no prediction: an HTTP status and one plain sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class RequestLimits:
    """Limits of one request."""

    __pydantic_config__: ClassVar[dict[str, bool]] = {"use_attribute_docstrings": True}
    """The docstrings of the fields are also their descriptions in OpenAPI."""

    max_upload_bytes: int = 64 << 20
    """Size of the request's body in bytes."""
    max_files: int = 1000
    """Files per request."""
    max_parts: int = 2000
    """Parts of the multipart body, which are files and other fields."""
    max_cells: int = 10_000
    """Images in all files together, where pages and rows count as one image each; or nuclei of a stack."""
    max_pixels: int = 100_000_000
    """Decoded pixels of all files, in all their pages and rows; a single image may have 25 million. Or voxels of a stack."""
    decode_timeout_s: float = 20.0
    """Seconds for which images are decoded that may take long; usual ones are not counted."""
    timeout_s: float = 60.0
    """Seconds for the upload, and again for the prediction."""
    idle_timeout_s: float = 10.0
    """Seconds within which the client must send or receive the next bytes."""


BATCH_LIMITS = RequestLimits(
    max_upload_bytes=256 << 20, max_cells=250_000, max_pixels=250_000_000, decode_timeout_s=300.0, timeout_s=900.0
)
"""Limits of ``POST /predict/batch``: large enough for TissueMNIST's file."""
STACK_LIMITS = RequestLimits(
    max_upload_bytes=1 << 30, max_files=2, max_parts=20, max_cells=100_000, max_pixels=1_000_000_000, decode_timeout_s=900.0,
    timeout_s=900.0, idle_timeout_s=30.0,
)  # fmt: skip
"""Limits of ``POST /predict/stack``, where pixels are voxels of the stack's channel."""
MAX_STACK_BYTES = 4 << 30
"""Bytes of uploaded stacks on disk at one time, over all clients."""
STACK_PIXELS_FACTOR = 10
"""How many times as many voxels a stack may have as a request to /predict pixels."""
BATCH_PIXELS_FACTOR, BATCH_DECODE_TIMEOUT_FACTOR = 2.5, 15
"""How many times as much a request to /predict/batch may take as one to /predict."""


def request_limits(
    max_pixels: int | None = None, decode_timeout: float | None = None
) -> tuple[RequestLimits, RequestLimits]:
    """Return the limits of /predict and of /predict/batch, where some are given.

    Raises:
        InvalidArgument: a limit is not above 0.
    """
    limits, batch_limits = RequestLimits(), BATCH_LIMITS
    if max_pixels is not None:
        if max_pixels < 1:
            raise InvalidArgument("max_pixels", max_pixels, "a whole number of at least 1")
        limits = replace(limits, max_pixels=max_pixels)
        batch_limits = replace(batch_limits, max_pixels=int(max_pixels * BATCH_PIXELS_FACTOR))
    if decode_timeout is not None:
        seconds = check_decode_timeout(decode_timeout)
        limits = replace(limits, decode_timeout_s=seconds)
        batch_limits = replace(batch_limits, decode_timeout_s=seconds * BATCH_DECODE_TIMEOUT_FACTOR)
    return limits, batch_limits


def stack_limits(max_pixels: int | None = None) -> RequestLimits:
    """Return the limits of /predict/stack, where `request_limits` takes the same number of pixels."""
    return STACK_LIMITS if max_pixels is None else replace(STACK_LIMITS, max_pixels=max_pixels * STACK_PIXELS_FACTOR)


class DecodeLimiter:
    """Counts the decoded cells and pixels of one request; a `nephros.inference.reader.SizeCheck`."""

    def __init__(self, limits: RequestLimits) -> None:
        self._limits, self._deadline = limits, time.monotonic() + limits.timeout_s
        self._n_cells = self._n_pixels = 0

    def __call__(self, name: object, n_cells: int, pixels_per_cell: int) -> None:
        """Count `n_cells` more of the file `name`; raise FileError if the request exceeds a limit."""
        if self._n_cells + n_cells > self._limits.max_cells:
            raise FileError(
                str(name),
                f"{name} brings the upload above {self._limits.max_cells:,} cells, the limit per request; "
                "split it, or predict it without the server.",
            )
        if self._n_pixels + max(1, n_cells) * pixels_per_cell > self._limits.max_pixels:
            limit = f"{self._limits.max_pixels / 1e6:,.0f} million pixels"
            raise FileError(
                str(name),
                f"{name} brings the upload above {limit} when decoded, the limit per request; crop the cells first, or send "
                "fewer files at once.",
            )
        if time.monotonic() > self._deadline:
            seconds = f"{self._limits.timeout_s:g} seconds"
            raise FileError(str(name), f"{name} was not read within {seconds}; send fewer files at once.")
        self._n_cells += n_cells
        self._n_pixels += n_cells * pixels_per_cell


class MemoryBudget:
    """Bytes that all requests together may hold."""

    def __init__(self, capacity: int) -> None:
        self._available, self._lock = capacity, threading.Lock()

    @contextmanager
    def lease(self) -> Iterator[MemoryLease]:
        """Give one request a lease on this memory; everything it reserves is released at the end of the block."""
        memory_lease = MemoryLease(self)
        try:
            yield memory_lease
        finally:
            self.release(memory_lease.reserved)

    def reserve(self, n_bytes: int) -> None:
        """Reserve `n_bytes`; raise RequestRejected if fewer are available."""
        with self._lock:
            if n_bytes > self._available:
                raise RequestRejected(503, "The server has no memory left for uploads: try again in a few seconds.")
            self._available -= n_bytes

    def release(self, n_bytes: int) -> None:
        """Make `n_bytes` available again."""
        with self._lock:
            self._available += n_bytes


class MemoryLease:
    """One request's part of a MemoryBudget."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget, self.reserved = budget, 0

    def reserve(self, n_bytes: int) -> None:
        """Reserve `n_bytes` more; raise RequestRejected if fewer are available."""
        self._budget.reserve(n_bytes)
        self.reserved += n_bytes
