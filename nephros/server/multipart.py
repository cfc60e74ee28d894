"""A request's multipart body becomes files in memory while it streams in; nothing is written to disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from nephros.data.in_memory_file import Held
from nephros.server.limits import Limits, Refused, Share

FIELD = b"files"
LONGEST_NAME = 255
_POLITE = 4
"""An upload that is too large is read on, and forgotten, to so many times the limit, so that its sender hears why."""


class _Parts:
    """Collects the parts of a multipart body that are called ``files``."""

    def __init__(self, boundary: bytes, most: int) -> None:
        self.files: list[Held] = []
        self.whole = False
        self._most = most
        self._name, self._data = "", bytearray()
        self._wanted = False
        self._field = self._value = self._disposition = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_field,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )
        self.write = self._parser.write

    def _begin(self) -> None:
        self._disposition, self._data = b"", bytearray()

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _on_headers(self) -> None:
        try:
            _, options = parse_options_header(self._disposition)
        except UnicodeError:
            options = {}
        self._wanted = options.get(b"name") == FIELD
        if self._wanted and len(self.files) >= self._most:
            raise Refused(413, f"The upload has more than {self._most:,} files: send fewer at once.")
        self._name = shown_name(options.get(b"filename", b"")) or f"file {len(self.files) + 1}"

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._wanted:
            self._data += data[start:end]

    def _end(self) -> None:
        if self._wanted:
            self.files.append(Held(self._name, bytes(self._data)))
        self._data = bytearray()

    def _finish(self) -> None:
        self.whole = True


def shown_name(name: bytes) -> str:
    """Return a client's name for a file as text that is safe to show: one line, and not too long. It is never opened.

    Browsers write a double quote in it as %22, which is undone (WHATWG, multipart form data); a line break stays so.
    """
    name = name.replace(b"%22", b'"')
    text = "".join(letter if letter.isprintable() else "?" for letter in name.decode("utf-8", "replace"))
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 6] + "…" + text[-5:]


async def read_files(request: Request, limits: Limits, share: Share) -> list[Held]:
    """Return the files of a request.

    Refused when the body is no multipart form with at least one part called ``files``, is cut short or damaged, goes over
    a limit, or comes too slowly.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise Refused(415, "Send the pictures as multipart/form-data, in a field called files.")
    parts = _Parts(boundary, limits.files)
    refusal: Refused | None = None
    size = 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in _chunks(request, limits.idle_seconds):
                size += len(chunk)
                if size > limits.upload_bytes * _POLITE:
                    break
                if refusal is None:
                    refusal = _taken(parts, chunk, size, limits, share)
                    if refusal is not None:
                        parts.files.clear()
    except TimeoutError:
        raise Refused(408, "The upload came too slowly and was cut off: send it again.") from None
    except ClientDisconnect:
        raise Refused(400, "The upload ended before it was whole.") from None
    if refusal is not None:
        raise refusal
    if not parts.whole:
        raise Refused(400, "The upload is cut short or damaged: send it again.")
    if not parts.files:
        raise Refused(400, "The upload has no files: send them in a field called files.")
    return parts.files


def _taken(parts: _Parts, chunk: bytes, size: int, limits: Limits, share: Share) -> Refused | None:
    """Give a chunk to the parser and return why the request is refused, if it is."""
    if size > limits.upload_bytes:
        return Refused(413, f"The upload has more than {limits.upload_bytes / 1e6:.0f} MB: send fewer files at once.")
    try:
        share.take(len(chunk))
        parts.write(chunk)
    except Refused as error:
        return error
    except (MultipartParseError, ValueError):
        return Refused(400, "The upload is no well-formed multipart/form-data: send it again.")
    return None


async def _chunks(request: Request, idle: float) -> AsyncIterator[bytes]:
    stream = request.stream()
    while True:
        async with asyncio.timeout(idle):
            try:
                chunk = await anext(stream)
            except StopAsyncIteration:
                return
        yield chunk
