"""Decoding of PNG, TIFF and JPEG images from bytes that are not to be trusted; each kind of bad file has its own message."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from nephros.data.images.decoded_image import DecodedImage
from nephros.data.images.foreign_formats import HEAD_BYTES, foreign_format, overview_format
from nephros.data.images.stored_pixels import stored_pixels
from nephros.data.images.tiff_decoding import first_page_tags, is_misread_by_pillow, pillow_reads_stored_values
from nephros.data.images.tiff_description import SIGNED_NOTE, TAG_DESCRIPTION, imagej_offset, volume_note
from nephros.data.images.tiff_directories import walk_directories
from nephros.data.images.tiff_pages import TiffPages
from nephros.data.images.tiff_pixels import read_tiff_page
from nephros.data.input_files import TIFF_MAGIC
from nephros.errors import FileError, NephrosError

IMAGE_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg"})
PILLOW_FORMATS = ("PNG", "TIFF", "JPEG")
"""The only formats that are decoded, whatever a file is called: some of Pillow's other decoders start programs."""
MAX_PIXELS = 25_000_000
"""Pixels per page: far more than any image of one cell has, and few enough to decode."""
MAX_PAGES = 100_000

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


def decode_image(name: object, data: bytes) -> DecodedImage:
    """Decode a file that holds a single image, or the slices of a single nucleus, whose maximum is the image.

    Args:
        name: names the file at the beginning of an error's message.
        data: the file's bytes.

    Raises:
        FileError: the bytes are damaged, are of another format, or hold several images.
        MissingDependency: the pixels can be read with the extra `stacks` only.
    """
    return next(_signed_pages(data, iter([_decode_single(name, data)])))


def _decode_single(name: object, data: bytes) -> DecodedImage:
    offsets = _tiff_pages(name, data)
    if note := volume_note(data, len(offsets)):
        return _decode_volume(name, data, offsets, note)
    n_pages = len(offsets)
    with _open_image(name, data) as image:
        n_frames = n_pages or _n_frames(image)
        if n_frames > 1:
            raise FileError(
                str(name),
                f"{name} has {n_frames} pages or frames; save one image per cell, such as its maximum projection.",
            )
        return _decode_page(name, image, data)


def decode_pages(name: object, data: bytes) -> Iterator[DecodedImage]:
    """Decode a file page by page: each page of a TIFF file, the projection of a nucleus's slices, or the single image of any
    other file.

    Arguments and errors are those of `decode_image`; they are raised at the first page that can't be decoded, after the pages
    before it.
    """
    yield from _signed_pages(data, _decode_stored_pages(name, data))


def _signed_pages(data: bytes, images: Iterator[DecodedImage]) -> Iterator[DecodedImage]:
    """Yield images with the sign that ImageJ's calibration gives them."""
    tags = first_page_tags(data)
    offset = 0 if tags is None else imagej_offset(str(tags.get(TAG_DESCRIPTION, "")))
    for image in images:
        if offset and image.pixels.dtype == np.uint16:
            pixels = image.pixels.astype(np.int32) - offset
            yield replace(image, pixels=pixels, notes=(*image.notes, SIGNED_NOTE))
        else:
            yield image


def _decode_stored_pages(name: object, data: bytes) -> Iterator[DecodedImage]:
    offsets = _tiff_pages(name, data)
    if note := volume_note(data, len(offsets)):
        yield _decode_volume(name, data, offsets, note)
        return
    if len(offsets) > 1:
        yield from _decode_tiff_pages(name, data, offsets)
        return
    with _open_image(name, data) as image:
        if image is not None and image.format != "TIFF" and (n_frames := _n_frames(image)) > 1:
            raise FileError(
                str(name),
                f"{name} is animated or has {n_frames} frames; save one image per cell, or a TIFF with one page per cell.",
            )
        yield _decode_page(name, image, data)


def _tiff_pages(name: object, data: bytes) -> list[int]:
    """Return the places of a TIFF file's pages; none for other files."""
    return walk_directories(name, data, MAX_PAGES).offsets if data.startswith(TIFF_MAGIC) else []


def _decode_tiff_pages(name: object, data: bytes, offsets: list[int]) -> Iterator[DecodedImage]:
    if file_format := overview_format(name):
        raise FileError(str(name), file_format.message(name))
    pages = TiffPages(data)
    for index, offset in enumerate(offsets):
        if (pixels := pages.plain_pixels(offset, MAX_PIXELS)) is not None:
            yield DecodedImage(pixels, "gray")
            continue
        page_name = f"{name}, page {index},"
        with _translate_decode_errors(page_name, data):
            page_data = pages.single_page_file(offset)
        with _open_image(page_name, page_data) as image:
            yield _decode_page(page_name, image, page_data)


def _decode_volume(name: object, data: bytes, offsets: list[int], note: str) -> DecodedImage:
    """Return the maximum over the pages, which are the slices of one nucleus."""
    pages = list(_decode_tiff_pages(name, data, offsets))
    with _translate_decode_errors(name, data):
        return DecodedImage.projection(pages, note)


@contextlib.contextmanager
def _open_image(name: object, data: bytes) -> Iterator[Image.Image | None]:
    """Open an image in Pillow, or yield None for a TIFF file with a kind of pixels that Pillow doesn't know."""
    if file_format := overview_format(name):
        raise FileError(str(name), file_format.message(name))
    image: Image.Image | None = None
    with _translate_decode_errors(name, data):
        try:
            image = None if is_misread_by_pillow(data) else Image.open(io.BytesIO(data), formats=PILLOW_FORMATS)
        except UnidentifiedImageError:
            if not data.startswith(TIFF_MAGIC):
                raise
    with image or contextlib.nullcontext(), _translate_decode_errors(name, data):
        yield image


@contextlib.contextmanager
def _translate_decode_errors(name: object, data: bytes) -> Iterator[None]:
    """Turn what decoders raise into a FileError whose message begins with `name`."""
    try:
        yield
    except NephrosError:
        raise
    except _BOMB_ERRORS as error:
        raise _too_large_error(name) from error
    except Exception as error:  # for missing or changed bytes, Pillow, tifffile and the decoders below raise every kind
        if file_format := foreign_format(data[:HEAD_BYTES], name):
            raise FileError(str(name), file_format.message(name)) from error
        raise FileError(
            str(name), f"{name} is damaged or not an image; copy it again from its source, or save it as PNG or TIFF."
        ) from error


def _too_large_error(name: object, size_text: str = "is") -> FileError:
    return FileError(str(name), f"{name} {size_text} far too large for an image of one cell; crop the cells out first.")


def _n_frames(image: Image.Image | None) -> int:
    return int(getattr(image, "n_frames", 1))


def _decode_page(name: object, image: Image.Image | None, data: bytes) -> DecodedImage:
    """Return the stored values of a file's first page, by tifffile where Pillow doesn't give them."""
    with _translate_decode_errors(name, b""):
        if image is None or (isinstance(image, TiffImageFile) and not pillow_reads_stored_values(image.tag_v2)):
            return read_tiff_page(name, data, MAX_PIXELS)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise _too_large_error(name, f"has {width}x{height} pixels,")
        return stored_pixels(name, image, data)
