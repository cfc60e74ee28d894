"""ASGI middleware around the whole application: origin checks, request metrics and security headers."""

from __future__ import annotations

import asyncio
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nephros.environment import __version__
from nephros.server.prometheus import ServerMetrics
from nephros.server.schemas import ErrorResponse

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
RESPONSE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
    "nephros-version": __version__,
}


class RequestMiddleware:
    """Checks every request's origin, records it in the metrics, and adds headers to every response."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics, routes: frozenset[str], loopback_only: bool) -> None:
        """Wrap an application.

        Args:
            app: the application.
            metrics: where requests are recorded.
            routes: paths that the metrics name; all others are counted as "other".
            loopback_only: reject requests with another Host header than localhost, against DNS rebinding.
        """
        self._app, self._metrics, self._routes, self._loopback_only = app, metrics, routes, loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application or reject it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0
        # After a response to a request that was not read to its end, the connection can't be used again.
        body_complete = scope["method"] in ("GET", "HEAD")

        async def tracked_receive() -> Message:
            nonlocal body_complete
            message = await receive()
            body_complete = body_complete or (message["type"] == "http.request" and not message.get("more_body", False))
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra_headers = [(name.encode(), value.encode()) for name, value in RESPONSE_HEADERS.items()]
                extra_headers += [] if body_complete else [(b"connection", b"close")]
                message = {**message, "headers": [*message.get("headers", []), *extra_headers]}
            await send(message)

        try:
            if reason := self._rejection_reason(scope):
                await _reject(send_with_headers, 403, reason)
            else:
                await self._app(scope, tracked_receive, send_with_headers)
        except asyncio.CancelledError:  # the server is shutting down and has waited long enough for this client
            if not status:
                await _reject(send_with_headers, 503, "The server is shutting down.")
        finally:
            path = scope["path"] if scope["path"] in self._routes else "other"
            self._metrics.record_request(path, status or 500, time.perf_counter() - start)

    def _rejection_reason(self, scope: Scope) -> str:
        """Return why a request does not come from this server's own address; empty if it does."""
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self._loopback_only and re.sub(r":\d*$", "", host) not in LOOPBACK_HOSTS:
            return "This server only accepts requests to localhost: start it with a host address to let others in."
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower().partition("://")[2] != host:
            return "Pages of other sites may not use this server."
        return ""


async def _reject(send: Send, status: int, reason: str) -> None:
    body = ErrorResponse(error=reason).model_dump_json().encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
