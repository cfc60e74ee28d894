"""A client of the routes of a live server's project."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.server.live_server import File, LiveServer, multipart_body

TOKEN_HEADER = "X-Nephros-Token"


class ProjectClient:
    """Calls the routes of a project with its token."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.token: str = self.get("/project")["token"]

    def get(self, path: str) -> Any:
        """Return the JSON response of a route, whose status must be 200."""
        status, value = self.server.json("GET", path)
        assert status == 200, value
        return value

    def send(
        self,
        method: str,
        path: str,
        value: Any = None,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Return the status and the JSON response of a change; `body` replaces the JSON of `value`."""
        content = json.dumps(value).encode() if body is None else body
        all_headers = {TOKEN_HEADER: self.token, "Content-Type": "application/json", **(headers or {})}
        status, _, text = self.server.request(method, path, content, all_headers)
        return status, json.loads(text)

    def change(self, method: str, path: str, value: Any = None) -> Any:
        """Return the JSON response of a change, whose status must be 200."""
        status, response = self.send(method, path, value)
        assert status == 200, response
        return response

    def label(self, annotator: str, labels: dict[int, int | None]) -> Any:
        """Set labels of cells."""
        changes = [{"cell": cell, "class": class_id} for cell, class_id in labels.items()]
        return self.change("POST", "/project/labels", {"annotator": annotator, "changes": changes})

    def wait_for_model(self) -> None:
        """Return once predictions, orders and filters follow all labels."""
        with self.events() as events:
            while self.get("/project")["model"]["state"] not in ("ready", "few labels"):
                next(events)

    def upload(self, path: str, files: list[File], mask: File | None = None) -> tuple[int, Any]:
        """Send files, and perhaps a mask."""
        body, content_type = multipart_body(files)
        if mask is not None:
            more, _ = multipart_body([mask], "mask")
            boundary = content_type.partition("boundary=")[2].encode()
            body = body.removesuffix(b"--" + boundary + b"--\r\n") + more.replace(more[2:34], boundary)
        return self.send("POST", path, body=body, headers={"Content-Type": content_type})

    def cells(self, path: str) -> list[int]:
        """Return the cells that a route lists."""
        status, _, body = self.server.request("GET", path)
        assert status == 200, body
        return [int(cell) for cell in np.frombuffer(body, "<u4")]

    @contextlib.contextmanager
    def events(self) -> Iterator[Iterator[tuple[str, Any]]]:
        """Listen to the events, each a name and its data."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/project/events")
            response = connection.getresponse()
            assert response.getheader("content-type", "").startswith("text/event-stream")
            yield _parse_events(response)


def _parse_events(response: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    name = ""
    while line := response.readline():
        key, _, value = line.decode().strip().partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)
