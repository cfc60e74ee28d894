"""Reads the JSON body of a request into a model, within limits of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from nephros.reading import MalformedContent, parse_json
from nephros.server.limits import RequestRejected

M = TypeVar("M", bound=BaseModel)
MAX_JSON_BYTES = 1 << 20
"""Size of a body: five thousand labels take a fifth of it."""
UPLOAD_TIMEOUT_S, IDLE_TIMEOUT_S = 30.0, 10.0
"""Seconds for the whole body, and for the next bytes of it."""


async def read_json(request: Request, model: type[M]) -> M:
    """Return the body of a request.

    Raises:
        RequestRejected: it is not JSON, repeats a key, is too large or arrives too slowly, or does not fit the model.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestRejected(415, "Send the body as application/json.")
    body = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_TIMEOUT_S):
            async for chunk in body_chunks(request, IDLE_TIMEOUT_S):
                body += chunk
                if len(body) > MAX_JSON_BYTES:
                    raise RequestRejected(413, f"The body has more than {MAX_JSON_BYTES:,} bytes: send less at once.")
    except TimeoutError:
        raise RequestRejected(408, "The body was too slow and was cut off: send it again.") from None
    except ClientDisconnect:
        raise RequestRejected(400, "The body ended before it was complete.") from None
    try:
        values = parse_json(bytes(body))
    except MalformedContent as error:
        raise RequestRejected(400, f"The body is not plain JSON: {error}.") from None
    except (ValueError, RecursionError):
        raise RequestRejected(400, "The body is not JSON.") from None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part)[:80] for part in problem["loc"]) or "body"
        raise RequestRejected(422, f"Invalid value of {_printable(place)}: {problem['msg']}.") from None


async def body_chunks(request: Request, idle_timeout_s: float) -> AsyncIterator[bytes]:
    """Yield the bytes of a body as they arrive; TimeoutError where the next ones take too long."""
    stream = request.stream()
    while True:
        async with asyncio.timeout(idle_timeout_s):
            try:
                chunk = await anext(stream)
            except StopAsyncIteration:
                return
        yield chunk


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
