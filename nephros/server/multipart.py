"""Reads the files of a multipart request as they arrive: into memory or, for a project, into files that the server names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from nephros.data.input_files import InMemoryFile
from nephros.server.json_requests import body_chunks
from nephros.server.limits import MemoryLease, RequestLimits, RequestRejected

FIELD_NAME = "files"
MAX_NAME_LENGTH = 255
_DRAIN_FACTOR = 4
"""An upload that is too large is read and discarded up to this multiple of the limit, so that its sender sees the error."""


class Part(Protocol):
    """A file of a request, while it arrives."""

    field: str
    """Name of the form's field."""

    def write(self, data: bytes) -> None:
        """Take the next bytes."""

    def close(self) -> None:
        """Take note that no more bytes come."""


P = TypeVar("P", bound=Part)


class MemoryPart:
    """A file that is kept in memory."""

    def __init__(self, field: str, name: str) -> None:
        self.field, self.name = field, name
        self._data = bytearray()
        self.file: InMemoryFile

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._data += data

    def close(self) -> None:
        """Make the file of the bytes."""
        self.file = InMemoryFile(self.name, bytes(self._data))
        self._data = bytearray()


async def read_multipart_files(request: Request, limits: RequestLimits, lease: MemoryLease) -> list[InMemoryFile]:
    """Return the files of a request's field ``files``.

    Raises:
        RequestRejected: as `read_multipart_parts`.
    """
    parts = await read_memory_parts(request, limits, lease, (FIELD_NAME,))
    return [part.file for part in parts]


async def read_memory_parts(
    request: Request, limits: RequestLimits, lease: MemoryLease, fields: Sequence[str]
) -> list[MemoryPart]:
    """Return the files of some fields of a request, in memory of the lease.

    Raises:
        RequestRejected: as `read_multipart_parts`.
    """
    reader = MultipartReader(request, limits, fields, MemoryPart, lease.reserve)

    async def feed(chunk: bytes) -> RequestRejected | None:
        return reader.feed(chunk)

    await read_multipart_parts(request, limits, reader, feed)
    return reader.parts


async def read_multipart_parts(
    request: Request,
    limits: RequestLimits,
    reader: MultipartReader[P],
    feed: Callable[[bytes], Awaitable[RequestRejected | None]],
) -> None:
    """Read the body of a request into the parts of a reader; `feed` passes chunks to its `feed`, and an empty one comes last.

    Raises:
        RequestRejected: the body is not a multipart form with at least one file in the required field, is truncated or damaged,
            exceeds a limit, or arrives too slowly.
    """
    rejection: RequestRejected | None = None
    size = 0
    try:
        async with asyncio.timeout(limits.timeout_s):
            async for chunk in body_chunks(request, limits.idle_timeout_s):
                size += len(chunk)
                if size > limits.max_upload_bytes * _DRAIN_FACTOR:
                    rejection = rejection or _too_large(limits)
                    break
                if rejection is None and (rejection := await feed(chunk)) is not None:
                    reader.parts.clear()
            rejection = rejection or await feed(b"")
    except TimeoutError:
        raise RequestRejected(408, "The upload was too slow and was cut off: send it again.") from None
    except ClientDisconnect:
        raise RequestRejected(400, "The upload ended before it was complete.") from None
    if rejection is not None:
        raise rejection
    if not reader.complete:
        raise RequestRejected(400, "The upload is truncated or damaged: send it again.")
    if not any(part.field == reader.required_field for part in reader.parts):
        raise RequestRejected(400, f"The upload contains no files: send them in a field named {reader.required_field}.")


def _too_large(limits: RequestLimits) -> RequestRejected:
    limit = f"{limits.max_upload_bytes / 1e6:,.0f} MB"
    return RequestRejected(413, f"The upload has more than {limit}, the limit per request: send less at once.")


def sanitize_filename(name: bytes) -> str:
    """Return a client's file name as text that is safe to display: one line of limited length. It is never opened.

    Browsers encode a double quote in it as %22 (WHATWG, multipart form data), which is decoded; a line break stays encoded.
    """
    name = name.replace(b"%22", b'"')
    text = "".join(char if char.isprintable() else "?" for char in name.decode("utf-8", "replace"))
    return text if len(text) <= MAX_NAME_LENGTH else text[: MAX_NAME_LENGTH - 6] + "…" + text[-5:]


class MultipartReader(Generic[P]):
    """Collects the files of some fields of a multipart body."""

    def __init__(
        self,
        request: Request,
        limits: RequestLimits,
        fields: Sequence[str],
        open_part: Callable[[str, str], P],
        reserve: Callable[[int], None],
    ) -> None:
        """Take the limits of the request.

        Args:
            request: whose header says where the parts end.
            limits: of the request.
            fields: names of the fields that have files, the required one first; others are ignored.
            open_part: returns where the bytes of a file go, from the name of its field and its own.
            reserve: is called with the number of bytes before they are taken, and raises RequestRejected without room for them.

        Raises:
            RequestRejected: the body is not multipart/form-data.
        """
        content_type, options = parse_options_header(request.headers.get("content-type", ""))
        boundary = options.get(b"boundary", b"")
        if content_type != b"multipart/form-data" or not 0 < len(boundary) <= 200:
            raise RequestRejected(415, f"Send the files as multipart/form-data, in a field named {fields[0]}.")
        self.parts: list[P] = []
        self.complete, self.required_field = False, fields[0]
        self._limits, self._fields, self._open_part, self._reserve = limits, fields, open_part, reserve
        self._n_parts = self._size = 0
        self._current: P | None = None
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

    def feed(self, chunk: bytes) -> RequestRejected | None:
        """Parse one more chunk; return why the request must be rejected, if it must."""
        self._size += len(chunk)
        if self._size > self._limits.max_upload_bytes:
            return _too_large(self._limits)
        try:
            self._reserve(len(chunk))
            self._parser.write(chunk)
        except RequestRejected as error:
            return error
        except (MultipartParseError, ValueError):
            return RequestRejected(400, "The upload is not valid multipart/form-data: send it again.")
        return None

    def close(self) -> None:
        """Close a part that is not complete."""
        if self._current is not None:
            self._current.close()
            self._current = None

    def _on_part_begin(self) -> None:
        self._n_parts += 1
        if self._n_parts > self._limits.max_parts:
            raise RequestRejected(
                413, f"The upload has more than {self._limits.max_parts:,} parts: send fewer at once."
            )
        self._disposition, self._current = b"", None

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
        field = options.get(b"name", b"").decode("utf-8", "replace")
        if field not in self._fields:
            return
        if len(self.parts) >= self._limits.max_files:
            raise RequestRejected(
                413, f"The upload has more than {self._limits.max_files:,} files: send fewer at once."
            )
        name = sanitize_filename(options.get(b"filename", b"")) or f"file {len(self.parts) + 1}"
        self._current = self._open_part(field, name)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current is not None:
            self._current.write(data[start:end])

    def _on_part_end(self) -> None:
        if self._current is not None:
            self._current.close()
            self.parts.append(self._current)
            self._current = None

    def _on_end(self) -> None:
        self.complete = True
