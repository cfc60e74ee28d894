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

from nephros.data.in_memory_file import Held
from nephros.errors import UserError

SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg"})
FORMATS = ("PNG", "TIFF", "JPEG")
"""Those alone are opened, whatever a file is called: some of Pillow's other readers start programs."""
GREY, COLOUR = ("1", "L", "LA", "La"), ("RGB", "RGBA", "RGBa", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
MOST_BYTES = 1 << 30
MOST_PIXELS = 25_000_000
"""Of a page: far more than any picture of one cell, and few enough to decode."""
MOST_PAGES = 100_000
LEAST_SIDE = 4
"""Pixels below which a picture shows no cell."""

# Whatever Pillow's readers raise on lost or changed bytes; a bomb is an image far larger than any picture of one cell.
DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, AttributeError, OverflowError, struct.error,
    zlib.error, RuntimeError, AssertionError, ZeroDivisionError, NotImplementedError,
)  # fmt: skip
_EMPTY = "is empty (0 bytes), damaged or not an image; replace or remove it."
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError)
_KINDS = (
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


_quiet, _within, _door = contextlib.ExitStack(), 0, threading.Lock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within the block, which several threads may share, Pillow says nothing of odd metadata and a bomb is an error."""
    global _within
    with _door:
        # Python's filters are the whole process's: the first to enter changes them, the last to leave puts them back.
        if _within == 0:
            _quiet.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("error", Image.DecompressionBombWarning)
        _within += 1
    try:
        yield
    finally:
        with _door:
            _within -= 1
            if _within == 0:
                _quiet.close()


def read_bytes(path: Path | Held) -> bytes:
    """Return a file's bytes; UserError when it can't be read, is no file, is empty or larger than 1 GiB."""
    if isinstance(path, Held):
        if not path.data:
            raise UserError(f"{path} {_EMPTY}")
        return path.data
    try:
        about = os.stat(path)
        if stat.S_ISDIR(about.st_mode):
            raise UserError(f"{path} is a folder, not a picture; name the files in it.")
        if not stat.S_ISREG(about.st_mode):
            raise UserError(f"{path} is a device or a pipe, not a file; copy what it holds into a file.")
        if about.st_size == 0:
            raise UserError(f"{path} {_EMPTY}")
        if about.st_size > MOST_BYTES:
            raise UserError(f"{path} has {about.st_size / 1e9:.1f} GB, too many for pictures of cells; divide it up.")
        return path.read_bytes()
    except UserError:
        raise
    except FileNotFoundError:
        if path.is_symlink():
            raise UserError(f"{path} can't be read (its link leads nowhere); check the file.") from None
        raise UserError(f"{path} can't be read (it does not exist); check the name.") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{path} can't be read ({why}); check the file and its permissions.") from error


def decode(name: object, data: bytes) -> NDArray[Any]:
    """Return the pixels of a file with one image: (h, w) uint8 or a wider integer where grey, (h, w, 3) uint8 in colour.

    Alpha is dropped. UserError, beginning with `name`, when the bytes are damaged, of another kind, or hold several images.
    """
    with _opened(name, data) as image:
        frames = _frames(image)
        if frames > 1:
            raise UserError(
                f"{name} has {frames} pages or frames; save one picture a cell, such as its maximum projection."
            )
        return _pixels(name, image)


def decode_pages(name: object, data: bytes) -> Iterator[NDArray[Any]]:
    """Yield the pixels of each page, as `decode` returns them: several of a TIFF, one of other files.

    UserError at the page that can't be read; those before have been yielded.
    """
    with _opened(name, data) as image:
        frames = _frames(image)
        if frames > 1 and image.format != "TIFF":
            raise UserError(
                f"{name} is animated or has {frames} frames; save one picture a cell, or a TIFF with a page a cell."
            )
        if frames > MOST_PAGES:
            raise UserError(f"{name} has {frames:,} pages; divide it into files of at most {MOST_PAGES:,}.")
        for page in range(frames):
            where = f"{name}, page {page}," if frames > 1 else name
            with _told(where, data):
                image.seek(page)
            yield _pixels(where, image)


@contextlib.contextmanager
def _opened(name: object, data: bytes) -> Iterator[Image.Image]:
    with _told(name, data):
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    with image, _told(name, data):
        yield image


@contextlib.contextmanager
def _told(name: object, data: bytes) -> Iterator[None]:
    """Turn what decoding raises into one sentence."""
    try:
        yield
    except UserError:
        raise
    except _BOMB as error:
        raise UserError(f"{name} is far too large for a picture of one cell; crop the cells out first.") from error
    except DAMAGE as error:
        kind = next((words for start, words in _KINDS if data.lstrip()[: len(start)] == start), None)
        if kind is not None:
            raise UserError(
                f"{name} is {kind}, not a picture that is read here; save it as PNG, TIFF or JPEG."
            ) from error
        raise UserError(f"{name} is damaged or not an image; replace or remove it.") from error


def _frames(image: Image.Image) -> int:
    return int(getattr(image, "n_frames", 1))


def _pixels(name: object, image: Image.Image) -> NDArray[Any]:
    """Return the current page's pixels."""
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise UserError(
            f"{name} has {width}x{height} pixels, far too large for a picture of one cell; crop the cells out first."
        )
    with _told(name, b""):
        image.load()
        mode = image.mode
        if mode in GREY:
            return np.asarray(image.convert("L"))
        if mode in COLOUR:
            # A palette with transparency is read by way of RGBA, so that alpha is dropped and not blended.
            return np.asarray((image.convert("RGBA") if mode in ("P", "PA") else image).convert("RGB"))
        if mode.startswith("I"):
            return np.asarray(image)
    raise UserError(f"{name} has pixels of Pillow's mode {mode}; save it with 8 or 16 bits a pixel.")


def to_grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (h, w) uint8: .299 red + .587 green + .114 blue of (h, w, 3) (ITU-R 601), or the grey image itself."""
    return image if image.ndim == 2 else np.asarray(Image.fromarray(image).convert("L"))


def to_eight_bits(image: NDArray[Any], white: float) -> NDArray[np.uint8]:
    """Return the image with `white` as 255 and all above it too; an 8-bit image stays as it is."""
    if image.dtype == np.uint8:
        return image
    return np.rint(np.clip(image * (255 / max(white, 1)), 0, 255)).astype(np.uint8)


def fit_into(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return a (height, width) or (height, width, 3) uint8 picture of an (h, w) or (h, w, 3) one.

    It is shrunk or enlarged with Pillow's bicubic filter, as training cells were, until it just fits, its shape kept;
    what stays free around it is black.
    """
    if image.shape[:2] == (height, width):
        return image
    scale = min(height / image.shape[0], width / image.shape[1])
    h, w = (max(1, min(most, round(side * scale))) for side, most in zip(image.shape, (height, width), strict=False))
    resized = np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BICUBIC))
    if (h, w) == (height, width):
        return resized
    whole = np.zeros((height, width, *image.shape[2:]), dtype=np.uint8)
    top, left = (height - h) // 2, (width - w) // 2
    whole[top : top + h, left : left + w] = resized
    return whole
