"""A stack is told from a page a cell by its headers alone, whatever wrote it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from nephros.data import image_decoding
from nephros.data.image_decoding import quiet
from nephros.data.in_memory_file import Held
from nephros.errors import UserError
from nephros.microscopy import detect
from nephros.microscopy.detect import bytes_unless_stack, is_stack


def tiff(shape: tuple[int, ...], **how: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros(shape, np.uint16), photometric="minisblack", **how)
    return file.getvalue()


STACKS: dict[str, bytes] = {
    "ome": tiff((3, 40, 30), ome=True, metadata={"axes": "ZYX"}),
    "ome with channels": tiff((2, 3, 40, 30), ome=True, metadata={"axes": "CZYX"}),
    "imagej": tiff((3, 40, 30), imagej=True, metadata={"axes": "ZYX"}),
    "tifffile": tiff((3, 40, 30), metadata={"axes": "ZYX"}),
    "large pages": tiff((2, 256, 256), metadata=None),
    "large pages, compressed": tiff((2, 256, 300), compression="zlib"),
    "big-endian": tiff((2, 256, 256), byteorder=">"),
    "bigtiff": tiff((2, 256, 256), bigtiff=True),
    "a slice too large for Pillow": tiff((3, 40, 30), ome=True, metadata={"axes": "ZYX"}),
}
PICTURES: dict[str, bytes] = {
    "a page": tiff((40, 30)),
    "a large page": tiff((3000, 300)),
    "pages": tiff((5, 28, 28)),
    "long pages": tiff((5, 28, 2800)),
    "ome of one slice": tiff((1, 40, 30), ome=True, metadata={"axes": "ZYX"}),
    "ome of channels": tiff((3, 40, 30), ome=True, metadata={"axes": "CYX"}),
    "imagej of channels": tiff((3, 40, 30), imagej=True, metadata={"axes": "CYX"}),
    "a large page and a small": tiff((300, 300), metadata=None),
    "odd words": tiff((40, 30), description='{"shape": 3, "axes": "ZYX"}', metadata=None),
    "more odd words": tiff((40, 30), description="<OME SizeZ='x'", metadata=None),
    "cut short": tiff((3, 40, 30), metadata={"axes": "ZYX"})[:6],
    "text": b"II*\0 is how a TIFF begins",
    "empty": b"",
}


@pytest.mark.parametrize("name", STACKS)
def test_stacks(name: str) -> None:
    data = STACKS[name]
    if "too large" in name:
        with tifffile.TiffFile(made := io.BytesIO(data), mode="r+") as file:
            for tag in ("ImageWidth", "ImageLength"):
                file.pages.first.tags[tag].overwrite(60_000, dtype="I")
            data = made.getvalue()
    assert is_stack(io.BytesIO(data))
    assert bytes_unless_stack(Held("cell.png", data)) is None


@pytest.mark.parametrize("name", PICTURES)
def test_no_stacks(name: str) -> None:
    with quiet():
        assert not is_stack(io.BytesIO(PICTURES[name]))
        if PICTURES[name]:
            assert bytes_unless_stack(Held("cell.tif", PICTURES[name])) == PICTURES[name]


def test_a_stack_behind_its_thumbnail() -> None:
    pages = [Image.new("L", size) for size in ((100, 100), (300, 300), (300, 300))]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    assert is_stack(file) is False  # read from where it stands, the end
    file.seek(0)
    assert is_stack(file)


def test_a_stack_on_disk_is_told_without_reading_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_decoding, "MOST_BYTES", 99)
    monkeypatch.setattr(detect, "LARGE", 99)
    (tmp_path / "stack.tif").write_bytes(STACKS["ome"])
    (tmp_path / "cell.tif").write_bytes(PICTURES["a page"])
    assert bytes_unless_stack(tmp_path / "stack.tif") is None
    with pytest.raises(UserError, match="too many for pictures of cells"):
        bytes_unless_stack(tmp_path / "cell.tif")
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(UserError, match="device or a pipe"):
        bytes_unless_stack(tmp_path / "pipe.tif")
