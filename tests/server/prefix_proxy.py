"""A reverse proxy that offers a server below a path prefix, as nginx or a notebook server does."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextlib.contextmanager
def run_proxy(port: int, prefix: str, *, strips: bool = True, keeps_host: bool = False) -> Iterator[str]:
    """Yield the address of a proxy before the server at `port`; whatever is not below `prefix` is status 418.

    Args:
        port: the server's.
        prefix: such as ``/nephros``.
        strips: take the prefix off the path.
        keeps_host: pass the client's Host header on instead of the server's.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not (self.path + "/").startswith((prefix + "/", prefix + "?")):
                self.send_response(418)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path = self.path.removeprefix(prefix) if strips else self.path
            headers = {name: value for name, value in self.headers.items() if keeps_host or name.lower() != "host"}
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as upstream:
                upstream.request(self.command, path if path.startswith("/") else f"/{path}", body, headers)
                response = upstream.getresponse()
                is_stream = response.getheader("Content-Type", "").startswith("text/event-stream")
                content = b"" if is_stream else response.read()
                self.send_response(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "date"):
                        self.send_header(name, value)
                self.send_header(*(("Connection", "close") if is_stream else ("Content-Length", str(len(content)))))
                self.end_headers()
                self.wfile.write(content)
                if is_stream:
                    with contextlib.suppress(OSError):  # the client or the server has gone
                        while line := response.readline():
                            self.wfile.write(line)

        do_GET = do_POST = do_PATCH = do_DELETE = _forward

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        server.server_close()
