"""Reads the files of a multipart request into memory as they arrive; nothing is written to disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from nephros.data.input_files import InMemoryFile
from nephros.server.limits import MemoryLease, RequestLimits, RequestRejected

FIELD_NAME = b"files"
MAX_NAME_LENGTH = 255
_DRAIN_FACTOR = 4
"""An upload that is too large is read and discarded up to this multiple of the limit, so that its sender sees the error."""


async def read_multipart_files(request: Request, limits: RequestLimits, lease: MemoryLease) -> list[InMemoryFile]:
    """Return the files of a request.

    Raises:
        RequestRejected: the body is not a multipart form with at least one part named ``files``, is truncated or damaged,
            exceeds a limit, or arrives too slowly.
    """
    content_type, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if content_type != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise RequestRejected(415, "Send the images as multipart/form-data, in a field named files.")
    reader = _MultipartReader(boundary, limits.max_files, limits.max_parts)
    rejection: RequestRejected | None = None
    size = 0
    try:
        async with asyncio.timeout(limits.timeout_s):
            async for chunk in _body_chunks(request, limits.idle_timeout_s):
                size += len(chunk)
                if size > limits.max_upload_bytes * _DRAIN_FACTOR:
                    break
                if rejection is None:
                    rejection = _feed(reader, chunk, size, limits, lease)
                    if rejection is not None:
                        reader.files.clear()
    except TimeoutError:
        raise RequestRejected(408, "The upload was too slow and was cut off: send it again.") from None
    except ClientDisconnect:
        raise RequestRejected(400, "The upload ended before it was complete.") from None
    if rejection is not None:
        raise rejection
    if not reader.complete:
        raise RequestRejected(400, "The upload is truncated or damaged: send it again.")
    if not reader.files:
        raise RequestRejected(400, "The upload contains no files: send them in a field named files.")
    return reader.files


def sanitize_filename(name: bytes) -> str:
    """Return a client's file name as text that is safe to display: one line of limited length. It is never opened.

    Browsers encode a double quote in it as %22 (WHATWG, multipart form data), which is decoded; a line break stays encoded.
    """
    name = name.replace(b"%22", b'"')
    text = "".join(char if char.isprintable() else "?" for char in name.decode("utf-8", "replace"))
    return text if len(text) <= MAX_NAME_LENGTH else text[: MAX_NAME_LENGTH - 6] + "…" + text[-5:]


class _MultipartReader:
    """Collects the parts of a multipart body that are named ``files``."""

    def __init__(self, boundary: bytes, max_files: int, max_parts: int) -> None:
        self.files: list[InMemoryFile] = []
        self.complete = False
        self._max_files, self._max_parts = max_files, max_parts
        self._n_parts = 0
        self._name, self._data = "", bytearray()
        self._is_file_field = False
        self._header_name = self._header_value = self._disposition = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )
        self.write = self._parser.write

    def _on_part_begin(self) -> None:
        self._n_parts += 1
        if self._n_parts > self._max_parts:
            raise RequestRejected(413, f"The upload has more than {self._max_parts:,} parts: send fewer at once.")
        self._disposition, self._data = b"", bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        try:
            _, options = parse_options_header(self._disposition)
        except UnicodeError:
            options = {}
        self._is_file_field = options.get(b"name") == FIELD_NAME
        if self._is_file_field and len(self.files) >= self._max_files:
            raise RequestRejected(413, f"The upload has more than {self._max_files:,} files: send fewer at once.")
        self._name = sanitize_filename(options.get(b"filename", b"")) or f"file {len(self.files) + 1}"

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file_field:
            self._data += data[start:end]

    def _on_part_end(self) -> None:
        if self._is_file_field:
            self.files.append(InMemoryFile(self._name, bytes(self._data)))
        self._data = bytearray()

    def _on_end(self) -> None:
        self.complete = True


def _feed(
    reader: _MultipartReader, chunk: bytes, size: int, limits: RequestLimits, lease: MemoryLease
) -> RequestRejected | None:
    """Parse one more chunk; return why the request must be rejected, if it must."""
    if size > limits.max_upload_bytes:
        limit = f"{limits.max_upload_bytes / 1e6:.0f} MB"
        return RequestRejected(413, f"The upload has more than {limit}: send fewer files at once.")
    try:
        lease.reserve(len(chunk))
        reader.write(chunk)
    except RequestRejected as error:
        return error
    except (MultipartParseError, ValueError):
        return RequestRejected(400, "The upload is not valid multipart/form-data: send it again.")
    return None


async def _body_chunks(request: Request, idle_timeout_s: float) -> AsyncIterator[bytes]:
    stream = request.stream()
    while True:
        async with asyncio.timeout(idle_timeout_s):
            try:
                chunk = await anext(stream)
            except StopAsyncIteration:
                return
        yield chunk
