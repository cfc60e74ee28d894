"""Stored values of PNG, TIFF and JPEG files, written by Pillow, imagecodecs and tifffile as users' programs write them."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from typing import Any, Literal

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from nephros.data.images.decoded_image import DecodedImage
from nephros.data.images.decoding import decode_image, decode_pages, strict_pillow_warnings
from nephros.errors import FileError, MissingDependency

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 4096, (20, 26), dtype=np.uint16)
"""12 bits of 16."""
RGB = RNG.integers(0, 65536, (20, 26, 3), dtype=np.uint16)
RGB8 = (RGB >> 8).astype(np.uint8)
FULL = np.full_like(GRAY, 65535)


def decode(data: bytes) -> DecodedImage:
    with strict_pillow_warnings():
        return decode_image("cell", data)


def tiff(pixels: NDArray[Any], **kwargs: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **{"photometric": "minisblack", **kwargs})
    return file.getvalue()


def saved(image: Image.Image, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def interlaced_png(pixels: NDArray[np.uint16]) -> bytes:
    """Return an Adam7 PNG of (h, w, 3) 16-bit color, without filters."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = [
        b"\0" + row.astype(">u2").tobytes()
        for top, left, down, right in passes
        for row in pixels[top::down, left::right]
        if row.size
    ]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, 2, 0, 0, 1)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def png(pixels: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))


WIDE_COLOR = {
    "png": png(RGB),
    "interlaced png": interlaced_png(RGB),
    "opaque png": png(np.dstack([RGB, FULL])),
    "tiff": tiff(RGB, photometric="rgb"),
    "big-endian tiff": tiff(RGB, photometric="rgb", byteorder=">"),
    "tiff in planes": tiff(np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate"),
    "lzw tiff": tiff(RGB, photometric="rgb", compression="lzw", predictor=True),
    "tiled tiff": tiff(RGB, photometric="rgb", tile=(16, 16)),
    "opaque tiff": tiff(np.dstack([RGB, FULL]), photometric="rgb"),
}


@pytest.mark.parametrize("name", WIDE_COLOR)
def test_color_of_16_bits_keeps_them(name: str) -> None:
    image = decode(WIDE_COLOR[name])
    assert image.pixels.dtype == np.uint16
    assert np.array_equal(image.pixels, RGB)
    assert (image.layout, image.notes) == ("planes" if name == "tiff in planes" else "color", ())


def test_imagej_s_signed_pixels_get_their_sign() -> None:
    signed = np.arange(-8, 776, dtype=np.int16).reshape(28, 28) * 4
    stored = (signed.astype(np.int32) + 32768).astype(np.uint16)
    calibration = {"cf": 0, "c0": -32768.0, "c1": 1.0, "vunit": "gray value"}
    image = decode(tiff(stored, imagej=True, metadata=calibration))
    assert np.array_equal(image.pixels, signed)
    assert "32,768" in image.notes[-1]
    pages = list(
        decode_pages("a.tif", tiff(np.stack([stored] * 3), imagej=True, metadata={"axes": "TYX", **calibration}))
    )
    assert [page.pixels.min() for page in pages] == [-32] * 3
    for other in ({"cf": 0, "c0": 0.0, "c1": 2.0}, {"cf": 20}, {"c0": -32768.0}):
        assert np.array_equal(decode(tiff(stored, imagej=True, metadata=other)).pixels, stored)


def test_more_planes_than_colors_are_channels() -> None:
    planes = np.moveaxis(np.dstack([RGB, RGB[..., 0] // 3]), 2, 0)
    for pixels in (planes, (planes >> 8).astype(np.uint8)):
        image = decode(tiff(pixels, photometric="rgb", planarconfig="separate", extrasamples=["unassalpha"]))
        assert image.layout == "channels"
    assert (
        decode(tiff((planes[:3] >> 8).astype(np.uint8), photometric="rgb", planarconfig="separate")).layout == "planes"
    )


@pytest.mark.parametrize("name", ["png", "tiff"])
def test_gray_with_alpha_of_16_bits_keeps_them(name: str) -> None:
    def encode(pixels: NDArray[Any]) -> bytes:
        return png(pixels) if name == "png" else tiff(pixels, planarconfig="contig", extrasamples=["unassalpha"])

    assert np.array_equal(decode(encode(np.dstack([GRAY, FULL]))).pixels, GRAY)
    with_mask = decode(encode(np.dstack([GRAY, RGB[..., 0]])))
    assert np.array_equal(with_mask.pixels, np.dstack([GRAY, RGB[..., 0]]))
    assert with_mask.layout == "gray"


SAMPLE_TYPES: dict[str, NDArray[Any]] = {
    "float32": GRAY.astype(np.float32) / 4095,
    "float64": GRAY.astype(np.float64),
    "float16": (GRAY // 8).astype(np.float16),
    "int8": (GRAY // 32).astype(np.int8),
    "int16": GRAY.astype(np.int16) - 5,
    "int32": GRAY.astype(np.int32) * 1000,
    "uint32": GRAY.astype(np.uint32) * 1_000_000,
    "uint64": GRAY.astype(np.uint64) << np.uint64(40),
    "big-endian": GRAY.astype(">u2"),
}


@pytest.mark.parametrize("name", SAMPLE_TYPES)
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_every_type_of_sample_keeps_its_values(name: str, compression: str | None) -> None:
    pixels = SAMPLE_TYPES[name]
    image = decode(tiff(pixels, compression=compression, byteorder=">" if name == "big-endian" else "<"))
    assert np.array_equal(image.pixels, pixels)
    assert image.pixels.dtype.isnative
    assert image.layout == "gray"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.bool_])
@pytest.mark.parametrize("compression", [None, "deflate", "jpegxl"])
def test_an_inverted_photometric_tag_leaves_the_stored_values(dtype: type, compression: str | None) -> None:
    pixels = GRAY > 2000 if dtype is np.bool_ else (GRAY >> (4 if dtype is np.uint8 else 0)).astype(dtype)
    if dtype is np.bool_ and compression == "jpegxl":
        compression = "packbits"
    plain, inverted = (
        decode(tiff(pixels, photometric=tag, compression=compression)) for tag in ("minisblack", "miniswhite")
    )
    assert np.array_equal(plain.pixels, pixels * np.uint8(255) if dtype is np.bool_ else pixels)
    assert np.array_equal(inverted.pixels, plain.pixels)
    assert not plain.notes
    assert len(inverted.notes) == 1


def test_a_missing_photometric_tag_leaves_the_stored_values() -> None:
    data = tiff(RGB8[..., 0])
    at = data.index(struct.pack("<HHI", 262, 3, 1))
    image = decode(data[:at] + struct.pack("<H", 65123) + data[at + 2 :])
    assert np.array_equal(image.pixels, RGB8[..., 0])


GREEN = np.zeros((3, 256), dtype=np.uint8)
GREEN[1] = np.arange(256)
INVERTED = np.repeat(np.arange(255, -1, -1, dtype=np.uint8)[None], 3, axis=0)


def indexed_png(indices: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(indices)
    image.putpalette(palette.T.tobytes())
    return saved(image, "PNG")


@pytest.mark.parametrize("palette", [GREEN, INVERTED], ids=["green", "inverted"])
@pytest.mark.parametrize("container", ["png", "tiff", "imagej"])
def test_a_lookup_table_leaves_the_stored_values(container: str, palette: NDArray[np.uint8]) -> None:
    indices = RGB8[..., 0]
    data = {
        "png": lambda: indexed_png(indices, palette),
        "tiff": lambda: tiff(indices, photometric="palette", colormap=palette.astype(np.uint16) * 257),
        "imagej": lambda: tiff(indices, imagej=True, metadata={"LUTs": [palette]}),
    }[container]()
    assert np.array_equal(decode(data).pixels, indices)


def test_a_lookup_table_of_8_bit_entries_in_a_tiff_is_read() -> None:
    data = tiff(RGB8[..., 0], photometric="palette", colormap=GREEN.astype(np.uint16))
    assert np.array_equal(decode(data).pixels, RGB8[..., 0])


def test_a_16_bit_lookup_table_leaves_the_stored_values() -> None:
    colormap = np.repeat(np.arange(65536, dtype=np.uint16)[None], 3, axis=0)
    assert np.array_equal(decode(tiff(GRAY, photometric="palette", colormap=colormap)).pixels, GRAY)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_real_colors_of_a_palette_are_read_as_colors(image_format: str) -> None:
    reduced = Image.fromarray(RGB8).quantize(64)
    image = decode(saved(reduced, image_format))
    assert image.layout == "color"
    assert np.array_equal(image.pixels, np.asarray(reduced.convert("RGB")))


def test_inks_and_lab_become_rgb_with_a_note() -> None:
    ramp = np.repeat(np.tile(np.arange(0, 252, 9, dtype=np.uint8), (9, 1))[..., None], 3, axis=2)
    for data in (
        saved(Image.fromarray(ramp).convert("CMYK"), "TIFF"),
        tiff(255 - np.dstack([ramp, 255 - ramp[..., :1] * 0]), photometric="separated"),
    ):
        image = decode(data)
        assert np.array_equal(image.pixels, ramp)
        assert "CMYK" in image.notes[0]
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.applyTransform(Image.fromarray(ramp), ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    assert lab is not None
    image = decode(saved(lab, "TIFF"))
    assert np.abs(image.pixels.astype(int) - ramp).max() <= 2
    assert "Lab" in image.notes[0]


def test_wide_inks_are_read() -> None:
    inks = np.dstack([65535 - RGB, np.zeros_like(GRAY)])
    assert np.array_equal(decode(tiff(inks, photometric="separated")).pixels, RGB)


@pytest.mark.parametrize("samples", [2, 3, 5])
def test_samples_that_are_no_colors_are_channels(samples: int) -> None:
    pixels = RNG.integers(0, 200, (20, 26, samples), dtype=np.uint8)
    image = decode(tiff(pixels, planarconfig="contig"))
    assert image.layout == "channels"
    assert np.array_equal(image.pixels, pixels)


@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha", "unspecified"])
def test_a_further_sample_is_kept_only_where_it_differs(extra: str) -> None:
    for further, n_planes in ((np.full_like(RGB8[..., :1], 255), 3), (RGB8[..., :1], 4)):
        image = decode(tiff(np.dstack([RGB8, further]), photometric="rgb", extrasamples=[extra]))
        assert image.layout == "color"
        assert image.pixels.shape[2] == n_planes
        assert np.array_equal(image.pixels[..., :3], RGB8)


def test_colors_without_a_right_reading_are_refused_by_name() -> None:
    with pytest.raises(FileError, match="CIE Lab"):
        decode(tiff(RGB, photometric="cielab"))
    with pytest.raises(FileError, match="complex"):
        decode(tiff(GRAY.astype(np.complex64)))
    with pytest.raises(FileError, match="color filter array"):
        decode(tiff(GRAY, photometric="cfa"))


ORIENTED = np.arange(20, dtype=np.uint8).reshape(4, 5) * 9


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("container", ["PNG", "JPEG", "TIFF", "wide TIFF", "wide PNG"])
def test_the_orientation_tag_turns_the_image(container: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    if container == "wide TIFF":
        pixels = np.dstack([ORIENTED] * 3).astype(np.uint16) * 16
        data = tiff(pixels, photometric="rgb", extratags=[(274, 3, 1, orientation, True)], metadata=None)
    elif container == "wide PNG":
        pixels = np.dstack([ORIENTED] * 3).astype(np.uint16) * 16
        chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
        plain = png(pixels)
        data = (
            plain[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + plain[33:]
        )
    else:
        pixels = np.kron(ORIENTED, np.ones((8, 8), dtype=np.uint8))  # blocks, which JPEG keeps
        data = saved(Image.fromarray(pixels), container, exif=exif)
    image = decode(data)
    upright = {
        1: pixels, 2: np.fliplr(pixels), 3: np.rot90(pixels, 2), 4: np.flipud(pixels), 5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1), 7: np.rot90(pixels, 2).swapaxes(0, 1), 8: np.rot90(pixels),
    }[orientation]  # fmt: skip
    assert image.pixels.shape == upright.shape
    assert np.abs(image.pixels.astype(int) - upright).max() <= 2
    assert any("orientation" in note for note in image.notes) is (orientation != 1)


def test_orientation_tags_that_mean_nothing_and_damaged_metadata_change_nothing() -> None:
    plain = saved(Image.fromarray(ORIENTED), "PNG")
    for content in (b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0", b"garbage"):
        chunk = b"eXIf" + content
        data = plain[:33] + struct.pack(">I", len(content)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + plain[33:]
        image = decode(data)
        assert np.array_equal(image.pixels, ORIENTED)
        assert not image.notes


@pytest.mark.parametrize("name", ["tiff", "lzw tiff", "tiff in planes", "png"])
def test_what_is_cut_short_is_damaged(name: str) -> None:
    data = WIDE_COLOR[name]
    for n_bytes in (len(data) // 2, len(data) - 40):
        if "tiff" in name and data[:n_bytes] == data:
            continue
        with pytest.raises(FileError, match=r"damaged|cut short"):
            decode(data[:n_bytes])


def test_without_tifffile_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    needing_it = [WIDE_COLOR["tiff"], tiff(SAMPLE_TYPES["float32"]), tiff(SAMPLE_TYPES["float64"])]
    plain = tiff(GRAY)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    for data in needing_it:
        with pytest.raises(MissingDependency, match=r"^cell .*pip install 'nephros\[stacks\]'"):
            decode(data)
    assert np.array_equal(decode(WIDE_COLOR["png"]).pixels, RGB)  # by Pillow alone
    assert np.array_equal(decode(plain).pixels, GRAY)


PAGES: dict[str, tuple[NDArray[Any], dict[str, Any]]] = {
    "gray": (GRAY, {}),
    "floats": (GRAY.astype(np.float32), {}),
    "signed": (GRAY.astype(np.int16), {}),
    "color": (RGB, {"photometric": "rgb"}),
    "planes": (np.moveaxis(RGB, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
    "inverted": (RGB8[..., 0], {"photometric": "miniswhite"}),
    "look-up table": (RGB8[..., 0], {"photometric": "palette", "colormap": GREEN.astype(np.uint16) * 257}),
    "turned": (GRAY, {"extratags": [(274, 3, 1, 6, True)], "metadata": None}),
    "compressed": (GRAY, {"compression": "zstd"}),
    "predicted": (RGB, {"photometric": "rgb", "compression": "lzw", "predictor": True}),
    "two samples": (RGB8[..., :2], {"planarconfig": "contig"}),
    "with alpha": (np.dstack([RGB8, RGB8[..., :1]]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "bits": (GRAY > 2000, {}),
}


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_several_is_read_as_a_file_of_its_own(name: str, byteorder: Literal["<", ">"]) -> None:
    pixels, kwargs = PAGES[name]
    single = decode(tiff(pixels, byteorder=byteorder, **kwargs))
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=byteorder) as writer:
        for _ in range(2):
            writer.write(pixels, contiguous=False, **{"photometric": "minisblack", "metadata": None, **kwargs})
    with strict_pillow_warnings():
        pages = list(decode_pages("cell", file.getvalue()))
    assert len(pages) == 2
    for page in pages:
        assert np.array_equal(page.pixels, single.pixels)
        assert (page.layout, page.notes) == (single.layout, single.notes)
