"""Npz files that claim more than they hold: members, headers, compressions and sizes are bounded before they cost anything."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nephros.data.input_files import InMemoryFile, InputFile, read_npy_header
from nephros.data.npz import archive as npz_archive
from nephros.data.npz import opening as npz
from nephros.data.npz.archive import MAX_DIRECTORY_BYTES
from nephros.data.npz.opening import open_npz
from nephros.data.npz.stream import ImageArray, open_image_arrays
from nephros.errors import FileError
from tests.conftest import square_images, squares_dataset, write_npz

CELLS = square_images(3, 4, 0)[0]


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits at which hostile files take no time to make."""
    monkeypatch.setattr(npz_archive, "_MIN_BOMB_BYTES", 20 << 20)
    monkeypatch.setattr(npz, "MAX_NAMES_BYTES", 100_000)


def _npy(header: str, version: int = 1, length: int | None = None) -> bytes:
    text = header.encode()
    n_bytes = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", n_bytes) + text


def _array(shape: str, descr: str = "|u1") -> bytes:
    return _npy(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}")


def _with_members(n_members: int, stated: int = 1, *, zip64: bool = False) -> bytes:
    """Return an archive of one good array and of many names, whose last record states another number of members."""
    good = io.BytesIO()
    np.save(good, CELLS)
    data, name = good.getvalue(), b"images.npy"
    crc = zlib.crc32(data)
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 0, 0, 33, crc, len(data), len(data), len(name), 0)
    entry = struct.pack("<IHHHHHH", 0x02014B50, 20, 20, 0, 0, 0, 33)
    directory = bytearray(entry + struct.pack("<IIIHHHHHII", crc, len(data), len(data), 10, 0, 0, 0, 0, 0, 0) + name)
    for i in range(n_members):
        member = b"%d" % i
        directory += entry + struct.pack("<IIIHHHHHII", 0, 0, 0, len(member), 0, 0, 0, 0, 0, 0) + member
    archive = local + name + data
    start = len(archive)
    archive += directory
    sizes = (len(directory), start)
    if zip64:
        end = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, stated, stated, *sizes)
        archive += end + struct.pack("<IIQI", 0x07064B50, 0, len(archive), 1)
        sizes = (0xFFFFFFFF, 0xFFFFFFFF)
    return archive + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, stated, stated, *sizes, 0)


def _streamed(head: bytes, n_bytes: int, name: str = "images", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return an archive of one array: a beginning, and then so many zeros."""
    file = io.BytesIO()
    _append_zeros(file, name, head, n_bytes, method)
    return file.getvalue()


def _append_zeros(
    file: io.BytesIO | Path, name: str, head: bytes, n_bytes: int, method: int = zipfile.ZIP_DEFLATED
) -> None:
    with (
        zipfile.ZipFile(file, "a", method, compresslevel=1) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as member,
    ):
        member.write(head)
        for start in range(0, n_bytes, 1 << 20):
            member.write(bytes(min(1 << 20, n_bytes - start)))


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "members": (lambda: _with_members(25_000), f"{MAX_DIRECTORY_BYTES:,}"),
    "members, zip64": (lambda: _with_members(25_000, zip64=True), f"{MAX_DIRECTORY_BYTES:,}"),
    "zeros": (lambda: _streamed(_array("(40, 1000, 1000)"), 40_000_000), "zip bomb"),
    "bzip2": (lambda: _streamed(_array("(9, 1000, 1000)"), 9_000_000, method=zipfile.ZIP_BZIP2), "bzip2"),
    "lzma": (lambda: _streamed(_array("(9, 1000, 1000)"), 9_000_000, method=zipfile.ZIP_LZMA), "lzma"),
    "long header": (lambda: _streamed(_npy("", 2, 18 << 20), 18 << 20), "damaged"),
    "long header, version 3": (lambda: _streamed(_npy("", 3, 18 << 20), 18 << 20), "damaged"),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("in_memory", [True, False])
def test_claims_are_refused_before_they_cost_memory(name: str, in_memory: bool, tmp_path: Path) -> None:
    make, expected = BOMBS[name]
    data = make()
    path: InputFile = InMemoryFile("bomb.npz", data) if in_memory else tmp_path / "bomb.npz"
    if isinstance(path, Path):
        path.write_bytes(data)
    tracemalloc.start()
    try:
        arrays = open_image_arrays(path)
        message = " ".join(array.message for array in arrays if not isinstance(array, ImageArray))
    except FileError as error:
        message = str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message.startswith(str(path))
    assert expected in message
    assert "\n" not in message
    assert peak < 8 << 20


def test_data_sets_are_bounded_too(tmp_path: Path) -> None:
    """The same bounds hold where an npz file is opened for training, class names included."""
    path = tmp_path / "names.npz"
    write_npz(path, squares_dataset())
    good = path.read_bytes()
    for descr, message in (("<U10000000", "zip bomb"), ("<U100000", "shorten the names")):
        path.write_bytes(good)
        _append_zeros(path, "class_names", _array("(1,)", descr), int(descr[2:]) * 4)
        with pytest.raises(FileError, match=message) as excinfo:
            open_npz(path)
        assert str(excinfo.value.path) == str(path)


def test_a_thousand_arrays_and_repeated_names_are_read() -> None:
    (array,) = open_image_arrays(InMemoryFile("a.npz", _with_members(1000, stated=7)))
    assert isinstance(array, ImageArray)
    assert len(array) == len(CELLS)
    with warnings.catch_warnings(), zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        warnings.simplefilter("ignore")
        good = io.BytesIO()
        np.save(good, CELLS)
        for _ in range(3):
            archive.writestr("images.npy", good.getvalue())
    (array,) = open_image_arrays(InMemoryFile("a.npz", file.getvalue()))
    assert isinstance(array, ImageArray)
    assert sum(map(len, array.iter_batches())) == len(CELLS)


def test_the_header_of_a_single_array_is_bounded() -> None:
    with pytest.raises(ValueError, match="header of"):
        read_npy_header(io.BytesIO(_npy("", 2, 1 << 30) + bytes(100)), "a.npy")
    assert read_npy_header(io.BytesIO(_array("(2, 3)")), "a.npy").shape == (2, 3)
