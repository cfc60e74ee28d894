"""Plain PNG files are decoded as Pillow decodes them; all others, damaged ones included, are left to the usual way."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from nephros.data.images.decoded_image import DecodedImage
from nephros.data.images.decoder import ImageDecoder
from nephros.data.images.decoding import decode_pages, strict_pillow_warnings
from nephros.data.images.plain_png import decode_plain_png
from nephros.errors import FileError
from tests.conftest import square_images

CELL = square_images(1, 2, seed=0)[0][0]
MAX_PIXELS = 1_000_000


def png(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def plain_files() -> Iterator[tuple[str, bytes]]:
    """Yield files that hold nothing but an image of 8 bits, as different programs lay them out."""
    rng = np.random.default_rng(0)
    for level in (0, 1, 9):
        yield f"compressed {level}", png(CELL, compress_level=level)
    for shape in ((1, 1), (4, 31), (300, 200)):
        yield f"noise {shape}", png(rng.integers(0, 256, shape, dtype=np.uint8))
    yield "resolution", png(CELL, dpi=(300, 300))
    data = png(CELL)
    header, pixels, end = data[:33], data[41:-16], data[-12:]
    yield "several chunks", header + chunk(b"IDAT", pixels[:9]) + chunk(b"IDAT", pixels[9:]) + end
    yield "time at the end", header + chunk(b"IDAT", pixels) + chunk(b"tIME", b"1234567") + end
    yield "more rows than the header says", header + chunk(b"IDAT", zlib.compress(zlib.decompress(pixels) * 2)) + end


def other_files() -> Iterator[tuple[str, bytes]]:
    """Yield files with more than that, or less."""
    exif = Image.Exif()
    exif[274] = 6
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "x")
    yield "turned", png(CELL, exif=exif)
    yield "text", png(CELL, pnginfo=text)
    yield "transparent value", png(CELL, transparency=3)
    yield "16 bits", png(CELL.astype(np.uint16) * 257)
    yield "colors", png(np.stack([CELL] * 3, axis=2))
    yield "one bit", png(CELL > 90)
    data = png(CELL)
    header, pixels, end = data[:33], data[41:-16], data[-12:]
    rows = zlib.decompress(pixels)
    yield "bytes after the end", data + b"xx"
    yield "without an end", data[:-12]
    yield "cut", data[: len(data) // 2]
    yield "changed header", data[:20] + bytes([data[20] ^ 1]) + data[21:]
    yield "no width", data[:16] + bytes(4) + data[20:]
    yield "no pixels", header + end
    yield "empty pixels", header + chunk(b"IDAT", b"") + end
    yield "too few rows", header + chunk(b"IDAT", zlib.compress(rows[:99])) + end
    yield "unknown filter", header + chunk(b"IDAT", zlib.compress(b"\x09" + rows[1:])) + end
    yield "no compression", header + chunk(b"IDAT", rows) + end
    time = chunk(b"tIME", b"1234567")
    yield "pixels interrupted", header + chunk(b"IDAT", pixels[:9]) + time + chunk(b"IDAT", pixels[9:]) + end
    yield "changed time", header + time[:-1] + b"?" + chunk(b"IDAT", pixels) + end
    yield "length beyond the file", header + struct.pack(">I", 1 << 31) + b"IDAT" + pixels + end
    yield "a hundred chunks", header + b"".join(chunk(b"IDAT", pixels[i : i + 1]) for i in range(len(pixels))) + end
    yield "nothing", b""
    yield "text", b"no image"


@pytest.mark.parametrize(("kind", "data"), [*plain_files()])
def test_a_plain_file_has_the_pixels_that_pillow_reads(kind: str, data: bytes) -> None:
    pixels = decode_plain_png(data, MAX_PIXELS)
    assert pixels is not None
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(pixels, np.asarray(image))
    assert pixels.dtype == np.uint8
    assert decode_plain_png(data, pixels.size - 1) is None, "it has more pixels than are decoded here"


@pytest.mark.parametrize(("kind", "data"), [*other_files()])
def test_any_other_file_is_left_to_the_usual_way(kind: str, data: bytes) -> None:
    assert decode_plain_png(data, MAX_PIXELS) is None


@pytest.mark.parametrize(("kind", "data"), [*plain_files(), *other_files()])
def test_the_decoder_agrees_with_the_usual_way(kind: str, data: bytes) -> None:
    """The pixels, their meaning, or the sentence on what is wrong are the same."""

    def outcome(images: Iterator[DecodedImage]) -> DecodedImage | str:
        try:
            (image,) = images
        except FileError as error:
            return str(error)
        return image

    with strict_pillow_warnings():
        actual, expected = outcome(ImageDecoder().decode_pages("a.png", data)), outcome(decode_pages("a.png", data))
    if isinstance(actual, str) or isinstance(expected, str):
        assert actual == expected
        return
    np.testing.assert_array_equal(actual.pixels, expected.pixels)
    assert (actual.layout, actual.notes) == (expected.layout, expected.notes)


@pytest.mark.parametrize("seed", range(0, 200, 20))
def test_changed_bytes_never_give_other_pixels(seed: int) -> None:
    """Whatever of a file is changed, it is decoded to what Pillow makes of it, or left to the usual way."""
    data = png(CELL)
    for i in range(seed, seed + 20):
        rng = np.random.default_rng(i)
        changed = bytearray(data)
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            changed[position] = rng.integers(256)
        if (pixels := decode_plain_png(bytes(changed), MAX_PIXELS)) is not None:
            with Image.open(io.BytesIO(changed)) as image:
                np.testing.assert_array_equal(pixels, np.asarray(image))


def test_a_name_that_says_otherwise_is_believed() -> None:
    """A file that only gives an overview of its pixels is refused by its name, also where it is a PNG."""
    with pytest.raises(FileError):
        next(ImageDecoder().decode_pages("slide.mrxs", png(CELL)))
