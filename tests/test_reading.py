"""The boundary for what is read from outside: errors, limits, strict JSON and YAML, types, and arrays."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
import pytest

from nephros.errors import DivergedError, FileError, InvalidArgument
from nephros.reading import MalformedContent, decode, file_errors, parse_json, read_arrays, read_text
from nephros.yaml_values import parse_yaml


class Place(TypedDict):
    title: str
    floor: NotRequired[int | None]


@dataclass(frozen=True)
class Sample:
    n: int
    share: float
    kind: Literal["cell", "nucleus"]
    shape: tuple[int, int]
    names: tuple[str, ...]
    place: Place
    values: dict[str, list[float]] = field(default_factory=dict)
    note: str | None = None
    anything: Any = None


GOOD: dict[str, Any] = {
    "n": 3, "share": 1, "kind": "cell", "shape": [2, 3], "names": ["a"], "place": {"title": "lab", "more": 1},
    "values": {"x": [1, 2.5]}, "anything": [1, {"a": None}],
}  # fmt: skip


def test_values_become_what_the_annotations_say() -> None:
    sample = decode(Sample, GOOD)
    assert (sample.share, type(sample.share)) == (1.0, float)
    assert (sample.shape, sample.names) == ((2, 3), ("a",))
    assert sample.place == {"title": "lab", "more": 1}
    assert sample.values == {"x": [1.0, 2.5]}
    assert decode(Sample, GOOD | {"place": {"title": "lab", "floor": None}}).place == {"title": "lab", "floor": None}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"n": "3"}, "n"),
        ({"n": True}, "n"),
        ({"n": 3.0}, "n"),
        ({"n": 10**30}, "n"),
        ({"n": int("f" * 6000, 16)}, "n"),
        ({"share": float("nan")}, "share"),
        ({"share": "1"}, "share"),
        ({"share": 10**400}, "share"),
        ({"share": None}, "share"),
        ({"kind": "other"}, "kind"),
        ({"kind": ["cell"]}, "kind"),
        ({"shape": [2, 3, 4]}, "shape"),
        ({"shape": [2, "3"]}, "shape[1]"),
        ({"shape": {}}, "shape"),
        ({"names": "ab"}, "names"),
        ({"names": [["a"]]}, "names[0]"),
        ({"place": {}}, "place.title"),
        ({"place": {"title": "lab", "floor": "first"}}, "place.floor"),
        ({"place": {"title": "lab", "more": float("inf")}}, "place.more"),
        ({"place": []}, "place"),
        ({"values": {"x": 1}}, "values.x"),
        ({"values": {1: [1]}}, "values"),
        ({"note": 7}, "note"),
        ({"note": "\ud800"}, "note"),
        ({"anything": [[float("nan")]]}, "anything[0][0]"),
        ({"anything": {"\udfff": 1}}, "anything"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_value_of_another_type_is_named(change: dict[str, Any], name: str) -> None:
    with pytest.raises(MalformedContent) as caught:
        decode(Sample, GOOD | change)
    assert f"'{name}'" in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [None, [], "Sample", 3, {1: 2}])
def test_what_is_no_mapping_is_no_dataclass(value: object) -> None:
    with pytest.raises(MalformedContent):
        decode(Sample, value)


def test_bytes_of_file_names_are_text() -> None:
    name = os.fsdecode(b"caf\xe9.npz")
    assert decode(Sample, GOOD | {"note": name}).note == name


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": -Infinity}', '{"a": 1, "a": 2}', '[{"a": 1, "a": 1}]'])
def test_json_that_python_reads_all_the_same_is_refused(text: str) -> None:
    with pytest.raises(MalformedContent):
        parse_json(text)


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "{a: {b: 1, b: 2}}", "a: 2026-13-45", "a: 0x" + "f" * 40, "a: [", "\ta: 1"]
)
def test_yaml_that_is_ambiguous_or_impossible_is_refused(text: str) -> None:
    with pytest.raises(MalformedContent):
        parse_yaml(text)


def raise_error(error: Exception) -> None:
    raise error


ERRORS: list[tuple[Exception, str]] = [
    (MalformedContent("'n' is 3"), "'n' is 3"),
    (InvalidArgument("eta", 1, "at least 2"), "'eta' is 1, but it must be at least 2"),
    (FileNotFoundError(2, "No such file or directory"), "it does not exist"),
    (PermissionError(13, "Permission denied"), "Permission denied"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "UTF-8"),
    (json.JSONDecodeError("Expecting value", "\n\n", 2), "line 3"),
    (RecursionError(), "nested"),
    (MemoryError(), "memory"),
    (KeyError("x"), "damaged"),
    (ValueError("invalid literal for int() with base 10"), "damaged"),
    (AttributeError("'list' object has no attribute 'get'"), "damaged"),
    (zipfile.BadZipFile("File is not a zip file"), "damaged"),
]


@pytest.mark.parametrize(("error", "part"), ERRORS, ids=[type(error).__name__ for error, _ in ERRORS])
def test_whatever_is_raised_becomes_one_sentence(error: Exception, part: str) -> None:
    with pytest.raises(FileError) as caught, file_errors("a.json", "write it again"):
        raise_error(error)
    assert caught.value.path == "a.json"
    message = str(caught.value)
    assert message.startswith("a.json can't be read (")
    assert message.endswith("): write it again.")
    assert part in message
    assert "object" not in message


def test_errors_of_our_own_pass() -> None:
    for error in (
        DivergedError("it diverged"),
        FileError("b", "b is gone."),
        InvalidArgument("lr", 1, "2", source="b"),
    ):
        with pytest.raises(type(error)) as caught, file_errors("a.json", "write it again"):
            raise_error(error)
        assert caught.value is error
    with pytest.raises(KeyboardInterrupt), file_errors("a.json", "write it again"):
        raise KeyboardInterrupt


def test_size_and_kind_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 11)
    os.mkfifo(tmp_path / "pipe")
    assert read_text(tmp_path / "large", 11) == "x" * 11
    for path in (tmp_path / "large", tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(MalformedContent):
            read_text(path, 10)
    with pytest.raises(IsADirectoryError):
        read_text(tmp_path, 10)


SHAPES = {"a": (3, 2), "b": (3,)}


def test_arrays_are_read_with_their_shapes(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.ones((3, 2)), b=np.arange(3), c=np.array("more"))
    arrays = read_arrays(tmp_path / "x.npz", SHAPES)
    assert {name: array.shape for name, array in arrays.items()} == SHAPES


@pytest.mark.parametrize(
    "make",
    [
        lambda path: np.savez(path, a=np.ones((3, 2))),
        lambda path: np.savez(path, a=np.ones((2, 3)), b=np.arange(3)),
        lambda path: np.savez(path, a=np.ones((3, 2)), b=np.array(["x", "y", "z"])),
        lambda path: np.savez(path, a=np.ones((3, 2)), b=np.array([1, None, 2], dtype=object)),
        lambda path: np.savez(path, a=np.full((3, 2), np.inf), b=np.arange(3)),
        lambda path: np.savez_compressed(path, a=np.zeros(1 << 24), b=np.arange(3)),
        lambda path: path.write_bytes(b"PK\x05\x06" + bytes(18)),
        lambda path: path.write_bytes(b""),
    ],
)
def test_other_arrays_are_refused(make: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    make(path)
    with pytest.raises(FileError), file_errors(path, "write it again"):
        read_arrays(path, SHAPES)
