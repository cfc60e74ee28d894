"""uvicorn's HTTP/1.1 protocol with timeouts, and a limit on headers, that uvicorn lacks."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

IDLE_TIMEOUT_S = 10.0
"""Seconds for a client to send a complete request head, and to read a finished response."""

MAX_HEAD_BYTES = 1 << 14
"""Bytes of the request line and all headers: browsers send a tenth of that, and 20,000 headers take half a second to parse."""


class TimeoutProtocol(H11Protocol):
    """Drops clients that connect and hang, and those that send thousands of headers.

    uvicorn itself waits forever for the first byte of a request, for the rest of its head, and for a client to read.
    """

    _request_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the request timer."""
        super().connection_made(transport)
        self._start_request_timer()

    def data_received(self, data: bytes) -> None:
        """Stop the request timer once a head is complete."""
        is_head = self.conn.their_state is h11.IDLE
        if is_head and len(data) > MAX_HEAD_BYTES and data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES) < 0:
            self.send_400_response("The headers of the request are too long.")
            return
        super().data_received(data)
        if self._is_responding():
            self._cancel_request_timer()
        elif self._request_timer is None:
            self._start_request_timer()

    def on_response_complete(self) -> None:
        """Start the request timer again: for the next request, or for the client to read the rest of this response."""
        super().on_response_complete()
        if not self._is_responding() and self._request_timer is None:
            self._start_request_timer()

    def pause_writing(self) -> None:
        """Start the write timer: the write buffer is full."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(IDLE_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the write timer: the client has read most of the buffer."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both timers."""
        self._cancel_request_timer()
        if self._write_timer is not None:
            self._write_timer.cancel()
        super().connection_lost(exc)

    def _is_responding(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_request_timer(self) -> None:
        self._request_timer = self.loop.call_later(IDLE_TIMEOUT_S, self._on_request_timeout)

    def _cancel_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def _on_request_timeout(self) -> None:
        self._request_timer = None
        if not self._is_responding():
            self.transport.abort()
