"""Messages between a process and its workers: plain JSON values, bytes and arrays. Nothing is pickled, so none can hold code."""

from __future__ import annotations

import json
import struct
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nephros import errors
from nephros.errors import NephrosError

MAX_MESSAGE_BYTES = 4 << 30
_LENGTHS = struct.Struct("<QQ")
"""Length of the JSON text, and of all bytes after it."""


def write_message(file: IO[bytes], value: Any) -> None:
    """Write one value: None, a number, text, bytes, an array of numbers, or a list or a dict of such values."""
    content = _Content()
    text = json.dumps(_encode(value, content)).encode()
    file.write(_LENGTHS.pack(len(text), content.length) + text)
    for part in content.parts:
        file.write(part)
    file.flush()


class _Content:
    """The bytes that follow the JSON text of a message."""

    def __init__(self) -> None:
        self.parts: list[bytes | memoryview] = []
        self.length = 0

    def append(self, part: bytes | memoryview) -> tuple[int, int]:
        """Add bytes; return their place and length."""
        self.parts.append(part)
        self.length += len(part)
        return self.length - len(part), len(part)


def read_message(file: IO[bytes]) -> Any:
    """Return the next value, with lists in place of tuples; EOFError where there is none, ValueError where it is damaged."""
    text_length, length = _LENGTHS.unpack(_read_exactly(file, _LENGTHS.size))
    if text_length + length > MAX_MESSAGE_BYTES:
        raise ValueError("the message is too long")
    text = _read_exactly(file, text_length)
    return _decode(json.loads(bytes(text)), memoryview(_read_exactly(file, length)))


def _read_exactly(file: IO[bytes], size: int) -> bytearray:
    data = bytearray(size)
    view, position = memoryview(data), 0
    while position < size:
        n_read = file.readinto(view[position:])  # type: ignore[attr-defined]
        if not n_read:
            raise EOFError("the other process has ended")
        position += n_read
    return data


def _encode(value: Any, following: _Content) -> Any:
    """Return a value as JSON; bytes and arrays follow it and are named by their place and length there."""
    if isinstance(value, bytes):
        return {"bytes": following.append(value)}
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value)
        place = following.append(content.reshape(-1).view(np.uint8).data) if content.size else (0, 0)
        return {"array": place, "dtype": content.dtype.str, "shape": list(value.shape)}
    if isinstance(value, list | tuple):
        return [_encode(item, following) for item in value]
    if isinstance(value, dict):
        return {"dict": {key: _encode(item, following) for key, item in value.items()}}
    return value


def _decode(value: Any, content: memoryview) -> Any:
    if isinstance(value, list):
        return [_decode(item, content) for item in value]
    if not isinstance(value, dict):
        return value
    if "dict" in value:
        return {key: _decode(item, content) for key, item in value["dict"].items()}
    if "bytes" in value:
        start, length = value["bytes"]
        return bytes(content[start : start + length])
    return _decode_array(value, content)


def _decode_array(value: dict[str, Any], content: memoryview) -> NDArray[Any]:
    start, length = value["array"]
    dtype = np.dtype(value["dtype"])
    if dtype.kind not in "biuf":
        raise ValueError(f"an array of {dtype}")
    array = np.frombuffer(content[start : start + length], dtype).reshape(value["shape"])
    return array if 2 * length > len(content) else array.copy()  # a small array keeps no large message in memory


def error_to_message(error: BaseException) -> dict[str, Any]:
    """Return an error as a value that can be sent."""
    known = next((kind.__name__ for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind), "")
    state = {key: item if isinstance(item, str | int | float) else str(item) for key, item in vars(error).items()}
    return {"kind": known, "name": type(error).__name__, "message": str(error), "state": state if known else {}}


def error_from_message(message: dict[str, Any]) -> Exception:
    """Return the NephrosError in a message of `error_to_message`; any other error as a RuntimeError, MemoryError excepted."""
    kind = getattr(errors, message["kind"], None)
    if isinstance(kind, type) and issubclass(kind, NephrosError):
        error = kind.__new__(kind)
        error.args = (message["message"],)
        error.__dict__.update(message["state"])
        return error
    if message["name"] == "MemoryError":
        return MemoryError(message["message"])
    return RuntimeError(f"{message['name']}: {message['message']}")
