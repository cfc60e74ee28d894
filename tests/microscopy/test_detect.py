"""Stacks are distinguished from files with one page per cell by their headers alone, whatever program wrote them."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from nephros.data import input_files
from nephros.data.images.decoding import strict_pillow_warnings
from nephros.data.input_files import InMemoryFile
from nephros.errors import NephrosError
from nephros.microscopy import detect
from nephros.microscopy.detect import is_stack, read_bytes_unless_stack


def tiff_bytes(shape: tuple[int, ...], **kwargs: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros(shape, np.uint16), photometric="minisblack", **kwargs)
    return file.getvalue()


STACKS: dict[str, bytes] = {
    "ome": tiff_bytes((3, 40, 30), ome=True, metadata={"axes": "ZYX"}),
    "ome with channels": tiff_bytes((2, 3, 40, 30), ome=True, metadata={"axes": "CZYX"}),
    "imagej": tiff_bytes((3, 40, 30), imagej=True, metadata={"axes": "ZYX"}),
    "tifffile": tiff_bytes((3, 40, 30), metadata={"axes": "ZYX"}),
    "large pages": tiff_bytes((2, 256, 256), metadata=None),
    "large pages, compressed": tiff_bytes((2, 256, 300), compression="zlib"),
    "big-endian": tiff_bytes((2, 256, 256), byteorder=">"),
    "bigtiff": tiff_bytes((2, 256, 256), bigtiff=True),
    "big-endian bigtiff": tiff_bytes((2, 256, 256), bigtiff=True, byteorder=">"),
    "a slice too large for Pillow": tiff_bytes((3, 40, 30), ome=True, metadata={"axes": "ZYX"}),
}
NON_STACKS: dict[str, bytes] = {
    "a page": tiff_bytes((40, 30)),
    "a large page": tiff_bytes((3000, 300)),
    "pages": tiff_bytes((5, 28, 28)),
    "long pages": tiff_bytes((5, 28, 2800)),
    "ome of one slice": tiff_bytes((1, 40, 30), ome=True, metadata={"axes": "ZYX"}),
    "ome of channels": tiff_bytes((3, 40, 30), ome=True, metadata={"axes": "CYX"}),
    "imagej of channels": tiff_bytes((3, 40, 30), imagej=True, metadata={"axes": "CYX"}),
    "a large page and a small": tiff_bytes((300, 300), metadata=None),
    "odd description": tiff_bytes((40, 30), description='{"shape": 3, "axes": "ZYX"}', metadata=None),
    "odd OME description": tiff_bytes((40, 30), description="<OME SizeZ='x'", metadata=None),
    "cut short": tiff_bytes((3, 40, 30), metadata={"axes": "ZYX"})[:6],
    "text": b"II*\0 is how a TIFF begins",
    "empty": b"",
}


@pytest.mark.parametrize("name", STACKS)
def test_stacks_are_detected(name: str) -> None:
    data = STACKS[name]
    if "too large" in name:
        with tifffile.TiffFile(buffer := io.BytesIO(data), mode="r+") as file:
            for tag in ("ImageWidth", "ImageLength"):
                file.pages.first.tags[tag].overwrite(60_000, dtype="I")
            data = buffer.getvalue()
    assert is_stack(io.BytesIO(data))
    assert read_bytes_unless_stack(InMemoryFile("cell.png", data)) is None


@pytest.mark.parametrize("name", NON_STACKS)
def test_other_files_are_no_stacks(name: str) -> None:
    with strict_pillow_warnings():
        assert not is_stack(io.BytesIO(NON_STACKS[name]))
        if NON_STACKS[name]:
            assert read_bytes_unless_stack(InMemoryFile("cell.tif", NON_STACKS[name])) == NON_STACKS[name]


def test_a_stack_is_detected_after_its_thumbnail() -> None:
    pages = [Image.new("L", size) for size in ((100, 100), (300, 300), (300, 300))]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    assert is_stack(file) is False  # read from its current position, the end
    file.seek(0)
    assert is_stack(file)


def test_a_large_stack_is_detected_without_reading_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_files, "MAX_FILE_BYTES", 99)
    monkeypatch.setattr(detect, "HEADER_FIRST_BYTES", 99)
    (tmp_path / "stack.tif").write_bytes(STACKS["ome"])
    (tmp_path / "cell.tif").write_bytes(NON_STACKS["a page"])
    assert read_bytes_unless_stack(tmp_path / "stack.tif") is None
    with pytest.raises(NephrosError, match="too much for images of cells"):
        read_bytes_unless_stack(tmp_path / "cell.tif")
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(NephrosError, match="device or a pipe"):
        read_bytes_unless_stack(tmp_path / "pipe.tif")
