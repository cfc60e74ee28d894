"""Decoding of untrusted images: each kind of bad file has its own message, and no bytes raise anything else."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nephros.data.images import decoding as image_decoding
from nephros.data.images.decoding import decode_image, decode_pages, strict_pillow_warnings
from nephros.data.images.input_conversion import InputConversion, select_planes, to_cell
from nephros.errors import FileError

NOISE = np.random.default_rng(0).integers(0, 256, (24, 20), dtype=np.uint8)


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def encode_tiff(pixels: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **{"photometric": "minisblack", "metadata": None, **options})
    return file.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """Return a PNG that claims this size and contains next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


GRAYSCALE_IMAGE = Image.fromarray(NOISE)
PAGES = [Image.fromarray(np.full((9, 9), value, dtype=np.uint8)) for value in (1, 2, 3)]
GOOD: dict[str, bytes] = {
    "png": encode(GRAYSCALE_IMAGE, "PNG"),
    "png16": encode(Image.fromarray(NOISE.astype(np.uint16) * 200), "PNG"),
    "palette": encode(GRAYSCALE_IMAGE.convert("RGB").quantize(16), "PNG"),
    "rgba": encode(GRAYSCALE_IMAGE.convert("RGBA"), "PNG"),
    "jpeg": encode(GRAYSCALE_IMAGE, "JPEG"),
    "cmyk": encode(GRAYSCALE_IMAGE.convert("CMYK"), "JPEG"),
    "tiff": encode(GRAYSCALE_IMAGE, "TIFF"),
    "lzw": encode(GRAYSCALE_IMAGE, "TIFF", compression="tiff_lzw"),
    "deflate": encode(GRAYSCALE_IMAGE, "TIFF", compression="tiff_adobe_deflate"),
    "tiff16": encode(Image.fromarray(NOISE.astype(np.uint16) * 200), "TIFF"),
    "png16 color": bytes(imagecodecs.png_encode(np.dstack([NOISE] * 3).astype(np.uint16) * 200)),
    "png16 alpha": bytes(imagecodecs.png_encode(np.dstack([NOISE, NOISE]).astype(np.uint16) * 200)),
    "tiff16 color": encode_tiff(np.dstack([NOISE] * 3).astype(np.uint16) * 200, photometric="rgb"),
    "tiff16 lzw": encode_tiff(np.dstack([NOISE] * 3).astype(np.uint16) * 200, photometric="rgb", compression="lzw"),
    "tiff floats": encode_tiff(NOISE.astype(np.float32)),
    "tiff palette": encode_tiff(
        NOISE, photometric="palette", colormap=np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    ),
    "pages": encode(PAGES[0], "TIFF", save_all=True, append_images=PAGES[1:]),
}
BAD: dict[str, tuple[bytes, str]] = {
    "gif": (encode(GRAYSCALE_IMAGE, "GIF"), "is a GIF"),
    "animated gif": (encode(PAGES[0], "GIF", save_all=True, append_images=PAGES[1:]), "is a GIF"),
    "animated png": (encode(PAGES[0], "PNG", save_all=True, append_images=PAGES[1:]), "3 (pages or )?frames"),
    "bmp": (encode(GRAYSCALE_IMAGE, "BMP"), "is a BMP"),
    "svg": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    "pdf": (b"%PDF-1.7\n", "is a PDF"),
    "pickle": (b"\x80\x04K\x01.", "never opened"),
    "zip": (b"PK\x03\x04" + bytes(30), "zip archive"),
    "text": (b"hello", "damaged or not an image"),
    "truncated": (GOOD["png"][:-30], "damaged"),
    "bomb": (png_claiming(60_000, 60_000), "far too large"),
    "large": (png_claiming(9_000, 9_000), "far too large"),
    "wide": (png_claiming(26_000_000, 1), "far too large"),
    "text bomb": (
        GOOD["png"][:33]
        + (lambda data: struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data)))(
            b"a\0\0" + zlib.compress(bytes(4 << 20))
        )
        + GOOD["png"][33:],
        "damaged",
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_valid_files_are_decoded(name: str) -> None:
    pages = [page.pixels for page in decode_pages(name, GOOD[name])]
    assert len(pages) == (3 if name == "pages" else 1)
    if name in ("png", "tiff", "lzw", "deflate"):
        assert np.array_equal(pages[0], NOISE)
    if name in ("png16", "tiff16"):
        assert np.array_equal(pages[0], NOISE.astype(np.uint16) * 200)
    if name in ("rgba", "cmyk"):
        assert pages[0].shape == (24, 20, 3)
    if name == "palette":  # of 16 grays
        assert pages[0].shape == (24, 20)
    if name == "pages":
        assert [int(page[0, 0]) for page in pages] == [1, 2, 3]


@pytest.mark.parametrize("name", BAD)
def test_each_kind_of_bad_file_has_its_own_message(name: str) -> None:
    data, expected = BAD[name]
    for read in (decode_image, lambda *args: list(decode_pages(*args))):
        with strict_pillow_warnings(), pytest.raises(FileError, match=expected) as exc_info:
            read("cell.png", data)
        assert str(exc_info.value).startswith("cell.png")
        assert "\n" not in str(exc_info.value)


def test_pages_before_a_damaged_one_are_decoded() -> None:
    data = bytearray(GOOD["pages"])
    with Image.open(io.BytesIO(bytes(data))) as image:
        image.seek(2)
        offset = image.tag_v2.get(273)[0]  # type: ignore[attr-defined]
        tag_position = bytes(data).rindex(struct.pack("<HHII", 273, 4, 1, offset))
    data[tag_position + 8 : tag_position + 12] = struct.pack("<I", len(data) + 1000)
    first_pixels: list[int] = []
    with strict_pillow_warnings(), pytest.raises(FileError, match=r"cell\.tif, page 2, is damaged"):
        first_pixels.extend(int(page.pixels[0, 0]) for page in decode_pages("cell.tif", bytes(data)))
    assert first_pixels == [1, 2]


mutations = st.lists(
    st.tuples(st.sampled_from(["set", "cut", "insert", "double"]), st.integers(0, 4000), st.integers(0, 255)),
    max_size=12,
)


def mutate(data: bytes, steps: list[tuple[str, int, int]]) -> bytes:
    changed = bytearray(data)
    for kind, offset, value in steps:
        position = offset % (len(changed) + 1)
        if kind == "set" and position < len(changed):
            changed[position] = value
        elif kind == "cut":
            del changed[position : position + value]
        elif kind == "insert":
            changed[position:position] = bytes([value])
        elif kind == "double":
            changed[position:position] = changed[position : position + value]
    return bytes(changed)


def check_decodes_or_raises_file_error(data: bytes) -> None:
    message = ""
    try:
        with strict_pillow_warnings():
            for page in decode_pages("cell", data):
                assert page.pixels.ndim in (2, 3)
                assert page.pixels.dtype.kind in "iuf"
                for channels in (1, 3):
                    with contextlib.suppress(FileError):  # it may be no cell
                        planes = select_planes("cell", page, channels)
                        cell, _ = to_cell("cell", planes, (channels, 9, 9), InputConversion(255))
                        assert cell.dtype == np.uint8
    except FileError as error:
        message = str(error)
    assert not message or message.startswith("cell")
    assert "\n" not in message


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(GOOD)), mutations)
def test_mutated_files_are_decoded_or_refused(name: str, steps: list[tuple[str, int, int]]) -> None:
    check_decodes_or_raises_file_error(mutate(GOOD[name], steps))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"\xff\xd8\xff", b""]), st.binary(max_size=300))
def test_any_bytes_are_decoded_or_refused(start: bytes, rest: bytes) -> None:
    check_decodes_or_raises_file_error(start + rest)


def test_too_many_pages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_decoding, "MAX_PAGES", 2)
    with pytest.raises(FileError, match="more than 2 pages"):
        list(decode_pages("cell.tif", GOOD["pages"]))
