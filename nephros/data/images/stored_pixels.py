"""The pixel values that an image file stores, as against those that a viewer displays; one rule for all readers of images."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from nephros.data.images.color import palette_values
from nephros.data.images.decoded_image import TURNED_NOTE, DecodedImage, Layout
from nephros.data.images.tiff_decoding import (
    PLANES_APART,
    TAG_BITS,
    TAG_PHOTOMETRIC,
    TAG_PLANAR_CONFIGURATION,
    WHITE_IS_ZERO,
)
from nephros.data.images.tiff_pixels import (
    CMYK_NOTE,
    TAG_COLORMAP,
    TAG_ORIENTATION,
    WHITE_IS_ZERO_NOTE,
    color_layout,
    colormap_to_palette,
)
from nephros.errors import FileError

_PNG_HEADER = slice(12, 29)
"""Bytes of a PNG's first chunk that its checksum covers: type, width, height, bits, color type and three more."""
_LAYOUTS: dict[str, Layout] = {"L": "gray", "LA": "gray", "RGB": "color", "RGBA": "color", "RGBX": "color"}


class _Tags(NamedTuple):
    """What a file says of its pixels beside their values; Pillow forgets some of it when it decodes them."""

    bits: int
    is_white_zero: bool
    is_inverted: bool
    """Whether Pillow inverts 8 bits or fewer: it does so too where the tag is missing."""
    orientation: int
    is_planar: bool
    """Whether each plane is stored after the other."""
    is_turned: bool
    """Whether Pillow turns the image itself when it decodes it."""
    palette: NDArray[np.uint8] | None


def stored_pixels(name: object, image: Image.Image, data: bytes) -> DecodedImage:
    """Return the stored values of the current page of an image that is open in Pillow.

    Of a TIFF file the page must be one for which `nephros.data.images.tiff_decoding.pillow_reads_stored_values` is true.

    Args:
        name: names the image at the beginning of an error's message.
        image: not decoded yet.
        data: the file's bytes.

    Raises:
        FileError: the pixels have no right reading. For damaged bytes Pillow raises other exceptions.
    """
    tags = _read_tags(image, data)
    raw_mode = str(image.tile[0][3]) if isinstance(image, PngImageFile) and image.tile else ""
    image.load()
    if raw_mode.endswith(";16B") and image.mode != "I;16":
        decoded = _wide_png(image, data, raw_mode)
    else:
        decoded = _from_mode(name, image, tags)
    if not tags.is_turned:
        return decoded.upright(_exif_orientation(image))
    notes = (*decoded.notes, TURNED_NOTE) if tags.orientation != 1 else decoded.notes
    return DecodedImage(decoded.pixels, decoded.layout, notes)


def _read_tags(image: Image.Image, data: bytes) -> _Tags:
    if isinstance(image, TiffImageFile):
        values = image.tag_v2
        colormap = values.get(TAG_COLORMAP)
        return _Tags(
            bits=max(values.get(TAG_BITS, (1,))),
            is_white_zero=values.get(TAG_PHOTOMETRIC) == WHITE_IS_ZERO,
            is_inverted=values.get(TAG_PHOTOMETRIC, WHITE_IS_ZERO) == WHITE_IS_ZERO,
            orientation=values.get(TAG_ORIENTATION, 1),
            is_planar=values.get(TAG_PLANAR_CONFIGURATION) == PLANES_APART,
            is_turned=True,
            palette=None if colormap is None else colormap_to_palette(colormap),
        )
    is_png_header = image.format == "PNG" and data[12:16] == b"IHDR"
    return _Tags(data[24] if is_png_header else 8, False, False, 1, False, False, None)


def _exif_orientation(image: Image.Image) -> int:
    """Return the orientation of an image that is decoded already: before, Pillow would decode it and forget an error."""
    try:
        return int(image.getexif().get(TAG_ORIENTATION, 1))
    except Exception:  # metadata that can't be read are no reason to refuse the pixels
        return 1


def _from_mode(name: object, image: Image.Image, tags: _Tags) -> DecodedImage:
    """Return the pixels that Pillow decoded, by its name for their kind."""
    mode = image.mode
    if mode == "1":
        image = image.convert("L")
    if mode in ("P", "PA"):
        palette = (
            np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3) if tags.palette is None else tags.palette
        )
        samples = np.asarray(image)
        values, note = palette_values(samples if samples.ndim == 2 else samples[..., 0], palette, tags.bits)
        return DecodedImage.from_samples(values, "color", (note,) if note else ())
    if mode == "CMYK":
        return DecodedImage.from_samples(np.asarray(image.convert("RGB")), "color", (CMYK_NOTE,))
    if mode == "YCbCr":
        return DecodedImage.from_samples(np.asarray(image.convert("RGB")), "color")
    if mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        rgb = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "LAB", "RGB"))
        return DecodedImage.from_samples(np.asarray(rgb), "color", ("CIE Lab colors converted to RGB",))
    if mode.startswith("I") or mode in ("1", *_LAYOUTS):
        samples = np.asarray(image)
        if tags.is_inverted and mode in ("1", "L"):
            samples = 255 - samples
        samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
        notes = (WHITE_IS_ZERO_NOTE,) if tags.is_white_zero else ()
        layout = color_layout(samples) if tags.is_planar and mode in ("RGB", "RGBA") else _LAYOUTS.get(mode, "gray")
        return DecodedImage.from_samples(samples, layout, notes)
    raise FileError(str(name), f"{name} has pixels of Pillow's mode {mode}; save it with 8 or 16 bits per pixel.")


def _wide_png(image: Image.Image, data: bytes, raw_mode: str) -> DecodedImage:
    """Return 16-bit color, or gray with alpha, of a PNG file, of which Pillow decodes the high bytes only.

    Color is decoded again for its low bytes, by the name of the other byte order. Gray with alpha has no such name, but its
    four bytes per pixel are stored as those of 8-bit RGBA are, so its header is made to say that.
    """
    if raw_mode == "LA;16B":
        header = bytearray(data[_PNG_HEADER])
        header[12:14] = 8, 6
        data = data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
        with Image.open(io.BytesIO(data), formats=("PNG",)) as rgba:
            octets = np.asarray(rgba).astype(np.uint16)
        return DecodedImage.from_samples(octets[..., ::2] << 8 | octets[..., 1::2], "gray")
    with Image.open(io.BytesIO(data), formats=("PNG",)) as other:
        png = cast(Any, other)  # tiles are plain tuples in earlier versions of Pillow
        png.tile = [(*tile[:3], raw_mode.replace("16B", "16L")) for tile in png.tile]
        low_bytes = np.asarray(other)
    return DecodedImage.from_samples(np.asarray(image).astype(np.uint16) << 8 | low_bytes, "color")
