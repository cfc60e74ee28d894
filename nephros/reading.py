"""Reading files from outside: limits of size, strict JSON, values of the expected types, and one kind of error.

A reader puts all that may fail into one `file_errors` block, so that a damaged, foreign or forged file ends in one sentence,
whatever a parser raises:

    with file_errors(path, "train again with another `out`"):
        info = decode(RunInfo, parse_json(read_text(path, MAX_JSON_BYTES)))
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import re
import stat
import types
import typing
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

from nephros.errors import FileError, InvalidArgument, NephrosError

if typing.TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_CSV_BYTES = 1 << 28
MAX_JSON_BYTES = 1 << 25
"""Larger files are refused before they are parsed: parsed values take many times the space of their text."""
MAX_INTEGER = 2**63
_SURROGATES = re.compile("[\ud800-\udc7f\udd00-\udfff]")
"""Halves of surrogate pairs, without those by which Python writes the bytes of file names that are not UTF-8."""


class MalformedContent(ValueError):
    """A file's content can't be used; the message is a clause, such as ``'seed' is "x", but it must be a whole number``."""


@contextlib.contextmanager
def file_errors(path: str | Path, advice: str, *, name: str = "") -> Iterator[None]:
    """Turn whatever the block raises into a FileError: "PATH can't be read (REASON): ADVICE."

    `name` stands in place of the path where that needs a noun before it. A NephrosError passes, except an InvalidArgument that
    names no file: its parameter is one of the file's values.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, NephrosError) and not (isinstance(error, InvalidArgument) and not error.source):
            raise
        raise FileError(path, f"{name or path} can't be read ({describe_failure(error)}): {advice}.") from error


def describe_failure(error: Exception) -> str:
    """Return why a file can't be read, as a clause; what a parser says of itself tells a user nothing and is left out."""
    if isinstance(error, MalformedContent):
        return str(error)
    if isinstance(error, InvalidArgument):
        return _not_allowed(error.parameter, error.value, error.expected)
    if isinstance(error, FileNotFoundError):
        return "it does not exist"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON, see line {error.lineno}"
    return "it is damaged or of another kind"


def check_is_file(path: Path) -> None:
    """Raise MalformedContent for a device or a pipe, from which reading may never end; OSError where there is nothing."""
    if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
        raise MalformedContent("it is not a regular file")


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file; MalformedContent for a device, a pipe, or a file of more than `max_bytes`."""
    check_is_file(path)
    with open(path, "rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise MalformedContent(f"it is larger than {max_bytes:,} bytes")
    return content


def read_text(path: Path, max_bytes: int) -> str:
    """Return the text of a UTF-8 file, without its byte-order mark; raises as `read_bytes` does, and UnicodeDecodeError."""
    return read_bytes(path, max_bytes).decode("utf-8-sig")


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text; MalformedContent for NaN, infinity and repeated keys, ValueError for other text."""
    return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_to_dict)


def _refuse_constant(constant: str) -> NoReturn:
    raise MalformedContent(f"it holds {constant}, which is not a number")


def _to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise MalformedContent(f"'{shorten(next(key for key in keys if keys.count(key) > 1))}' appears twice")
    return values


def read_arrays(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz file by name; MalformedContent unless they are finite numbers of these shapes.

    Their sizes are compared before anything is unpacked.
    """
    import numpy as np

    check_is_file(path)
    with zipfile.ZipFile(path) as archive:
        for name, shape in shapes.items():
            if archive.getinfo(f"{name}.npy").file_size > math.prod(shape) * 8 + 4096:
                raise MalformedContent(f"'{name}' is larger than {shape}")
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in shapes}
    for name, shape in shapes.items():
        if arrays[name].shape != shape or arrays[name].dtype.kind not in "fiu":
            raise MalformedContent(
                f"'{name}' is {arrays[name].dtype} {arrays[name].shape}, but it must be numbers {shape}"
            )
        if not np.isfinite(arrays[name]).all():
            raise MalformedContent(f"'{name}' holds NaN or infinity")
    return arrays


T = typing.TypeVar("T")


def decode(expected: type[T], value: Any, name: str = "") -> T:
    """Return a parsed value as `expected`: a dataclass, a TypedDict, a container, a Literal or a plain type.

    Dictionaries become dataclasses, lists become tuples and whole numbers become floats where the annotations say so. Numbers
    must be finite and text must be Unicode, also where the annotation is Any. `name` is the value's own, for messages.

    Raises:
        MalformedContent: a value is of another type, or a key is missing or unknown. A TypedDict may have unknown keys.
    """
    return typing.cast(T, _decode(expected, value, name))


def _decode(expected: Any, value: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if expected is Any:
        return _check_numbers(value, name)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(arguments, value, name)
    if origin is Literal:
        if not any(value == option and type(value) is type(option) for option in arguments):
            raise _wrong(name, value, f"one of {', '.join(map(str, arguments))}")
        return value
    if dataclasses.is_dataclass(expected):
        return _decode_dataclass(expected, value, name)
    if typing.is_typeddict(expected):
        return _decode_typed_dict(expected, value, name)
    if origin in (list, tuple):
        is_fixed = origin is tuple and arguments[-1] is not Ellipsis
        if not isinstance(value, list | tuple) or (is_fixed and len(value) != len(arguments)):
            raise _wrong(name, value, f"a list of {len(arguments)}" if is_fixed else "a list")
        return origin(_decode(arguments[0], item, f"{name}[{i}]") for i, item in enumerate(value))
    if (origin or expected) is dict:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise _wrong(name, value, "a mapping")
        return {key: _decode((arguments or (str, Any))[1], item, _join(name, key)) for key, item in value.items()}
    return _decode_plain(expected, value, name)


def _decode_union(options: tuple[Any, ...], value: Any, name: str) -> Any:
    failures = []
    for option in options:
        try:
            return _decode(option, value, name)
        except MalformedContent as error:
            failures.append(error)
    raise next(
        (error for option, error in zip(options, failures, strict=True) if option is not type(None)), failures[0]
    )


def _decode_dataclass(expected: Any, value: Any, name: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(expected)}
    values = _as_mapping(value, name)
    hints = _type_hints(expected)
    if unknown := sorted(set(values) - set(fields)):
        raise MalformedContent(f"'{shorten(_join(name, unknown[0]))}' is unknown to this version of nephros")
    for key, field in fields.items():
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if key not in values and not has_default:
            raise MalformedContent(f"'{_join(name, key)}' is missing")
    return expected(**{key: _decode(hints[key], item, _join(name, key)) for key, item in values.items()})


def _decode_typed_dict(expected: Any, value: Any, name: str) -> dict[str, Any]:
    values = dict(_as_mapping(value, name))
    for key, hint in _type_hints(expected).items():
        is_optional = typing.get_origin(hint) is typing.NotRequired
        if key in values:
            values[key] = _decode(typing.get_args(hint)[0] if is_optional else hint, values[key], _join(name, key))
        elif not is_optional:
            raise MalformedContent(f"'{_join(name, key)}' is missing")
    return {key: _check_numbers(item, _join(name, key)) for key, item in values.items()}


@functools.cache
def _type_hints(expected: Any) -> dict[str, Any]:
    return typing.get_type_hints(expected, include_extras=True)


def _as_mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise _wrong(name, value, "a mapping of names to values")
    return value


def _decode_plain(expected: Any, value: Any, name: str) -> Any:
    if expected is type(None):
        if value is not None:
            raise _wrong(name, value, "nothing")
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if expected is float and is_number:
        return float(_check_numbers(value, name))
    if type(value) is not expected:
        kinds = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise _wrong(name, value, kinds[expected])
    return _check_numbers(value, name)


def _check_numbers(value: Any, name: str) -> Any:
    """Return a value of any type if all numbers in it are finite and at most 2^63, and all text is Unicode."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_numbers(item, _join(name, _check_numbers(key, name)))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_numbers(item, f"{name}[{i}]")
    elif isinstance(value, str) and _SURROGATES.search(value):
        raise MalformedContent(f"'{name}' is not Unicode text")
    elif isinstance(value, float) and not math.isfinite(value):
        raise _wrong(name, value, "a finite number")
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise MalformedContent(f"'{name}' is a whole number beyond 2^63")
    return value


def _join(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)


def _wrong(name: str, value: Any, expected: str) -> MalformedContent:
    return MalformedContent(_not_allowed(name, value, expected))


def _not_allowed(name: str, value: Any, expected: str) -> str:
    subject = f"'{shorten(name)}'" if name else "it"
    return f"{subject} is {shorten(value)}, but it must be {expected}"


def shorten(value: Any, length: int = 60) -> str:
    """Return a value as text of limited length; numbers of thousands of digits, which Python doesn't write, are described."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return "a number beyond 2^63"
    text = str(value) or "empty"
    return text if len(text) <= length else text[: length - 1] + "…"
