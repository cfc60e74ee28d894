"""Responses that are sent piece by piece, so that a slow client holds a small buffer, and for a limited time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack
from typing import IO

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from nephros.server.limits import MemoryBudget

logger = logging.getLogger(__name__)

PIECE_BYTES = 1 << 16
"""Bytes that are sent at once; the client must take them within the server's idle timeout."""
SEND_TIMEOUT_S = 900.0
"""Seconds for which a response of known size is sent."""


class LeasedStreamingResponse(StreamingResponse):
    """Pieces of a response; leases are released once all are sent or the client has gone."""

    def __init__(
        self,
        pieces: AsyncIterator[bytes] | Iterator[bytes],
        lease_stack: ExitStack,
        *,
        media_type: str,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> None:
        super().__init__(pieces, media_type=media_type, headers=headers)
        self._lease_stack, self._timeout_s = lease_stack, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._lease_stack:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await super().__call__(scope, receive, send)
            except TimeoutError:
                logger.warning("A client read a response too slowly and was cut off.")


def binary_response(
    data: bytes | memoryview, lease_stack: ExitStack, headers: Mapping[str, str] | None = None
) -> LeasedStreamingResponse:
    """Return bytes in memory as a response; `lease_stack` holds the lease on this memory."""
    size = len(data)
    pieces = (bytes(data[start : start + PIECE_BYTES]) for start in range(0, size, PIECE_BYTES))
    return LeasedStreamingResponse(
        _asynchronous(pieces),
        lease_stack,
        media_type="application/octet-stream",
        headers={"content-length": str(size), **(headers or {})},
        timeout_s=SEND_TIMEOUT_S,
    )


def file_response(
    file: IO[bytes], size: int, lease_stack: ExitStack, *, media_type: str, headers: Mapping[str, str]
) -> LeasedStreamingResponse:
    """Return the content of an open file as a response; `lease_stack` closes it."""
    pieces = iter(lambda: file.read(PIECE_BYTES), b"")
    return LeasedStreamingResponse(
        pieces,  # read in threads
        lease_stack,
        media_type=media_type,
        headers={"content-length": str(size), **headers},
        timeout_s=SEND_TIMEOUT_S,
    )


def reserve_memory(budget: MemoryBudget, n_bytes: int) -> ExitStack:
    """Return what holds a lease on so many bytes; RequestRejected if there are not so many."""
    with ExitStack() as scope:
        scope.enter_context(budget.lease()).reserve(n_bytes)
        return scope.pop_all()


async def _asynchronous(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
