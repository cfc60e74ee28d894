"""What a request that is not let in gets: a page for people, and JSON for programs."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from nephros.server import openapi
from nephros.server.schemas import ErrorResponse

JSON, HTML = "application/json", "text/html; charset=utf-8"
TITLES = {401: "This address needs a token", 403: "This request is not allowed"}
"""Status -> heading of the page."""


def rejection_body(status: int, message: str, headers: Mapping[bytes, bytes], method: str) -> tuple[bytes, str]:
    """Return the body of a response, and its content type: a page if a browser opens one, else JSON.

    Args:
        status: of the response.
        message: one sentence.
        headers: of the request.
        method: of the request, such as ``GET``.
    """
    if method in ("GET", "HEAD") and prefers_html(headers.get(b"accept", b"")):
        return _page(status, message), HTML
    return ErrorResponse(error=message).model_dump_json().encode(), JSON


def prefers_html(accept: bytes) -> bool:
    """Return whether an Accept header names text/html, and no JSON before it: as browsers do that open a page."""
    qualities = dict(map(_media_type, accept.decode("latin-1").lower().split(",")))
    return qualities.get("text/html", 0.0) > qualities.get("application/json", 0.0)


def _media_type(part: str) -> tuple[str, float]:
    name, *parameters = (text.strip() for text in part.split(";"))
    quality = next((value for key, _, value in (text.partition("=") for text in parameters) if key.strip() == "q"), "1")
    try:
        return name, float(quality)
    except ValueError:
        return name, 0.0


@functools.lru_cache(maxsize=16)
def _page(status: int, message: str) -> bytes:
    title = TITLES.get(status, "The server can't respond now")
    return openapi.render_page("rejected.html", "", status=status, title=title, message=message).encode()
