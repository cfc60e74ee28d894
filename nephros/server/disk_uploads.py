"""Files that a client sends, written to a folder of their own as they arrive."""

from __future__ import annotations

import re
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import IO, Any

from starlette.requests import Request

from nephros.server.limits import RequestLimits, RequestRejected
from nephros.server.multipart import MultipartReader, read_multipart_parts

MIN_FREE_BYTES = 1 << 30
"""Bytes of the disk that stay free: labels of a project need some."""
BLOCK_BYTES = 1 << 20
"""Bytes that are written at once, in a thread."""
MAX_NAME_BYTES = 120


class DiskPart:
    """A file that is written to disk."""

    def __init__(self, field: str, path: Path, name: str) -> None:
        self.field, self.path, self.name = field, path, name
        self._file: IO[bytes] = open(path, "xb")  # noqa: SIM115 - it is written piece by piece

    def write(self, data: bytes) -> None:
        """Write the next bytes."""
        self._file.write(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


async def write_upload(
    request: Request,
    folder: Path,
    limits: RequestLimits,
    fields: Sequence[str],
    run: Callable[..., Awaitable[Any]],
    reserve: Callable[[int], None] = lambda _: None,
) -> list[DiskPart]:
    """Write the files of a request to a folder, each into a subfolder, and return them.

    Args:
        request: whose body is read.
        folder: an empty one.
        limits: of the request.
        fields: names of the fields that have files, the required one first.
        run: calls a function with arguments in a thread.
        reserve: is called with the number of bytes before they are taken, and raises RequestRejected without room for them.

    Raises:
        RequestRejected: as `read_multipart_parts`, or the disk has no room for them.
    """
    free_bytes = shutil.disk_usage(folder).free - MIN_FREE_BYTES
    if int(request.headers.get("content-length", "0") or 0) > free_bytes:
        raise _disk_full()
    n_bytes = n_files = 0

    def reserve_on_disk(n: int) -> None:
        nonlocal n_bytes
        n_bytes += n
        if n_bytes > free_bytes:
            raise _disk_full()
        reserve(n)

    def open_part(field: str, name: str) -> DiskPart:
        nonlocal n_files
        n_files += 1
        (folder / str(n_files)).mkdir()
        return DiskPart(field, folder / str(n_files) / safe_file_name(name), name)

    reader = MultipartReader(request, limits, fields, open_part, reserve_on_disk)
    block = bytearray()

    async def feed(chunk: bytes) -> RequestRejected | None:
        block.extend(chunk)
        if chunk and len(block) < BLOCK_BYTES:
            return None
        data = bytes(block)
        block.clear()
        rejection: RequestRejected | None = await run(_write, reader, data)
        return rejection

    try:
        await read_multipart_parts(request, limits, reader, feed)
    finally:
        await run(reader.close)
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


def without_folder(text: str, folder: Path) -> str:
    """Return a text that names files of an upload as the client did."""
    return re.sub(re.escape(str(folder)) + r"[/\\][0-9]+[/\\]", "", text)


def _disk_full() -> RequestRejected:
    return RequestRejected(507, "The disk of the server has no room for this upload: free some space there.")
