"""What every request passes: whose it is, how it is counted, and the headers of every answer."""

from __future__ import annotations

import asyncio
import json
import re
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nephros.environment import __version__
from nephros.server.prometheus import ServerMetrics

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
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics, routes: frozenset[str], loopback_only: bool) -> None:
        """Take the application and its routes; with `loopback_only` a foreign Host header is refused (DNS rebinding)."""
        self._app, self._metrics, self._routes, self._loopback_only = app, metrics, routes, loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass or refuse it, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0
        # One that is answered before all of it came can't be followed by another on the same connection.
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
                await self._reject(send_with_headers, 403, reason)
            else:
                await self._app(scope, tracked_receive, send_with_headers)
        except asyncio.CancelledError:  # the server is ending, and has waited long enough for this client
            if not status:
                await self._reject(send_with_headers, 503, "The server is ending.")
        finally:
            path = scope["path"] if scope["path"] in self._routes else "other"
            self._metrics.record_request(path, status or 500, time.perf_counter() - start)

    async def _reject(self, send: Send, status: int, reason: str) -> None:
        body = json.dumps({"error": reason}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _rejection_reason(self, scope: Scope) -> str:
        """Return why a request is not from this server's own address, or nothing."""
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if self._loopback_only and re.sub(r":\d*$", "", host) not in LOOPBACK_HOSTS:
            return "This server answers on this machine only, as localhost: start it with --host to let others in."
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").lower().partition("://")[2] != host:
            return "Pages of other sites may not use this server."
        return ""
