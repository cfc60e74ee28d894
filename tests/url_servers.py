"""Servers on this machine for tests: of files in a folder, of error codes, and one that answers as S3 does."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class FolderHandler(SimpleHTTPRequestHandler):
    """Serves files; knows no ranges, as Python's own server doesn't."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class StatusHandler(BaseHTTPRequestHandler):
    """Answers every request with the status that its path begins with; ``stall`` never answers."""

    stopped = threading.Event()

    def do_GET(self) -> None:
        """Answer a request."""
        first = self.path.split("/")[1]
        if first == "stall":
            self.stopped.wait(60)
            return
        self.send_response(int(first))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class S3Handler(BaseHTTPRequestHandler):
    """Answers requests for objects of a bucket as S3 does, with ranges, from a folder of that name."""

    def __init__(self, *args: Any, directory: Path, is_public: bool = True) -> None:
        self._directory, self._is_public = directory, is_public
        super().__init__(*args)

    def do_GET(self) -> None:
        """Send an object, or the XML of an error."""
        path = self._directory / self.path.partition("?")[0].lstrip("/")
        if not self._is_public:
            return self._send(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
        if not path.is_file():
            return self._send(404, b"<Error><Code>NoSuchKey</Code><Message>There is no such key.</Message></Error>")
        data = path.read_bytes()
        first, _, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if not (first or last):
            return self._send(200, data)
        start = int(first) if first else max(0, len(data) - int(last))
        end = min(int(last), len(data) - 1) if first and last else len(data) - 1
        return self._send(206, data[start : end + 1], f"bytes {start}-{end}/{len(data)}")

    def _send(self, status: int, body: bytes, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serve(handler: Any) -> Iterator[str]:
    """Yield the URL of a server with this handler."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        StatusHandler.stopped.set()
        server.shutdown()
        server.server_close()
        StatusHandler.stopped.clear()


def serve_folder(folder: Path) -> contextlib.AbstractContextManager[str]:
    """Return a context that serves a folder by HTTP."""
    return serve(partial(FolderHandler, directory=str(folder)))


def serve_s3(folder: Path, *, is_public: bool = True) -> contextlib.AbstractContextManager[str]:
    """Return a context that serves the folders in a folder as buckets of S3."""
    return serve(partial(S3Handler, directory=folder, is_public=is_public))
