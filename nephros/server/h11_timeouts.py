"""uvicorn's HTTP/1.1 protocol, with an end to patience: clients that open a connection and hang are cut off."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

IDLE = 10.0
"""Seconds in which a whole request head must come, and a finished answer be taken."""


class Connection(H11Protocol):
    """uvicorn waits for ever for the first byte of a request, for the rest of its head, and for a reader to read."""

    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to count."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Count on until a head is whole."""
        super().data_received(data)
        if self._at_work():
            self._stop()
        elif self._timer is None:
            self._wait()

    def on_response_complete(self) -> None:
        """Count until the next request, or until what is left of this answer has been taken."""
        super().on_response_complete()
        if not self._at_work() and self._timer is None:
            self._wait()

    def pause_writing(self) -> None:
        """Count until the client has taken most of what waits to be sent."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(IDLE, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop that count."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting."""
        self._stop()
        if self._unread is not None:
            self._unread.cancel()
        super().connection_lost(exc)

    def _at_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._timer = self.loop.call_later(IDLE, self._cut)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut(self) -> None:
        self._timer = None
        if not self._at_work():
            self.transport.abort()
