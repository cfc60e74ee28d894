"""Files that a client sends to a project, written to a folder of their own as they arrive."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from starlette.requests import Request

from nephros.errors import NephrosError
from nephros.server.limits import RequestLimits, RequestRejected
from nephros.server.multipart import FIELD_NAME, MultipartReader, read_multipart_parts
from nephros.server.project.session import ProjectSession

MASK_FIELD = "mask"
UPLOAD_LIMITS = RequestLimits(
    max_upload_bytes=32 << 30, max_files=200_000, max_parts=200_100, timeout_s=6 * 3600.0, idle_timeout_s=30.0
)
"""A stack has gigabytes; what a project takes, its disk limits as well."""
MIN_FREE_BYTES = 1 << 30
"""Bytes of the disk that stay free: labels need some."""
BLOCK_BYTES = 1 << 20
"""Bytes that are written at once, in a thread."""
MAX_NAME_BYTES = 120


class DiskPart:
    """A file that is written to disk."""

    def __init__(self, field: str, path: Path) -> None:
        self.field, self.path = field, path
        self._file: IO[bytes] = open(path, "xb")  # noqa: SIM115 - it is written piece by piece

    def write(self, data: bytes) -> None:
        """Write the next bytes."""
        self._file.write(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


async def read_upload(request: Request, session: ProjectSession, folder: Path, limits: RequestLimits) -> list[DiskPart]:
    """Write the files of a request to a folder, and return them.

    Raises:
        RequestRejected: as `read_multipart_parts`, or the disk has no room for them.
    """
    free_bytes = shutil.disk_usage(folder).free - MIN_FREE_BYTES
    if int(request.headers.get("content-length", "0") or 0) > free_bytes:
        raise _disk_full()
    n_bytes = n_files = 0

    def reserve(n: int) -> None:
        nonlocal n_bytes
        n_bytes += n
        if n_bytes > free_bytes:
            raise _disk_full()

    def open_part(field: str, name: str) -> DiskPart:
        nonlocal n_files
        n_files += 1
        (folder / str(n_files)).mkdir()
        return DiskPart(field, folder / str(n_files) / safe_file_name(name))

    reader = MultipartReader(request, limits, (FIELD_NAME, MASK_FIELD), open_part, reserve)
    block = bytearray()

    async def feed(chunk: bytes) -> RequestRejected | None:
        block.extend(chunk)
        if chunk and len(block) < BLOCK_BYTES:
            return None
        data = bytes(block)
        block.clear()
        return await session.write(_write, reader, data)

    try:
        await read_multipart_parts(request, limits, reader, feed)
    finally:
        await session.write(reader.close)
    return reader.parts


def _write(reader: MultipartReader[DiskPart], data: bytes) -> RequestRejected | None:
    try:
        return reader.feed(data)
    except OSError as error:
        return RequestRejected(507, f"The upload can't be written ({error.strerror}): free some space on the server.")


def safe_file_name(name: str) -> str:
    """Return a client's file name as a name for a file of the server: its last part, of letters, digits and a few signs."""
    base = re.split(r"[/\\]", name)[-1]
    text = re.sub(r"[^\w.()+ -]", "_", base).strip(". ")
    while len(text.encode()) > MAX_NAME_BYTES:
        text = text[1:]
    return text or "file"


@contextlib.contextmanager
def hide_folder(folder: Path) -> Iterator[None]:
    """Within the block, errors name files of an upload as the client did, without the server's folder."""
    try:
        yield
    except NephrosError as error:
        text = str(error)
        if (shorter := without_folder(text, folder)) == text:
            raise
        raise NephrosError(shorter) from error


def without_folder(text: str, folder: Path) -> str:
    """Return a text that names files of an upload as the client did."""
    return re.sub(re.escape(str(folder)) + r"[/\\][0-9]+[/\\]", "", text)


def _disk_full() -> RequestRejected:
    return RequestRejected(507, "The disk of the server has no room for this upload: free some space there.")
