"""Files that nephros doesn't read are named for what they are, by their first bytes, wherever they are given."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image, features

from nephros.data.folders.opening import open_folder
from nephros.data.images.decoding import decode_image
from nephros.data.images.foreign_formats import HEAD_BYTES, foreign_format
from nephros.data.npz.opening import open_npz
from nephros.errors import FileError
from nephros.inference.discovery import InputDiscovery
from nephros.microscopy.reader import open_stack
from tests.command_line import run_cli

IMAGE = Image.fromarray(np.arange(28 * 28, dtype=np.uint32).reshape(28, 28).astype(np.uint8))


def encode(image_format: str) -> bytes:
    file = io.BytesIO()
    IMAGE.convert("RGB").save(file, image_format)
    return file.getvalue()


def zipped(name: str, content: bytes = bytes(100)) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("cell.png"), io.BytesIO())
    return file.getvalue()


def matlab() -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, {"cells": np.zeros((3, 28, 28))})
    return file.getvalue()


def pytorch() -> bytes:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, file)
    return file.getvalue()


def at(offset: int, content: bytes, size: int = 2000) -> bytes:
    return bytes([7]) * offset + content + bytes([7]) * (size - offset)


FILES: dict[str, tuple[str, bytes]] = {
    "Zeiss CZI": ("a.czi", b"ZISRAWFILE" + bytes(4000)),
    "Nikon ND2": ("a.nd2", b"\xda\xce\xbe\x0a\x10\0\0\0" + bytes(4000)),
    "Leica LIF": ("a.lif", struct.pack("<IIB", 0x70, 0x4000, 0x2A) + bytes(4000)),
    "Olympus OIB": ("a.oib", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4000)),
    "OLE2": ("a.tif", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4000)),
    "Olympus OIF": ("a.oif", "\ufeff[ProfileSaveInfo]\r\n".encode("utf-16-le") + bytes(100)),
    "Imaris": ("a.ims", b"\x89HDF\r\n\x1a\n" + bytes(4000)),
    "HDF5": ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(4000)),
    "MATLAB": ("a.mat", matlab()),
    "NRRD": ("a.nrrd", b"NRRD0005\ntype: uint16\n" + bytes(100)),
    "MRC": ("a.mrc", at(208, b"MAP ")),
    "DICOM": ("a.dcm", bytes(128) + b"DICM" + bytes(100)),
    "NIfTI": ("a.nii", at(344, b"n+1\0")),
    "DeltaVision": ("a.dv", at(96, b"\xa0\xc0")),
    "FITS": ("a.fits", b"SIMPLE  =                    T" + bytes(3000)),
    "HEIC": ("a.heic", b"\0\0\0\x18ftypheic" + bytes(100)),
    "GIF": ("a.gif", encode("GIF")),
    "BMP": ("a.bmp", encode("BMP")),
    "Photoshop": ("a.psd", b"8BPS\0\1" + bytes(100)),
    "JPEG XL": ("a.jxl", b"\xff\x0a" + bytes(100)),
    "JPEG 2000": ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100)),
    "PDF": ("a.pdf", encode("PDF")),
    "EPS": ("a.eps", encode("EPS")),
    "PNG image that a transfer": ("a.png", encode("PNG").replace(b"\r\n", b"\n")),
    "npy array": ("a.npy.png", b"\x93NUMPY\x01\0" + bytes(100)),
    "npz file under another name": ("cells.zip", zipped("train_images.npy")),
    "zip archive": ("a.zip", zipped("cells/1.png")),
    "PyTorch": ("a.pt", pytorch()),
    "ImageJ regions": ("RoiSet.zip", zipped("0001.roi")),
    "Office": ("a.docx", zipped("[Content_Types].xml")),
    "an Excel workbook": ("a.xlsx", zipped("[Content_Types].xml")),
    "that Windows keeps": ("Thumbs.db", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4000)),
    "an Olympus OIR file": ("a.oir", b"OLYMPUSRAWFORMAT" + bytes(4000)),
    "a Leica LAS X file": ("a.xlef", b'<?xml version="1.0" encoding="utf-8"?><LMSDataContainerHeader>'),
    "a Cellomics image": ("a.c01", b"\x10\0\0\0" + bytes(4000)),
    "iCloud's placeholder": ("a.png.icloud", b"bplist00" + bytes(99)),
    "an error message": ("a.png", b'{"message": "Not found"}'),
    "a PGM image": ("a.pgm", b"P5\n28 28\n255\n" + bytes(784)),
    "a text file": ("desktop.ini", b"[.ShellClassInfo]\r\n"),
    "gzip": ("a.tif.gz", gzip.compress(bytes(100))),
    "tar": ("a.tar", tarred()),
    "pickle": ("a.pkl", b"\x80\x04K\x01."),
    "OME-XML": ("set.companion.ome", b'<?xml version="1.0"?>\n<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"/>'),
    "web page": ("a.png", b"\n<!DOCTYPE html><html><body>404</body></html>"),
    "Git LFS": ("a.tif", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n"),
    "macOS": ("._a.tif", b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X" + bytes(100)),
}  # fmt: skip
"""What the sentence must contain -> a file's name and bytes."""
if features.check("webp"):
    FILES["WebP"] = ("a.webp", encode("WEBP"))
if features.check("avif"):
    FILES["AVIF"] = ("a.avif", encode("AVIF"))


@pytest.mark.parametrize("expected", FILES)
def test_each_format_is_named_wherever_a_file_is_given(expected: str, tmp_path: Path) -> None:
    name, data = FILES[expected]
    path = tmp_path / name
    path.write_bytes(data)
    readers: list[Callable[[], object]] = [
        lambda: decode_image(path, data),
        lambda: open_stack(path),
        lambda: open_npz(path),
    ]
    n_readers = 1 if "npy" in expected else 2 if data.startswith(b"PK") else 3  # a .npy may be a stack, and npz is zip
    for read in readers[:n_readers]:
        with pytest.raises(FileError, match=expected) as exc_info:
            read()
        sentence = str(exc_info.value)
        assert sentence.startswith(str(path))
        assert "damaged" not in sentence
        assert "; " in sentence


@pytest.mark.parametrize("name", ["cell.png", "cell.tif", "cell.jpg", "cell"])
@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "JPEG"])
def test_a_suffix_doesnt_matter_for_what_is_read(name: str, image_format: str) -> None:
    data = encode(image_format)
    assert foreign_format(data[:HEAD_BYTES], name) is None
    assert decode_image(name, data).pixels.shape[:2] == (28, 28)


@pytest.mark.parametrize(("name", "expected"), [("slide.vsi", "Olympus VSI"), ("slide.MRXS", "MIRAX")])
def test_an_overview_is_not_taken_for_the_slide(name: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(encode("TIFF"))
    for read in (lambda: decode_image(name, encode("TIFF")), lambda: open_stack(tmp_path / name)):
        with pytest.raises(FileError, match=expected):
            read()


@pytest.mark.parametrize(
    ("folder", "member", "expected"),
    [
        ("a.zarr", "0/.zarray", "Zarr"),
        ("a", ".zgroup", "Zarr"),
        ("a", "zarr.json", "Zarr"),
        ("a.n5", "attributes.json", "N5"),
        ("a.oif.files", "s_C001Z001.tif", "Olympus OIF"),
        ("a", "Slidedat.ini", "MIRAX"),
    ],
)
def test_folders_that_are_one_image_are_named(folder: str, member: str, expected: str, tmp_path: Path) -> None:
    root = tmp_path / "data" / folder
    (root / member).parent.mkdir(parents=True)
    (root / member).write_text("{}")
    for read in (open_folder, open_stack):
        with pytest.raises(FileError, match=expected):
            read(root)
    (tmp_path / "data" / "cell.png").write_bytes(encode("PNG"))
    (item,) = InputDiscovery([root]).items
    discovery = InputDiscovery([tmp_path / "data"])
    cells = [tmp_path / "data" / "cell.png"]
    if expected == "Zarr":  # a stack, whose reader says what is wrong with it
        assert item == root
        assert sorted(map(str, discovery.items)) == sorted(map(str, [root, *cells]))
        return
    assert expected in getattr(item, "message", "")
    assert discovery.items == cells
    assert discovery.skipped.total() == 1


@pytest.mark.parametrize("head", [b"", b"B", b"\x70\0\0\0", b"cells", bytes(1024), b"RIFF", b"PK", b"\0\0\0\3"])
def test_short_and_unknown_heads_raise_nothing(head: bytes) -> None:
    file_format = foreign_format(head)
    assert file_format is None or file_format.name


@pytest.mark.parametrize("expected", ["Zeiss CZI", "Nikon ND2", "Leica LIF", "Olympus OIB", "DICOM", "HEIC"])
def test_the_command_line_names_the_format_and_never_damage(
    expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, data = FILES[expected]
    (tmp_path / name).write_bytes(data)
    commands = (
        ["predict"],
        ["data", "prepare", "--out", str(tmp_path / "c.npz")],
        ["data", "info"],
        ["train", "--data"],
    )
    for command in commands:
        status, out, err = run_cli([*command, str(tmp_path / name)], capsys)
        assert status == 2
        assert "damaged" not in out + err
        assert expected in out + err
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
