"""Clients that send hostile uploads again and again, until the input of the command ends.

    python -m tests.server.hostile_clients PORT [UPLOAD ...]

It prints a line of JSON once every upload is built and being sent, and another at the end: upload -> its responses, each a status
and the number of rows with a prediction and with an error.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
from typing import Any

from tests.server.hostile_files import UPLOADS
from tests.server.live_server import multipart_body

Response = tuple[int, int, int]


def main(port: int, names: list[str]) -> None:
    """Send these uploads at once, or all, each from a client of its own."""
    if hasattr(os, "nice"):
        os.nice(15)  # clients on other machines would take nothing of this one's processor
    bodies = {name: multipart_body(UPLOADS[name]()) for name in names or UPLOADS}
    stopped = threading.Event()
    responses: dict[str, list[Response]] = {name: [] for name in bodies}

    def send(name: str) -> None:
        while not stopped.is_set():
            body, content_type = bodies[name]
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            try:
                connection.request("POST", "/predict", body, {"Content-Type": content_type})
                response = connection.getresponse()
                responses[name].append(_summary(response.status, json.loads(response.read())))
            except OSError:
                responses[name].append((0, 0, 0))
            finally:
                connection.close()

    for name in bodies:
        threading.Thread(target=send, args=(name,), daemon=True).start()
    print(json.dumps({name: len(body) for name, (body, _) in bodies.items()}), flush=True)
    sys.stdin.read()
    stopped.set()
    print(json.dumps(responses), flush=True)


def _summary(status: int, response: dict[str, Any]) -> Response:
    rows = response.get("results", [])
    n_errors = sum(row["error"] is not None for row in rows)
    return status, len(rows) - n_errors, n_errors


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
