"""Input files: what can't be read is named, each kind by its own message."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest

from nephros.data import input_files
from nephros.data.input_files import InMemoryFile, read_bytes, read_magic, read_npy_header
from nephros.errors import FileError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "empty.png").touch()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "large.png").write_bytes(bytes(100))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("empty.png", "is empty"),
        ("gone.png", "leads nowhere"),
        ("none.png", "does not exist"),
        ("pipe.png", "device or a pipe"),
        (".", "is a folder"),
        ("a\0b", "can't be read"),
    ],
)
def test_unreadable_files_are_named(name: str, expected: str, folder: Path) -> None:
    with pytest.raises(FileError, match=expected) as exc_info:
        read_bytes(folder / name)
    assert str(exc_info.value).count("can't be read") <= 1


def test_files_above_the_limit_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_bytes(folder / "large.png") == bytes(100)
    monkeypatch.setattr(input_files, "MAX_FILE_BYTES", 99)
    with pytest.raises(FileError, match="too much for images"):
        read_bytes(folder / "large.png")


def test_a_file_in_memory_stands_for_a_file_on_disk() -> None:
    file = InMemoryFile("folder/Cell.PNG", b"12345678 and more")
    assert (str(file), file.suffix, repr(file)) == ("folder/Cell.PNG", ".PNG", "InMemoryFile(name='folder/Cell.PNG')")
    assert read_bytes(file) == file.open().read() == file.data
    assert read_magic(file, "an image") == b"12345678"
    with pytest.raises(FileError, match=r"empty\.png is empty"):
        read_bytes(InMemoryFile("empty.png", b""))


def test_a_missing_file_suggests_its_neighbor(folder: Path) -> None:
    with pytest.raises(FileError, match=r"give the path of an image\. Did you mean 'large\.png'\?"):
        read_magic(folder / "larg.png", "an image")
    for name, expected in {".": "is a folder", "empty.png": "is empty", "large.png/x": "does not exist"}.items():
        with pytest.raises(FileError, match=expected):
            read_magic(folder / name, "an image")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_headers_of_all_versions_are_read(version: tuple[int, int]) -> None:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asfortranarray(np.ones((2, 3), ">u2")), version)
    file.seek(0)
    assert read_npy_header(file, "a.npy") == ((2, 3), True, np.dtype(">u2"))
    assert len(file.read()) == 12


def test_pickled_objects_are_refused() -> None:
    file = io.BytesIO()
    np.save(file, np.array([{}]), allow_pickle=True)
    file.seek(0)
    with pytest.raises(FileError, match=r"^a\.npy holds pickled"):
        read_npy_header(file, "a.npy")
