"""Calls an application without a server, to see what it raises and to control what it waits for."""

from __future__ import annotations

import asyncio
from typing import Any


def call_app(app: Any, method: str, path: str, body: bytes = b"", *, stall_upload: bool = False) -> tuple[int, str]:
    """Return the status and text of a response to a multipart body, whose second half never arrives with `stall_upload`."""
    path, _, query = path.partition("?")
    boundary = body[2:].partition(b"\r\n")[0].decode("latin-1")
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"host", b"localhost:1"), (b"content-type", f"multipart/form-data; boundary={boundary}".encode())],
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
    }
    parts = [body[: len(body) // 2], body[len(body) // 2 :]]
    status, text = 0, b""

    async def receive() -> dict[str, Any]:
        if parts and not (stall_upload and len(parts) == 1):
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
        await asyncio.sleep(30)
        raise AssertionError("the application waited for a stalled upload")

    async def send(message: Any) -> None:
        nonlocal status, text
        status = message.get("status", status)
        text += message.get("body", b"")

    asyncio.run(app(scope, receive, send))
    return status, text.decode()
