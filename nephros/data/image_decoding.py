"""Read pictures of cells from bytes that anyone may have made: PNG, TIFF and JPEG, each bad one with a sentence of its own."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nephros.data.in_memory_file import InMemoryFile
from nephros.errors import NephrosError

IMAGE_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg"})
PILLOW_FORMATS = ("PNG", "TIFF", "JPEG")
"""Those alone are opened, whatever a file is called: some of Pillow's other readers start programs."""
GRAYSCALE_MODES, COLOR_MODES = (
    ("1", "L", "LA", "La"),
    ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"),
)
MAX_FILE_BYTES = 1 << 30
MAX_PIXELS = 25_000_000
"""Of a page: far more than any picture of one cell, and few enough to decode."""
MAX_PAGES = 100_000
MIN_SIDE = 4
"""Pixels below which a picture shows no cell."""

# Whatever Pillow's readers raise on lost or changed bytes; a bomb is an image far larger than any picture of one cell.
DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, AttributeError, OverflowError, struct.error,
    zlib.error, RuntimeError, AssertionError, ZeroDivisionError, NotImplementedError,
)  # fmt: skip
_EMPTY_FILE_MESSAGE = "is empty (0 bytes), damaged or not an image; replace or remove it."
_BOMB_ERRORS = (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError)
_FOREIGN_MAGIC = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"RIFF", "a WebP, or sound"),
    (b"%PDF", "a PDF"),
    (b"PK", "a zip archive"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\x93NUMPY", "a single .npy array"),
    (b"\x80", "a pickle, which is never opened, or unknown data"),
    (b"\x89HDF", "an HDF5 file"),
    (b"<", "text such as SVG, XML or HTML"),
    (b"%!PS", "PostScript"),
)
"""First bytes of what is given in place of pictures, and what to call it."""


_warning_filters, _filter_depth, _filter_lock = contextlib.ExitStack(), 0, threading.Lock()


@contextlib.contextmanager
def strict_pillow_warnings() -> Iterator[None]:
    """Within the block, which several threads may share, Pillow says nothing of odd metadata and a bomb is an error."""
    global _filter_depth
    with _filter_lock:
        # Python's filters are the whole process's: the first to enter changes them, the last to leave puts them back.
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


def read_bytes(path: Path | InMemoryFile) -> bytes:
    """Return a file's bytes; UserError when it can't be read, is no file, is empty or larger than 1 GiB."""
    if isinstance(path, InMemoryFile):
        if not path.data:
            raise NephrosError(f"{path} {_EMPTY_FILE_MESSAGE}")
        return path.data
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise NephrosError(f"{path} is a folder, not a picture; name the files in it.")
        if not stat.S_ISREG(status.st_mode):
            raise NephrosError(f"{path} is a device or a pipe, not a file; copy what it holds into a file.")
        if status.st_size == 0:
            raise NephrosError(f"{path} {_EMPTY_FILE_MESSAGE}")
        if status.st_size > MAX_FILE_BYTES:
            raise NephrosError(
                f"{path} has {status.st_size / 1e9:.1f} GB, too many for pictures of cells; divide it up."
            )
        return path.read_bytes()
    except NephrosError:
        raise
    except FileNotFoundError:
        if path.is_symlink():
            raise NephrosError(f"{path} can't be read (its link leads nowhere); check the file.") from None
        raise NephrosError(f"{path} can't be read (it does not exist); check the name.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NephrosError(f"{path} can't be read ({reason}); check the file and its permissions.") from error


def decode_image(name: object, data: bytes) -> NDArray[Any]:
    """Return the pixels of a file with one image: (h, w) uint8 or a wider integer where grey, (h, w, 3) uint8 in colour.

    Alpha is dropped. UserError, beginning with `name`, when the bytes are damaged, of another kind, or hold several images.
    """
    with _open_image(name, data) as image:
        n_frames = _n_frames(image)
        if n_frames > 1:
            raise NephrosError(
                f"{name} has {n_frames} pages or frames; save one picture a cell, such as its maximum projection."
            )
        return _page_pixels(name, image)


def decode_pages(name: object, data: bytes) -> Iterator[NDArray[Any]]:
    """Yield the pixels of each page, as `decode` returns them: several of a TIFF, one of other files.

    UserError at the page that can't be read; those before have been yielded.
    """
    with _open_image(name, data) as image:
        n_frames = _n_frames(image)
        if n_frames > 1 and image.format != "TIFF":
            raise NephrosError(
                f"{name} is animated or has {n_frames} frames; save one picture a cell, or a TIFF with a page a cell."
            )
        if n_frames > MAX_PAGES:
            raise NephrosError(f"{name} has {n_frames:,} pages; divide it into files of at most {MAX_PAGES:,}.")
        for page in range(n_frames):
            page_name = f"{name}, page {page}," if n_frames > 1 else name
            with _translate_decode_errors(page_name, data):
                image.seek(page)
            yield _page_pixels(page_name, image)


@contextlib.contextmanager
def _open_image(name: object, data: bytes) -> Iterator[Image.Image]:
    with _translate_decode_errors(name, data):
        image = Image.open(io.BytesIO(data), formats=PILLOW_FORMATS)
    with image, _translate_decode_errors(name, data):
        yield image


@contextlib.contextmanager
def _translate_decode_errors(name: object, data: bytes) -> Iterator[None]:
    """Turn what decoding raises into one sentence."""
    try:
        yield
    except NephrosError:
        raise
    except _BOMB_ERRORS as error:
        raise NephrosError(f"{name} is far too large for a picture of one cell; crop the cells out first.") from error
    except DECODE_ERRORS as error:
        file_kind = next((words for start, words in _FOREIGN_MAGIC if data.lstrip()[: len(start)] == start), None)
        if file_kind is not None:
            raise NephrosError(
                f"{name} is {file_kind}, not a picture that is read here; save it as PNG, TIFF or JPEG."
            ) from error
        raise NephrosError(f"{name} is damaged or not an image; replace or remove it.") from error


def _n_frames(image: Image.Image) -> int:
    return int(getattr(image, "n_frames", 1))


def _page_pixels(name: object, image: Image.Image) -> NDArray[Any]:
    """Return the current page's pixels."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise NephrosError(
            f"{name} has {width}x{height} pixels, far too large for a picture of one cell; crop the cells out first."
        )
    with _translate_decode_errors(name, b""):
        image.load()
        mode = image.mode
        if mode in GRAYSCALE_MODES:
            return np.asarray(image.convert("L"))
        if mode in COLOR_MODES:
            # A palette with transparency is read by way of RGBA, so that alpha is dropped and not blended.
            return np.asarray((image.convert("RGBA") if mode in ("P", "PA") else image).convert("RGB"))
        if mode.startswith("I"):
            return np.asarray(image)
    raise NephrosError(f"{name} has pixels of Pillow's mode {mode}; save it with 8 or 16 bits a pixel.")


def to_grayscale(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (h, w) uint8: .299 red + .587 green + .114 blue of (h, w, 3) (ITU-R 601), or the grey image itself."""
    return image if image.ndim == 2 else np.asarray(Image.fromarray(image).convert("L"))


def to_uint8(image: NDArray[Any], white_level: float) -> NDArray[np.uint8]:
    """Return the image with `white_level` as 255 and all above it too; an 8-bit image stays as it is."""
    if image.dtype == np.uint8:
        return image
    return np.rint(np.clip(image * (255 / max(white_level, 1)), 0, 255)).astype(np.uint8)


def letterbox(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return a (height, width) or (height, width, 3) uint8 picture of an (h, w) or (h, w, 3) one.

    It is shrunk or enlarged with Pillow's bicubic filter, as training cells were, until it just fits, its shape kept;
    what stays free around it is black.
    """
    if image.shape[:2] == (height, width):
        return image
    scale = min(height / image.shape[0], width / image.shape[1])
    h, w = (max(1, min(limit, round(side * scale))) for side, limit in zip(image.shape, (height, width), strict=False))
    resized = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BICUBIC))
    if (h, w) == (height, width):
        return resized
    canvas = np.zeros((height, width, *image.shape[2:]), dtype=np.uint8)
    top, left = (height - h) // 2, (width - w) // 2
    canvas[top : top + h, left : left + w] = resized
    return canvas
