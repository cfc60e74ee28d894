"""What is cheap to decode is known before, from headers alone; claims that no image of a cell needs are refused."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from nephros.data.images import decoder as image_decoder
from nephros.data.images.decoder import ImageDecoder
from nephros.data.images.decoding import strict_pillow_warnings
from nephros.data.images.decoding_cost import MAX_JPEG_SCANS, MAX_PNG_TEXTS, check_claims, is_cheap
from nephros.errors import FileError

RNG = np.random.default_rng(0)
CELL = RNG.integers(0, 250, (28, 28), dtype=np.uint8)
ICC = bytes(RNG.integers(0, 256, 40_000, dtype=np.uint8))


def encode(image: NDArray[Any], image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, image_format, **options)
    return file.getvalue()


def encode_tiff(image: NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, image, **options)
    return file.getvalue()


@functools.cache
def tiff_of_pages(n_pages: int) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for _ in range(n_pages):
            writer.write(CELL[:4, :4], contiguous=False, metadata=None)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg_of_scans(n_scans: int, side: int = 1000, *, progressive: bool = True) -> bytes:
    """Return a JPEG whose last scan is repeated."""
    data = encode(np.full((side, side, 3), 128, np.uint8), "JPEG", progressive=progressive)
    start, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:start] + data[start:end] * n_scans + data[end:]


def png_with(*chunks: bytes) -> bytes:
    data = encode(CELL, "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def png_claiming(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + encode(CELL, "PNG")[33:]


CHEAP: dict[str, Callable[[], bytes]] = {
    "png": lambda: encode(CELL, "PNG"),
    "png of text and profile": lambda: encode(CELL, "PNG", icc_profile=ICC),
    "16-bit png": lambda: encode(CELL.astype(np.uint16) * 9, "PNG"),
    "large png": lambda: encode(np.zeros((4000, 4000), np.uint8), "PNG"),
    "interlaced palette": lambda: encode(CELL, "PNG"),
    "jpeg": lambda: encode(CELL, "JPEG"),
    "jpeg with a profile": lambda: encode(CELL, "JPEG", icc_profile=ICC * 3),
    "progressive jpeg": lambda: encode(np.zeros((2000, 2000, 3), np.uint8), "JPEG", progressive=True),
    "large jpeg": lambda: encode(np.zeros((4000, 4000), np.uint8), "JPEG"),
    "tiff": lambda: encode(CELL, "TIFF"),
    "tiff lzw": lambda: encode(CELL, "TIFF", compression="tiff_lzw"),
    "large tiff": lambda: encode_tiff(np.zeros((4000, 4000), np.uint16), compression="zlib"),
    "tiff of 200 pages": lambda: tiff_of_pages(200),
    "color tiff": lambda: encode_tiff(np.zeros((50, 60, 3), np.uint16), photometric="rgb"),
    "gif": lambda: encode(CELL, "GIF"),
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("name", CHEAP)
def test_usual_images_need_no_process(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = CHEAP[name]()
    assert is_cheap(data)
    check_claims(name, data)
    assert is_cheap(data, 1 << 20) == ("large" not in name and name != "progressive jpeg")
    monkeypatch.setattr(image_decoder, "default_pool", lambda: pytest.fail("a process was asked for"))
    if name not in ("gif", "nothing"):
        with strict_pillow_warnings():
            assert list(ImageDecoder().decode_pages(name, data))


DEAR: dict[str, Callable[[], bytes]] = {
    "many pixels": lambda: png_claiming(6000, 6000),
    "two headers": lambda: png_with(png_chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0))),
    "many texts": lambda: png_with(*[png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1000)))] * 9),
    "many profiles": lambda: png_with(*[png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1000)))] * 9),
    "many chunks": lambda: png_with(*[png_chunk(b"tEXt", b"a\0b")] * 30_000),
    "long exif": lambda: png_with(png_chunk(b"eXIf", b"II*\0" + bytes(70_000))),
    "many scans": lambda: jpeg_of_scans(30, side=100),
    "scans of many pixels": lambda: jpeg_of_scans(14, side=4000),
    "many scans of a jpeg that is not progressive": lambda: jpeg_of_scans(30, side=100, progressive=False),
    "many segments": lambda: CHEAP["jpeg"]()[:2] + b"\xff\xe3\0\x04ab" * 301 + CHEAP["jpeg"]()[2:],
    "many exif segments": lambda: CHEAP["jpeg"]()[:2] + b"\xff\xe1\0\x04ab" * 5 + CHEAP["jpeg"]()[2:],
    "a frame of no height": lambda: CHEAP["jpeg"]().replace(b"\0\x1c\0\x1c", b"\0\0\xff\xff", 1),
    "many pages": lambda: tiff_of_pages(600),
    "jpeg in tiff": lambda: encode_tiff(np.zeros((64, 64), np.uint8), compression="jpeg"),
    "zstandard": lambda: encode_tiff(np.zeros((64, 64), np.uint8), compression="zstd"),
    "large tiles": lambda: encode_tiff(np.zeros((16, 16), np.uint8), tile=(8192, 8192), compression="zlib"),
    "tiff that is cut short": lambda: CHEAP["tiff"]()[:60],
    "long tags": lambda: encode_tiff(CELL, extratags=[(65000, 1, 2 << 20, bytes(2 << 20), True)]),
    "many samples": lambda: encode_tiff(np.zeros((9, 9, 9), np.uint8), photometric="minisblack", planarconfig="contig"),
}


@pytest.mark.parametrize("name", DEAR)
def test_what_may_cost_much_is_not_cheap(name: str) -> None:
    assert not is_cheap(DEAR[name]())


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "scans": (lambda: jpeg_of_scans(MAX_JPEG_SCANS + 1, side=64), f"{MAX_JPEG_SCANS + 1:,} scans"),
    "scans without data": (lambda: jpeg_of_scans(5, 64)[:-2] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" * 3000, "scans"),
    "scans of many pixels": (lambda: jpeg_of_scans(100, side=4000), "at least 109 scans of 16,000,000 pixels"),
    "texts": (
        lambda: png_with(*[png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(9)))] * (MAX_PNG_TEXTS + 1)),
        f"{MAX_PNG_TEXTS + 1:,} compressed texts",
    ),
    "profiles after the pixels": (
        lambda: encode(CELL, "PNG")[:-12] + png_chunk(b"iCCP", b"a\0\0") * (MAX_PNG_TEXTS + 1),
        f"{MAX_PNG_TEXTS + 1:,} compressed texts",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_claims_are_counted_and_refused_before_anything_is_decoded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, expected = REFUSED[name]
    data = make()
    monkeypatch.setattr(image_decoder, "default_pool", lambda: pytest.fail("a process was asked for"))
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("an image was opened"))
    for read in (ImageDecoder().decode_image, lambda *args: list(ImageDecoder().decode_pages(*args))):
        with pytest.raises(FileError, match=expected) as excinfo:
            read("cell", data)
        assert excinfo.value.path == "cell"
        assert "\n" not in str(excinfo.value)


def test_thumbnails_and_profiles_are_no_scans() -> None:
    """Bytes in metadata that look like scans don't count against an image."""
    thumbnails = b"".join(b"\xff\xe2" + struct.pack(">H", 2 + len(part)) + part for part in [b"\xff\xda" * 400] * 5)
    data = encode(CELL, "JPEG")
    data = data[:2] + thumbnails + data[2:]
    check_claims("cell.jpg", data)
    with strict_pillow_warnings():
        image = ImageDecoder().decode_image("cell.jpg", data)
    assert image.pixels.shape == CELL.shape
