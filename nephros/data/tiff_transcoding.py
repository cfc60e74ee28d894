"""TIFF pages that Pillow can't decode, as uncompressed TIFFs that it can, so that one rule turns every page into pixels."""

from __future__ import annotations

import contextlib
import functools
import io
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, TiffImagePlugin

from nephros.data.input_files import TIFF_MAGIC
from nephros.errors import FileError, NephrosError, require_extra

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tifffile import TiffFrame, TiffPage

_BIG_ENDIAN_BIGTIFF = b"MM\0+"
"""First bytes of files whose tags Pillow misreads."""
_BASIC_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
"""Codes of compressions that every build of Pillow decodes."""
_OPTIONAL_COMPRESSIONS = {34925: "lzma", 50000: "zstd"}
"""Codes of compressions that some builds decode, and Pillow's names for them."""
_COMPRESSION_NAMES = {
    6: "JPEG of TIFF 6.0", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC",
    34892: "lossy JPEG", 34925: "LZMA", 34926: "Zstandard", 34927: "WebP", 34933: "PNG", 34934: "JPEG XR", 48124: "Jetraw",
    50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 50013: "Pixtiff", 52546: "JPEG XL", 65000: "EER", 65001: "EER",
    65002: "EER",
}  # fmt: skip
_PILLOW_BITS = (1, 2, 4, 8)
"""Bits per sample below 16 that Pillow decodes; and 12, where the file is little-endian."""
_TAG_DEPTH, _TAG_COMPRESSION, _TAG_SAMPLES, _TAG_SAMPLE_FORMAT = 258, 259, 277, 339
_SAMPLE_KINDS = {2: "signed integer", 3: "floating-point", 5: "complex", 6: "complex"}
"""What the values of the tag SampleFormat mean; others are unsigned integers."""


def _compression_name(code: int) -> str:
    """Return what the compression with this code in a TIFF file is called."""
    return _COMPRESSION_NAMES.get(code, f"compression {code}")


def open_tags(header: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Return a reader of tags for a TIFF file that begins with `header`, 8 bytes, or 16 of a BigTIFF."""
    tags = TiffImagePlugin.ImageFileDirectory_v2(header)
    if header.startswith(_BIG_ENDIAN_BIGTIFF):  # Pillow looks for BigTIFF where only little-endian files say so
        tags._bigtiff = True
        (tags.next,) = struct.unpack(">Q", header[8:16])
    return tags


def needs_transcoding(data: bytes) -> bool:
    """Return whether Pillow can't decode the first page of a TIFF file, though it may be whole."""
    if not data.startswith(TIFF_MAGIC):
        return False
    if data.startswith(_BIG_ENDIAN_BIGTIFF) or not _pillow_decodes(_first_page_tag(data, _TAG_COMPRESSION, 1)):
        return True
    bits = _first_page_tag(data, _TAG_DEPTH, 1)
    return bits < 16 and bits not in _PILLOW_BITS and not (bits == 12 and data.startswith(b"II"))


@functools.cache
def _pillow_decodes(code: int) -> bool:
    """Return whether this build of Pillow decodes a compression; of the optional ones, whether it encodes a pixel."""
    if code not in _OPTIONAL_COMPRESSIONS:
        return code in _BASIC_COMPRESSIONS
    try:
        Image.new("L", (1, 1)).save(io.BytesIO(), "TIFF", compression=_OPTIONAL_COMPRESSIONS[code])
    except (OSError, ValueError, KeyError, RuntimeError):
        return False
    return True


def unsupported_pixels(data: bytes) -> str:
    """Return what the pixels of a TIFF file's first page consist of, where Pillow has no mode for them; else nothing."""
    if not data.startswith(TIFF_MAGIC):
        return ""
    try:
        TiffImagePlugin.TiffImageFile(io.BytesIO(data)).close()
    except SyntaxError as error:
        if "unknown pixel mode" in str(error):
            bits, n_samples = _first_page_tag(data, _TAG_DEPTH, 1), _first_page_tag(data, _TAG_SAMPLES, 1)
            kind = _SAMPLE_KINDS.get(_first_page_tag(data, _TAG_SAMPLE_FORMAT, 1), "integer")
            return f"{n_samples} {kind} sample{'s' if n_samples > 1 else ''} of {bits} bits per pixel"
    except Exception:  # it is damaged in another way
        return ""
    return ""


def _first_page_tag(data: bytes, tag: int, default: int) -> int:
    try:
        tags = open_tags(data[: 16 if b"+" in data[2:4] else 8])
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        value = tags.get(tag, default)
        return int(value[0] if isinstance(value, tuple) else value)
    except Exception:  # the page's decoder reports what is wrong
        return default


def transcode_pages(name: object, data: bytes, max_pixels: int) -> Iterator[bytes]:
    """Yield each page of a TIFF file as an uncompressed TIFF file with the same pixels, photometric tag and color map.

    Args:
        name: names the file at the beginning of an error's message.
        data: the file's bytes.
        max_pixels: pixels above which a page is not decoded.

    Raises:
        FileError: a page is damaged, too large, or compressed in a way that nothing here decodes.
        MissingDependency: tifffile or imagecodecs is not installed.
    """
    code = _first_page_tag(data, _TAG_COMPRESSION, 1)
    reason = (
        f"is compressed with {_compression_name(code)}"
        if not _pillow_decodes(code)
        else "has an unusual layout of pixels"
    )
    message = f"{name} {reason}, which needs tifffile and imagecodecs: pip install 'nephros[stacks]'."
    with require_extra(message, "tifffile", "imagecodecs"):
        import imagecodecs  # noqa: F401
        import tifffile
    page_name = name
    with _translate_errors(lambda: page_name), tifffile.TiffFile(io.BytesIO(data)) as file:
        for index, page in enumerate(file.pages):
            page_name = f"{name}, page {index}," if index else name
            yield _plain_tiff(page_name, page.aspage(), len(data), max_pixels)


@contextlib.contextmanager
def _translate_errors(page_name: Any) -> Iterator[None]:
    try:
        yield
    except NephrosError:
        raise
    except Exception as error:  # tifffile and imagecodecs raise nearly every kind for changed bytes
        raise FileError(
            str(page_name()), f"{page_name()} is damaged or cut short; copy it again from its source."
        ) from error


def decode_page(name: object, page: TiffPage | TiffFrame, n_bytes: int) -> NDArray[Any]:
    """Return the values of a page as they are stored, after checking that the file holds all of its bytes.

    Args:
        name: names the page at the beginning of an error's message.
        page: the page.
        n_bytes: size of the file.

    Raises:
        FileError: bytes are missing, or nothing here decodes the compression; damaged bytes raise nearly anything.
        MissingDependency: the compression needs imagecodecs, which is not installed.
    """
    # Several decoders return an image for the first half of its bytes.
    if any(start + size > n_bytes for start, size in zip(page.dataoffsets, page.databytecounts, strict=True)):
        raise FileError(
            str(name), f"{name} is cut short: it lacks the end of its pixels; copy it again from its source."
        )
    try:
        return page.asarray(maxworkers=1)
    except (ValueError, KeyError, ImportError) as error:
        compression = int(page.compression)
        reason = f"{name} is compressed with {_compression_name(compression)}, which"
        with require_extra(f"{reason} needs imagecodecs: pip install 'nephros[stacks]'.", "imagecodecs"):
            import imagecodecs  # noqa: F401
            import tifffile
        is_known = compression in {known.value for known in tifffile.COMPRESSION}
        if is_known and "imagecodecs" not in str(error) and "not supported" not in str(error):
            raise
        raise FileError(
            str(name), f"{reason} can't be decoded here; save it uncompressed or with LZW compression."
        ) from error


def _plain_tiff(name: object, page: TiffPage, n_bytes: int, max_pixels: int) -> bytes:
    import tifffile

    if page.imagewidth * page.imagelength > max_pixels:
        raise FileError(
            str(name),
            f"{name} has {page.imagewidth}x{page.imagelength} pixels, far too large for an image of one cell; crop the cells "
            "out first.",
        )
    pixels = decode_page(name, page, n_bytes)
    if pixels.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        pixels = np.moveaxis(pixels, 0, -1)
    is_color = page.photometric == tifffile.PHOTOMETRIC.YCBCR  # decoders of color compressions return RGB
    output = io.BytesIO()
    tifffile.imwrite(
        output,
        np.ascontiguousarray(pixels),
        photometric="rgb" if is_color and pixels.ndim == 3 else page.photometric,
        planarconfig="contig" if pixels.ndim == 3 else None,
        extrasamples=page.extrasamples or None,
        colormap=page.colormap,
        metadata=None,
    )
    return output.getvalue()
