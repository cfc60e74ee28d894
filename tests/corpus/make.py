"""Write tests/corpus/hostile: small files such as a careless or hostile sender would provide, each below 2 KB.

`python -m tests.corpus.make` writes them again; tests/inference/test_hostile_files.py lists the expected results.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

OUTPUT_DIR = Path(__file__).parent / "hostile"
MAX_BYTES = 2048
CELL = np.random.default_rng(0).integers(0, 120, (14, 12), dtype=np.uint8)
GRAYSCALE_IMAGE = Image.fromarray(CELL)
IMAGE_16_BIT = Image.fromarray(CELL.astype(np.uint16) * 300)


def main() -> None:
    """Write every file."""
    OUTPUT_DIR.mkdir(exist_ok=True)
    for make_files in (_png_files, _jpeg_files, _tiff_files, _npz_files, _other_files):
        for name, data in make_files():
            assert len(data) < MAX_BYTES, name
            (OUTPUT_DIR / name).write_bytes(data)


def _encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def _flip_bytes(data: bytes, *offsets: int) -> bytes:
    changed = bytearray(data)
    for offset in offsets:
        changed[offset] ^= 0x55
    return bytes(changed)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_files() -> Iterator[tuple[str, bytes]]:
    good = _encode(GRAYSCALE_IMAGE, "PNG")
    frames = [Image.new("L", (9, 9), value) for value in (1, 2, 3)]

    def png_claiming(width: int, height: int) -> bytes:
        header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        return good[:8] + header + _chunk(b"IDAT", zlib.compress(bytes(999))) + _chunk(b"IEND", b"")

    yield "good.png", good
    yield "truncated.png", good[: len(good) // 2]
    yield "only-a-signature.png", good[:8]
    yield "flipped-header.png", _flip_bytes(good, 18)
    yield "flipped-pixels.png", _flip_bytes(good, 60, 80, 100)
    yield "bomb.png", png_claiming(60_000, 60_000)
    yield "one-long-line.png", png_claiming(1 << 30, 1)
    yield "no-width.png", png_claiming(0, 5)
    yield "text-bomb.png", good[:33] + _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_300_000), 9)) + good[33:]
    yield "endless-chunk.png", good[:33] + struct.pack(">I", 0x7FFFFFFF) + b"tEXt" + good[33:]
    yield "1x1.png", _encode(Image.new("L", (1, 1), 9), "PNG")
    yield "16-bit.png", _encode(IMAGE_16_BIT, "PNG")
    yield "rgba.png", _encode(GRAYSCALE_IMAGE.convert("RGBA"), "PNG")
    yield "palette-with-alpha.png", _encode(GRAYSCALE_IMAGE.convert("RGB").quantize(16), "PNG", transparency=3)
    yield "animated.png", _encode(frames[0], "PNG", save_all=True, append_images=frames[1:])


def _jpeg_files() -> Iterator[tuple[str, bytes]]:
    good = _encode(GRAYSCALE_IMAGE, "JPEG")
    size = good.index(b"\xff\xc0") + 5  # height and width in the frame header
    yield "good.jpg", good
    yield "truncated.jpg", good[: len(good) // 2]
    yield "flipped.jpg", _flip_bytes(good, 30, 200, len(good) - 20)
    yield "bomb.jpg", good[:size] + struct.pack(">HH", 65_000, 65_000) + good[size + 4 :]
    yield "cmyk.jpg", _encode(GRAYSCALE_IMAGE.convert("CMYK"), "JPEG", quality=30)


def _encode_tiff(volume: np.ndarray[Any, Any], **kwargs: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, volume, photometric="minisblack", **kwargs)
    return file.getvalue()


def _overwrite_tags(data: bytes, **tags: int) -> bytes:
    with tifffile.TiffFile(file := io.BytesIO(data), mode="r+") as opened:
        for name, value in tags.items():
            opened.pages.first.tags[name].overwrite(value, dtype="I")
    return file.getvalue()


def _tiff_files() -> Iterator[tuple[str, bytes]]:
    good, plain = _encode(GRAYSCALE_IMAGE, "TIFF"), _encode_tiff(CELL, metadata=None)
    pages = [Image.fromarray(CELL[:6, :6] + value) for value in (1, 2, 3)]
    several = _encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    first = struct.unpack("<I", plain[4:8])[0]
    chain = first + 2 + 12 * struct.unpack("<H", plain[first : first + 2])[0]  # position of the offset of the next page
    stack = np.zeros((3, 5, 5), np.uint8)
    stack[1, 2, 2] = 200
    yield "good.tif", good
    yield "pages.tif", several
    yield "truncated.tif", good[: len(good) // 2]
    yield "truncated-pages.tif", several[:-40]
    yield "flipped-first-page.tif", _flip_bytes(good, 4, 5)
    yield "flipped-tags.tif", _flip_bytes(plain, first + 3, first + 20)
    yield "endless-pages.tif", plain[:chain] + struct.pack("<I", first) + plain[chain + 4 :]
    yield "bomb.tif", _overwrite_tags(plain, ImageWidth=60_000, ImageLength=60_000)
    yield (
        "deflate-bomb.tif",
        _overwrite_tags(
            _encode_tiff(np.zeros((900, 900), np.uint8), compression="zlib", metadata=None), ImageLength=1 << 30
        ),
    )
    yield "not-a-number.tif", _encode_tiff(np.full((9, 9), np.nan, np.float32), metadata=None)
    yield "negative.tif", _encode_tiff(CELL.astype(np.int32) - 60, metadata=None)
    yield "cmyk.tif", _encode(GRAYSCALE_IMAGE.convert("CMYK").resize((8, 8)), "TIFF")
    yield "stack.tif", _encode_tiff(stack, metadata={"axes": "ZYX"})
    yield "stack-of-nothing.ome.tif", _encode_ome_tiff(np.zeros((3, 9, 9), np.uint8))
    yield "truncated-stack.ome.tif", _encode_ome_tiff(stack)[:-30]
    yield (
        "many-slices-claimed.tif",
        _encode_tiff(CELL, metadata=None, description="ImageJ=1.53\nimages=999999999\nslices=999999999\n"),
    )
    yield (
        "odd-metadata.tif",
        _encode_tiff(CELL, metadata=None, description='<?xml version="1.0"?><OME><Pixels SizeZ="-3"'),
    )
    yield "entities.ome.tif", _encode_tiff(stack, metadata=None, description=_BILLION_LAUGHS)


_BILLION_LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + ']><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels SizeZ="3" SizeY="5" SizeX="5">&i;'
    + "</Pixels></Image></OME>"
)


def _encode_ome_tiff(volume: np.ndarray[Any, Any]) -> bytes:
    sizes = {"PhysicalSizeZ": 1, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5}
    return _encode_tiff(volume, ome=True, metadata={"axes": "ZYX", **sizes})


def _npz_bytes(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _zip_bytes(*members: tuple[str, bytes], **kwargs: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, **kwargs) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _npy_bytes(header: str, data: bytes = b"") -> bytes:
    header_bytes = (header + "\n").encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header_bytes)) + header_bytes + data


def _npy_header(shape: str, descr: str = "|u1") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"


def _npz_files() -> Iterator[tuple[str, bytes]]:
    cells = np.stack([CELL, CELL[::-1]])
    good = _npz_bytes(images=cells)
    valid_npy = _npy_bytes(_npy_header("(2, 14, 12)"), cells.tobytes())
    yield "good.npz", good
    yield "truncated.npz", good[: len(good) // 2]
    yield "flipped-bytes.npz", _flip_bytes(good, 60, 120)
    yield "flipped-directory.npz", _flip_bytes(good, len(good) - 10)
    yield "pickled.npz", _npz_bytes(images=np.array([{"a": 1}], dtype=object))
    yield (
        "one-array-pickled.npz",
        _npz_bytes(train_images=cells, val_images=np.array([None], dtype=object), test_images=cells),
    )
    yield (
        "path-traversal.npz",
        _zip_bytes(("../../../tmp/images.npy", valid_npy), ("/etc/passwd", b"x"), ("..\\images.npy", valid_npy)),
    )
    yield "terabytes-claimed.npz", _zip_bytes(("images.npy", _npy_bytes(_npy_header("(1000000000, 1000, 1000)"))))
    yield (
        "overflowing-shape.npz",
        _zip_bytes(("images.npy", _npy_bytes(_npy_header("(4294967296, 4294967296, 4294967296)")))),
    )
    yield "negative-shape.npz", _zip_bytes(("images.npy", _npy_bytes(_npy_header("(-2, 14, 12)"), cells.tobytes())))
    yield "nested-header.npz", _zip_bytes(("images.npy", _npy_bytes("(" * 4000 + ")" * 4000)))
    yield "code-in-header.npz", _zip_bytes(("images.npy", _npy_bytes("__import__('os').abort()")))
    yield "odd-dtype.npz", _zip_bytes(("images.npy", _npy_bytes(_npy_header("(2, 14, 12)", "|O"))))
    yield "floats.npz", _npz_bytes(images=np.full((2, 6, 6), np.nan, np.float32))
    yield "no-cells.npz", _npz_bytes(images=cells[:0])
    yield "twice.npz", _duplicate_member(valid_npy)
    yield "no-array.npz", _zip_bytes(("images.npy", b"hello"))
    yield "empty-archive.npz", b"PK\x05\x06" + bytes(18)
    yield "empty.npz", b""


def _duplicate_member(data: bytes) -> bytes:
    """Return an archive with two members of the same name, about which zipfile warns."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _zip_bytes(("images.npy", data), ("images.npy", data[:-5]))


def _other_files() -> Iterator[tuple[str, bytes]]:
    frames = [Image.new("L", (9, 9), value) for value in (1, 2, 3)]
    svg = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield "empty.png", b""
    yield "svg.png", svg
    yield "html.jpg", b"<!DOCTYPE html><script>alert(1)</script>"
    yield "animated-gif.png", _encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield "postscript.tif", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch hostile) (w) file\n"
    yield "pickle.png", b"\x80\x04cos\nabort\n)R."
    yield "gzip.tif", b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + bytes(20)
    yield "array.png", _npy_bytes(_npy_header("(14, 12)"), CELL.tobytes())
    yield "text.npz", b"images"
    yield "zeros.jpg", bytes(1000)


if __name__ == "__main__":
    main()
