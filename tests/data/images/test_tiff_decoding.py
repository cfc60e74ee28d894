"""TIFF pages that Pillow can't decode are read with tifffile and imagecodecs, or named for what they are."""

from __future__ import annotations

import io
import struct
import sys
from typing import Any

import numpy as np
import pytest
import tifffile

from nephros.data.images import tiff_decoding
from nephros.data.images.decoding import decode_image, decode_pages
from nephros.data.images.tiff_decoding import open_tags, pillow_reads_stored_values
from nephros.errors import FileError, MissingDependency

NOISE = np.random.default_rng(0).integers(0, 1 << 16, (26, 30), dtype=np.uint16)
SMOOTH = np.add.outer(np.arange(26), np.arange(30)).astype(np.uint8) * 3
LOSSLESS = ["jpegxl", "lerc", "png", "pixtiff", "jpeg2000", "zstd", "lzma", "jpegxr", "lzw", "deflate"]


def encode(pixels: np.ndarray[Any, Any], **kwargs: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric=kwargs.pop("photometric", "minisblack"), **kwargs)
    return file.getvalue()


ZSTD, JPEG_XL = encode(NOISE, compression="zstd"), encode(NOISE, compression="jpegxl")


def with_compression(code: int) -> bytes:
    """Return an uncompressed TIFF that claims another compression."""
    data, uncompressed = encode(NOISE), struct.pack("<HHI", 259, 3, 1)
    at = data.index(uncompressed) + len(uncompressed)
    return data[:at] + struct.pack("<H", code) + data[at + 2 :]


@pytest.mark.parametrize("compression", LOSSLESS)
@pytest.mark.parametrize("pixels", [SMOOTH, NOISE], ids=["8 bits", "16 bits"])
def test_stored_values_are_read_in_any_compression(compression: str, pixels: np.ndarray[Any, Any]) -> None:
    data = encode(pixels, compression=compression)
    assert np.array_equal(decode_image("cell.tif", data).pixels, pixels)
    (page,) = decode_pages("cell.tif", data)
    assert np.array_equal(page.pixels, pixels)


def test_color_and_planes_are_read() -> None:
    rgb = np.stack([SMOOTH, SMOOTH // 2, SMOOTH // 3], axis=-1)
    assert np.array_equal(decode_image("a", encode(rgb, photometric="rgb", compression="jpegxl")).pixels, rgb)
    planes = np.ascontiguousarray(np.moveaxis(rgb, -1, 0))
    data = encode(planes, photometric="rgb", planarconfig="separate", compression="jpegxl")
    assert np.array_equal(decode_image("a", data).pixels, rgb)
    webp = decode_image("a", encode(rgb, photometric="rgb", compression="webp")).pixels
    assert np.abs(webp.astype(int) - rgb).mean() < 12  # a lossy compression


@pytest.mark.parametrize("kwargs", [{"byteorder": ">", "bigtiff": True}, {"tile": (16, 16), "compression": "jpegxl"}])
def test_layouts_are_read(kwargs: dict[str, Any]) -> None:
    for pixels in (SMOOTH, NOISE):
        assert np.array_equal(decode_image("a", encode(pixels, **kwargs)).pixels, pixels)


@pytest.mark.parametrize("bits", [3, 7, 9, 10, 12, 14])
def test_packed_bits_are_read(bits: int) -> None:
    pixels = (NOISE >> (16 - bits)).astype(np.uint8 if bits < 8 else np.uint16)
    expected = np.rint(pixels.astype(np.float64) * (255 / ((1 << bits) - 1))) if bits < 8 else pixels
    assert np.array_equal(decode_image("a", encode(pixels, bitspersample=bits)).pixels, expected)


def test_every_page_is_read_and_several_are_no_single_image() -> None:
    stack = np.stack([NOISE, NOISE.T.reshape(NOISE.shape), NOISE[::-1]])
    data = encode(stack, compression="jpegxl", metadata=None)
    assert np.array_equal(np.stack([page.pixels for page in decode_pages("a", data)]), stack)
    with pytest.raises(FileError, match="3 pages"):
        decode_image("a", data)


def test_an_inverted_photometric_tag_means_the_same_in_any_compression() -> None:
    plain, compressed = (encode(SMOOTH, photometric="miniswhite", compression=name) for name in (None, "jpegxl"))
    assert np.array_equal(decode_image("a", plain).pixels, decode_image("a", compressed).pixels)


@pytest.mark.parametrize(("code", "expected"), [(48124, "Jetraw"), (12345, "compression 12345"), (9, "compression 9")])
def test_a_compression_that_nothing_decodes_is_named(code: int, expected: str) -> None:
    with pytest.raises(FileError, match=rf"cell\.tif is compressed with {expected}") as exc_info:
        decode_image("cell.tif", with_compression(code))
    assert "damaged" not in str(exc_info.value)


@pytest.mark.parametrize("compression", ["jpegxl", "lerc", "png", "pixtiff", "jpeg2000", "jpegxr"])
def test_what_is_cut_short_or_changed_is_damaged(compression: str) -> None:
    data = encode(NOISE, compression=compression)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        start, size = file.pages.first.dataoffsets[0], file.pages.first.databytecounts[0]
    with pytest.raises(FileError, match="cut short"):
        decode_image("a", data[: start + size // 2])
    with pytest.raises(FileError, match="damaged"):
        decode_image("a", data[:start] + bytes(size) + data[start + size :])


@pytest.mark.parametrize("name", ["imagecodecs", "tifffile"])
def test_without_the_extra_the_error_names_the_compression_and_the_install_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match=r"JPEG XL.*pip install 'nephros\[stacks\]'"):
        decode_image("a", JPEG_XL)
    assert np.array_equal(decode_image("a", ZSTD).pixels, NOISE)  # Pillow's own


@pytest.mark.parametrize(
    ("pixels", "kwargs", "expected"),
    [
        (SMOOTH.astype(np.complex64), {}, "1 complex sample of 64 bits"),
        (np.stack([SMOOTH] * 3, axis=-1), {"photometric": "cielab", "compression": "jpegxl"}, "CIE Lab"),
    ],
)
def test_pixels_of_other_types_are_named(pixels: np.ndarray[Any, Any], kwargs: dict[str, Any], expected: str) -> None:
    with pytest.raises(FileError, match=expected) as exc_info:
        decode_image("cell.tif", encode(pixels, **kwargs))
    assert "damaged" not in str(exc_info.value)


def test_pages_that_are_too_large_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nephros.data.images.decoding.MAX_PIXELS", 700)
    with pytest.raises(FileError, match="30x26 pixels, far too large"):
        decode_image("a", JPEG_XL)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(NOISE, compression="lzw"), True),
        (JPEG_XL, False),
        (with_compression(50002), False),
        (encode(NOISE.astype(np.float32)), False),
        (encode(NOISE.astype(np.int16)), False),
        (encode(NOISE.astype(np.uint32)), False),
        (encode(np.stack([NOISE] * 3, axis=-1), photometric="rgb"), False),
        (encode(np.stack([SMOOTH] * 3, axis=-1), photometric="rgb"), True),
    ],
)
def test_what_pillow_reads_as_it_is_stored(data: bytes, expected: bool) -> None:
    tiff_decoding._pillow_decodes.cache_clear()
    tags = open_tags(data[:8])
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    assert pillow_reads_stored_values(tags) is expected
