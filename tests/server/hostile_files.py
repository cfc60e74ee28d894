"""Uploads that ask for as much work as they can, each as a request's files; built here, since some are large."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from tests.server.live_server import File, encode_image, encode_npz

CORPUS = Path(__file__).parents[1] / "corpus" / "hostile"
RNG = np.random.default_rng(0)
CELL = RNG.integers(0, 120, (28, 28), dtype=np.uint8)
BLANK_25_MP = np.zeros((5000, 5000), np.uint8)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg_of_scans(n_scans: int, side: int) -> bytes:
    """Return a progressive JPEG whose last scan is repeated."""
    data = encode_image(np.full((side, side, 3), 128, np.uint8), "JPEG", progressive=True)
    start, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:start] + data[start:end] * n_scans + data[end:]


def jpeg_of_empty_scans(n_scans: int, side: int) -> bytes:
    """Return a progressive JPEG with scans that have a header and nothing else."""
    data = encode_image(np.full((side, side, 3), 128, np.uint8), "JPEG", progressive=True)
    return data[:-2] + b"\xff\xda\0\x08\x01\x01\0\x01\x3f\0" * n_scans + data[-2:]


def pages(n_pages: int, compression: str | None) -> bytes:
    """Return a TIFF file of pages that share one strip."""
    tifffile.imwrite(file := io.BytesIO(), CELL, compression=compression, metadata=None)
    data = file.getvalue()
    (offset,) = struct.unpack_from("<I", data, 4)
    (n_tags,) = struct.unpack_from("<H", data, offset)
    directory = data[offset : offset + 2 + 12 * n_tags]
    step = len(directory) + 4
    chain = [directory + struct.pack("<I", len(data) + i * step) for i in range(1, n_pages)]
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + b"".join(chain) + directory + bytes(4)


def _tags_that_claim_all() -> bytes:
    entries = b"".join(struct.pack("<HHII", number, 1, 700_000, 0) for number in range(60_000))
    return b"II*\0" + struct.pack("<IH", 8, 60_000) + entries + bytes(4)


def _sparse_ome(n_slices: int) -> bytes:
    pixels = (
        '<Pixels ID="P" DimensionOrder="XYZCT" Type="uint8" SizeX="28" SizeY="28" SizeC="1" SizeT="1" '
        f'SizeZ="{n_slices}"><TiffData IFD="0" FirstZ="{n_slices - 1}" PlaneCount="1"/></Pixels>'
    )
    ome = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="I">{pixels}</Image></OME>'
    tifffile.imwrite(file := io.BytesIO(), CELL, description=ome, metadata=None)
    return file.getvalue()


def _npz_of_members(n_members: int) -> bytes:
    directory = bytearray()
    for i in range(n_members):
        name = b"%d" % i
        directory += struct.pack("<IHHHHHH", 0x02014B50, 20, 20, 0, 0, 0, 33)
        directory += struct.pack("<IIIHHHHHII", 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0) + name
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(directory), 4, 0)
    return b"PK\3\4" + bytes(directory) + end


def _npz_compressed(method: int, n_images: int) -> bytes:
    plain = zipfile.ZipFile(io.BytesIO(encode_npz(images=np.zeros((n_images, 1000, 1000), np.uint8))))
    with zipfile.ZipFile(file := io.BytesIO(), "w", method, compresslevel=1) as archive:
        archive.writestr("images.npy", plain.read("images.npy"))
    return file.getvalue()


def png_of_profiles(n_profiles: int) -> bytes:
    data = encode_image(CELL)
    profile = _png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 20)))
    return data[:33] + profile * n_profiles + data[33:]


def _png_in_pieces(n_chunks: int) -> bytes:
    data = encode_image(CELL)
    return data[:33] + _png_chunk(b"tEXt", b"a\0b") * n_chunks + data[33:]


def _huge_image(image_format: str, **options: object) -> bytes:
    Image.fromarray(BLANK_25_MP).save(file := io.BytesIO(), image_format, **options)
    return file.getvalue()


def _copies(n: int, suffix: str, data: bytes) -> list[File]:
    return [(f"{i}.{suffix}", data) for i in range(n)]


def _claimed_sizes() -> list[File]:
    names = (
        "bomb.png",
        "bomb.jpg",
        "bomb.tif",
        "terabytes-claimed.npz",
        "many-slices-claimed.tif",
        "stack-of-nothing.ome.tif",
    )
    return [(name, (CORPUS / name).read_bytes()) for name in names]


UPLOADS: dict[str, Callable[[], list[File]]] = {
    "scans": lambda: [("scans.jpg", jpeg_of_empty_scans(90_000, 2000))],
    "thousand scans": lambda: _copies(4, "jpg", jpeg_of_scans(1000, 1000)),
    "scans below the limit": lambda: _copies(20, "jpg", jpeg_of_scans(54, 3900)),
    "pages, LZW": lambda: [("pages.tif", pages(90_000, "lzw"))],
    "pages": lambda: [("pages.tif", pages(90_000, None))],
    "too many pages": lambda: [("pages.tif", pages(400_000, None))],
    "circular pages": lambda: [("circular.tif", (CORPUS / "endless-pages.tif").read_bytes())],
    "claimed sizes": _claimed_sizes,
    "tags": lambda: [("tags.tif", _tags_that_claim_all())],
    "planes": lambda: [("planes.ome.tif", _sparse_ome(10**8))],
    "members": lambda: [("members.npz", _npz_of_members(1_000_000))],
    "bzip2": lambda: [("bzip2.npz", _npz_compressed(zipfile.ZIP_BZIP2, 20))],
    "zeros": lambda: [("zeros.npz", _npz_compressed(zipfile.ZIP_DEFLATED, 90))],
    "cells": lambda: [("cells.npz", encode_npz(images=np.repeat(CELL[None], 10_000, axis=0)))],
    "odd sizes": lambda: [("odd.npz", encode_npz(images=np.zeros((9_000, 41, 9, 3), np.uint8)))],
    "profiles": lambda: _copies(4, "png", png_of_profiles(900)),
    "pieces": lambda: [("pieces.png", _png_in_pieces(90_000))],
    "large images": lambda: _copies(100, "png", _huge_image("PNG")),
    "large LZW images": lambda: _copies(100, "tif", _huge_image("TIFF", compression="tiff_lzw")),
    "many images": lambda: _copies(300, "png", encode_image(np.zeros((1400, 1400), np.uint8))),
    "small images": lambda: _copies(1000, "png", encode_image(CELL)),
}
"""Kind -> what makes the files of one request."""
