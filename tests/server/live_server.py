"""A real `nephros serve` in its own process, and an HTTP client for it."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

File = tuple[str, bytes]
"""Name and content."""
LAUNCH_CODE = "import sys; from nephros.cli import main; "


@dataclass
class LiveServer:
    """A server's port and process."""

    port: int
    process: subprocess.Popen[str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> tuple[int, dict[str, str], bytes]:
        """Return the status, headers (lower-case names) and body of a response."""
        connection = http.client.HTTPConnection(address, self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()

    def json(self, method: str, path: str, files: Sequence[File] | None = None) -> tuple[int, Any]:
        """Return the status and the decoded body of a JSON response."""
        body, content_type = multipart_body(files) if files is not None else (b"", "")
        status, _, text = self.request(method, path, body, {"Content-Type": content_type} if content_type else {})
        return status, json.loads(text)

    def predict(self, files: Sequence[File], query: str = "") -> list[dict[str, Any]]:
        """Return the results of `/predict`, whose status must be 200."""
        status, response = self.json("POST", f"/predict{query}", files)
        assert status == 200, response
        assert set(response) == {"version", "results"}
        return list(response["results"])


def multipart_body(files: Sequence[File], field: str = "files") -> tuple[bytes, str]:
    """Return a multipart body and its content type."""
    return form_body([(field, file) for file in files])


def form_body(fields: Sequence[tuple[str, File]]) -> tuple[bytes, str]:
    """Return a multipart body of files in the named fields, and its content type."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode(
            "utf-8", "surrogateescape"
        )
        + data
        + b"\r\n"
        for field, (name, data) in fields
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def encode_image(image: NDArray[Any], image_format: str = "PNG", **options: Any) -> bytes:
    """Return the bytes of an image file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format=image_format, **options)
    return file.getvalue()


def encode_npz(**arrays: Any) -> bytes:
    """Return the bytes of an npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@contextlib.contextmanager
def run_server(args: Sequence[object], prelude: str = "", **environment: str) -> Iterator[LiveServer]:
    """Run `nephros serve` on a free port, and interrupt it at the end; its process first runs `prelude`, Python code."""
    command = [sys.executable, "-u", "-c", f"{prelude}\n{LAUNCH_CODE}main(['serve', '--port', '0', *sys.argv[1:]])"]
    process = subprocess.Popen(
        [*command, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"NEPHROS_DATA": "", "HOME": "/nonexistent"} | environment,
    )
    assert process.stdout is not None
    try:
        output = ""
        while not (match := re.search(r"http://\S+:(\d+) ", line := process.stdout.readline())):
            output += line
            assert line, f"the server ended: {output}"
        yield LiveServer(int(match[1]), process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(300)  # a limit that no machine reaches, unless the server hangs
        finally:
            process.kill()
            process.stdout.close()


def list_tree(root: Path) -> set[str]:
    """Return all files and folders below a folder."""
    return {str(path) for path in root.rglob("*")}
