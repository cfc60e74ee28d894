"""Pictures from anyone: each odd or hostile file gets its own sentence, and no bytes at all raise anything else."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nephros.data import image_decoding, input_files
from nephros.data.image_decoding import decode_image, decode_pages, strict_pillow_warnings
from nephros.data.image_transforms import letterbox, to_grayscale, to_uint8
from nephros.data.input_files import read_bytes
from nephros.errors import NephrosError

NOISE = np.random.default_rng(0).integers(0, 256, (24, 20), dtype=np.uint8)


def encode(image: Image.Image, image_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """Return a PNG that says it is so large and holds next to nothing."""

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
    "floats": (encode(Image.fromarray(NOISE.astype(np.float32)), "TIFF"), "mode F"),
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
def test_good_files_are_read(name: str) -> None:
    pages = list(decode_pages(name, GOOD[name]))
    assert len(pages) == (3 if name == "pages" else 1)
    if name in ("png", "tiff", "lzw", "deflate"):
        assert np.array_equal(pages[0], NOISE)
    if name in ("png16", "tiff16"):
        assert np.array_equal(pages[0], NOISE.astype(np.uint16) * 200)
    if name in ("palette", "rgba", "cmyk"):
        assert pages[0].shape == (24, 20, 3)
    if name == "pages":
        assert [int(page[0, 0]) for page in pages] == [1, 2, 3]


@pytest.mark.parametrize("name", BAD)
def test_each_bad_file_has_its_own_sentence(name: str) -> None:
    data, expected = BAD[name]
    for read in (decode_image, lambda *given: list(decode_pages(*given))):
        with strict_pillow_warnings(), pytest.raises(NephrosError, match=expected) as caught:
            read("cell.png", data)
        assert str(caught.value).startswith("cell.png")
        assert "\n" not in str(caught.value)


def test_pages_before_a_damaged_one_are_kept() -> None:
    data = bytearray(GOOD["pages"])
    with Image.open(io.BytesIO(bytes(data))) as image:
        image.seek(2)
        offset = image.tag_v2.get(273)[0]  # type: ignore[attr-defined]
        tag_position = bytes(data).rindex(struct.pack("<HHII", 273, 4, 1, offset))
    data[tag_position + 8 : tag_position + 12] = struct.pack("<I", len(data) + 1000)
    first_pixels: list[int] = []
    with strict_pillow_warnings(), pytest.raises(NephrosError, match=r"cell\.tif, page 2, is damaged"):
        first_pixels.extend(int(page[0, 0]) for page in decode_pages("cell.tif", bytes(data)))
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


def check_images_or_a_sentence(data: bytes) -> None:
    message = ""
    try:
        with strict_pillow_warnings():
            for page in decode_pages("cell", data):
                assert page.ndim in (2, 3)
                assert page.dtype.kind in "iu"
    except NephrosError as error:
        message = str(error)
    assert not message or message.startswith("cell")
    assert "\n" not in message


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(GOOD)), mutations)
def test_mutated_files_give_an_image_or_a_sentence(name: str, steps: list[tuple[str, int, int]]) -> None:
    check_images_or_a_sentence(mutate(GOOD[name], steps))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"\xff\xd8\xff", b""]), st.binary(max_size=300))
def test_any_bytes_give_an_image_or_a_sentence(start: bytes, rest: bytes) -> None:
    check_images_or_a_sentence(start + rest)


def test_what_is_no_readable_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "large.png").write_bytes(bytes(100))
    cases: dict[str, str] = {
        "empty.png": "is empty",
        "gone.png": "leads nowhere",
        "none.png": "does not exist",
        "pipe.png": "device or a pipe",
        ".": "is a folder",
        "a\0b": "can't be read",
    }
    for name, expected in cases.items():
        with pytest.raises(NephrosError, match=expected) as caught:
            read_bytes(tmp_path / name)
        assert str(caught.value).count("can't be read") <= 1
    monkeypatch.setattr(input_files, "MAX_FILE_BYTES", 99)
    with pytest.raises(NephrosError, match="too much for images"):
        read_bytes(tmp_path / "large.png")


def test_too_many_pages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_decoding, "MAX_PAGES", 2)
    with pytest.raises(NephrosError, match="has 3 pages"):
        list(decode_pages("cell.tif", GOOD["pages"]))


def test_colours_become_grey_by_their_luminance() -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90]]], dtype=np.uint8)
    assert to_grayscale(colours).tolist() == [[76, 150, 29, 90]]
    assert to_grayscale(NOISE) is NOISE


def test_white_becomes_255() -> None:
    deep = np.array([[0, 1024, 4096, 65535]], dtype=np.uint16)
    assert to_uint8(deep, 65535).tolist() == [[0, 4, 16, 255]]
    assert to_uint8(deep, 4096).tolist() == [[0, 64, 255, 255]]
    assert to_uint8(NOISE, 7) is NOISE


@pytest.mark.parametrize(
    ("shape", "inside"),
    [
        ((56, 56), (slice(None), slice(None))),
        ((14, 28), (slice(7, 21), slice(None))),
        ((40, 20), (slice(None), slice(7, 21))),
        ((5, 90_000), (slice(13, 14), slice(None))),
    ],
)
def test_pictures_are_fitted_with_their_shape_kept(shape: tuple[int, int], inside: tuple[slice, slice]) -> None:
    fitted = letterbox(np.full(shape, 200, dtype=np.uint8), 28, 28)
    assert fitted.shape == (28, 28)
    assert (fitted[inside] == 200).all()
    fitted = fitted.copy()
    fitted[inside] = 0
    assert not fitted.any()


def test_fitting_is_what_training_cells_went_through() -> None:
    from nephros.data.image_transforms import resize_images

    square = np.random.default_rng(1).integers(0, 256, (32, 32), dtype=np.uint8)
    assert np.array_equal(letterbox(square, 28, 28), resize_images(square[None])[0])
    colour = np.stack([square] * 3, axis=2)
    assert np.array_equal(letterbox(colour, 28, 28)[..., 1], letterbox(square, 28, 28))
