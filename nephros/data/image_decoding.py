"""Decoding of PNG, TIFF and JPEG images from bytes that are not to be trusted; each kind of bad file has its own message."""

from __future__ import annotations

import contextlib
import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nephros.data.foreign_formats import HEAD_BYTES, foreign_format, overview_format
from nephros.data.tiff_transcoding import needs_transcoding, transcode_pages, unsupported_pixels
from nephros.errors import FileError, NephrosError

IMAGE_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg"})
PILLOW_FORMATS = ("PNG", "TIFF", "JPEG")
"""The only formats that are decoded, whatever a file is called: some of Pillow's other decoders start programs."""
GRAYSCALE_MODES, COLOR_MODES = (
    ("1", "L", "LA", "La"),
    ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"),
)
MAX_PIXELS = 25_000_000
"""Pixels per page: far more than any image of one cell has, and few enough to decode."""
MAX_PAGES = 100_000
MIN_SIDE = 4
"""Shortest side, in pixels, of an image that can show a cell."""

# Everything that Pillow's decoders raise for missing or changed bytes.
DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, AttributeError, OverflowError, struct.error,
    zlib.error, RuntimeError, AssertionError, ZeroDivisionError, NotImplementedError,
)  # fmt: skip
# What Pillow raises for an image that is far larger than any image of one cell.
_BOMB_ERRORS = (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError)


_warning_filters, _filter_depth, _filter_lock = contextlib.ExitStack(), 0, threading.Lock()


@contextlib.contextmanager
def strict_pillow_warnings() -> Iterator[None]:
    """Silence Pillow's warnings about odd metadata, and turn its warning about decompression bombs into an error.

    Several threads may be inside the block at once.
    """
    global _filter_depth
    with _filter_lock:
        # Python's filters belong to the whole process: the first thread to enter sets them, the last to leave restores them.
        if _filter_depth == 0:
            _warning_filters.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("error", Image.DecompressionBombWarning)
        _filter_depth += 1
    try:
        yield
    finally:
        with _filter_lock:
            _filter_depth -= 1
            if _filter_depth == 0:
                _warning_filters.close()


def decode_image(name: object, data: bytes) -> NDArray[Any]:
    """Decode a file that holds a single image.

    Args:
        name: names the file at the beginning of an error's message.
        data: the file's bytes.

    Returns:
        (h, w) uint8 or a wider integer type where the image is grayscale, (h, w, 3) uint8 where it has color. Alpha is dropped.

    Raises:
        FileError: the bytes are damaged, are of another format, or hold several images.
    """
    if needs_transcoding(data):
        pages = transcode_pages(name, data, MAX_PIXELS)
        data = next(pages)
        if next(pages, None) is not None:
            raise FileError(
                str(name), f"{name} has several pages; save one image per cell, such as its maximum projection."
            )
    with _open_image(name, data) as image:
        n_frames = _n_frames(image)
        if n_frames > 1:
            raise FileError(
                str(name),
                f"{name} has {n_frames} pages or frames; save one image per cell, such as its maximum projection.",
            )
        return _page_pixels(name, image)


def decode_pages(name: object, data: bytes) -> Iterator[NDArray[Any]]:
    """Decode a file page by page: each page of a TIFF file, or the single image of any other file.

    Arguments and pages are those of `decode_image`.

    Raises:
        FileError: at the first page that can't be decoded, after the pages before it.
        MissingDependency: the pages are compressed in a way that needs the extra `stacks`.
    """
    if needs_transcoding(data):
        for page, page_data in enumerate(transcode_pages(name, data, MAX_PIXELS)):
            if page == MAX_PAGES:
                raise FileError(str(name), f"{name} has more than {MAX_PAGES:,} pages; split it into smaller files.")
            with _open_image(name, page_data) as image:
                yield _page_pixels(name, image)
        return
    with _open_image(name, data) as image:
        n_frames = _n_frames(image)
        if n_frames > 1 and image.format != "TIFF":
            raise FileError(
                str(name),
                f"{name} is animated or has {n_frames} frames; save one image per cell, or a TIFF with one page per cell.",
            )
        if n_frames > MAX_PAGES:
            raise FileError(str(name), f"{name} has {n_frames:,} pages; split it into files of at most {MAX_PAGES:,}.")
        for page in range(n_frames):
            page_name = f"{name}, page {page}," if n_frames > 1 else name
            with _translate_decode_errors(page_name, data):
                image.seek(page)
            yield _page_pixels(page_name, image)


@contextlib.contextmanager
def _open_image(name: object, data: bytes) -> Iterator[Image.Image]:
    if file_format := overview_format(name):
        raise FileError(str(name), file_format.message(name))
    with _translate_decode_errors(name, data):
        image = Image.open(io.BytesIO(data), formats=PILLOW_FORMATS)
    with image, _translate_decode_errors(name, data):
        yield image


@contextlib.contextmanager
def _translate_decode_errors(name: object, data: bytes) -> Iterator[None]:
    """Turn what Pillow raises into a FileError whose message begins with `name`."""
    try:
        yield
    except NephrosError:
        raise
    except _BOMB_ERRORS as error:
        raise _too_large_error(name) from error
    except DECODE_ERRORS as error:
        if file_format := foreign_format(data[:HEAD_BYTES], name):
            raise FileError(str(name), file_format.message(name)) from error
        if pixels_text := unsupported_pixels(data):
            raise FileError(
                str(name), f"{name} has {pixels_text}; save it in grayscale or RGB, with 8 or 16 bits per sample."
            ) from error
        raise FileError(
            str(name), f"{name} is damaged or not an image; copy it again from its source, or save it as PNG or TIFF."
        ) from error


def _too_large_error(name: object, size_text: str = "is") -> FileError:
    return FileError(str(name), f"{name} {size_text} far too large for an image of one cell; crop the cells out first.")


def _n_frames(image: Image.Image) -> int:
    return int(getattr(image, "n_frames", 1))


def _page_pixels(name: object, image: Image.Image) -> NDArray[Any]:
    """Return the current page's pixels."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large_error(name, f"has {width}x{height} pixels,")
    with _translate_decode_errors(name, b""):
        image.load()
        mode = image.mode
        if mode in GRAYSCALE_MODES:
            return np.asarray(image.convert("L"))
        if mode in COLOR_MODES:
            # A palette with transparency is converted to RGBA first, so that alpha is dropped and not blended.
            return np.asarray((image.convert("RGBA") if mode in ("P", "PA") else image).convert("RGB"))
        if mode.startswith("I"):
            return np.asarray(image)
    raise FileError(str(name), f"{name} has pixels of Pillow's mode {mode}; save it with 8 or 16 bits per pixel.")
