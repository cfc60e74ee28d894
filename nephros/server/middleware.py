"""ASGI middleware around the whole application: origin checks, request metrics and security headers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nephros.environment import __version__
from nephros.server.access import AccessPolicy, split_token
from nephros.server.limits import RequestRejected
from nephros.server.prometheus import ServerMetrics
from nephros.server.rejection import rejection_body

PAGES = frozenset({"/", "/api", "/annotate"})
"""Pages that people open; there `?token=` sets the cookie that later requests are accepted with."""
NO_HEADERS: Mapping[str, str] = {}
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
ENCODED_HEADERS = [(name.encode(), value.encode()) for name, value in RESPONSE_HEADERS.items()]


class RequestMiddleware:
    """Checks who sends every request, records it in the metrics, and adds headers to every response."""

    def __init__(
        self, app: ASGIApp, metrics: ServerMetrics, routes: frozenset[str], access: AccessPolicy, root_path: str = ""
    ) -> None:
        """Wrap an application.

        Args:
            app: the application.
            metrics: where requests are recorded.
            routes: the application's paths, such as ``/samples/{name}``, which the metrics name; all others are counted as
                "other".
            access: which requests are accepted.
            root_path: path prefix at which a reverse proxy offers the server, whether it strips the prefix or not.
        """
        self._app, self._metrics, self._routes = app, metrics, routes
        self._access, self._root_path = access, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application or reject it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = self._route_path(scope["path"])
        start, status, route = time.perf_counter(), 0, path
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
                present = {name for name, _ in message.get("headers", [])}  # a report has a policy of its own
                extra_headers = [pair for pair in ENCODED_HEADERS if pair[0] not in present]
                extra_headers += [] if body_complete else [(b"connection", b"close")]
                message = {**message, "headers": [*message.get("headers", []), *extra_headers]}
            await send(message)

        try:
            headers = dict(scope["headers"])
            self._access.check_site(headers)
            if not await self._log_in(scope, path, send_with_headers):
                self._access.check_token(headers)
                app_scope = {**scope, "path": self._root_path + path, "root_path": self._root_path}
                try:
                    await self._app(app_scope, tracked_receive, send_with_headers)
                finally:
                    route = getattr(app_scope.get("route"), "path", path)
        except RequestRejected as error:
            challenge = {"www-authenticate": 'Bearer realm="nephros"'} if error.status == 401 else {}
            await _reject(send_with_headers, scope, error.status, error.message, challenge)
        except asyncio.CancelledError:  # the server is shutting down and has waited long enough for this client
            if not status:
                await _reject(send_with_headers, scope, 503, "The server is shutting down.")
        finally:
            route = route if route in self._routes else "other"
            self._metrics.record_request(route, status or 500, time.perf_counter() - start)

    def _route_path(self, path: str) -> str:
        """Return a request's path without the prefix, if a proxy left it there, and without a slash after a route's name."""
        if path not in self._routes and (path + "/").startswith(self._root_path + "/"):
            path = path[len(self._root_path) :] or "/"
        return path[:-1] if path[:-1] in self._routes else path

    async def _log_in(self, scope: Scope, path: str, send: Send) -> bool:
        """Answer a page's address with the right token by a cookie and the address without it; return whether it was one."""
        if self._access.token is None or path not in PAGES or scope["method"] not in ("GET", "HEAD"):
            return False
        token, query = split_token(scope["query_string"])
        if token is None or not self._access.is_token(token):
            return False
        cookie = f"{self._access.cookie_name}={self._access.cookie_value}; Path={self._root_path or '/'}; "
        cookie += "HttpOnly; SameSite=Lax"
        location = self._root_path + path + (f"?{query}" if query else "")
        await _respond(send, 303, b"", {"location": location, "set-cookie": cookie})
        return True


async def _reject(send: Send, scope: Scope, status: int, reason: str, headers: Mapping[str, str] = NO_HEADERS) -> None:
    body, content_type = rejection_body(status, reason, dict(scope["headers"]), scope["method"])
    await _respond(send, status, body, {"content-type": content_type, "vary": "accept", **headers})


async def _respond(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    all_headers = {**headers, "content-length": str(len(body))}
    encoded = [(name.encode(), value.encode()) for name, value in all_headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
