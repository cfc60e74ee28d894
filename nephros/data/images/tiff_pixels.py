"""What the samples of a TIFF page stand for, where Pillow doesn't give their stored values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.images.color import inks_to_rgb, palette_values
from nephros.data.images.decoded_image import DecodedImage, Layout
from nephros.data.images.tiff_decoding import (
    ASSOCIATED_ALPHA,
    BLACK_IS_ZERO,
    CMYK,
    PALETTE,
    RGB,
    UNASSOCIATED_ALPHA,
    WHITE_IS_ZERO,
    YCBCR,
    decode_page,
    open_tiff,
)
from nephros.errors import FileError

if TYPE_CHECKING:
    from tifffile import TiffPage

TAG_ORIENTATION, TAG_COLORMAP = 274, 320
_MAX_SAMPLES = 5
"""Samples per pixel of the largest pages that are decoded."""
WHITE_IS_ZERO_NOTE = "values read as stored, although the file's tag says to show 0 as white"
CMYK_NOTE = "printing inks (CMYK) converted to RGB without a color profile"
_COLOR_NAMES = {
    4: "a transparency mask", 6: "YCbCr", 8: "CIE Lab", 9: "ICC Lab", 10: "ITU Lab", 32803: "a color filter array",
    32844: "LogL", 32845: "LogLuv", 34892: "raw camera data",
}  # fmt: skip
_SAMPLE_KINDS = {"b": "binary", "u": "integer", "i": "signed integer", "f": "floating-point", "c": "complex"}


def colormap_to_palette(colormap: Any) -> NDArray[np.uint8]:
    """Return the (n, 3) palette in the tag ColorMap, of 16-bit values, or of the 8-bit values that some programs write."""
    colors = np.asarray(colormap, dtype=np.uint16).reshape(3, -1).T
    return (colors if colors.max() < 256 else colors >> 8).astype(np.uint8)


def read_tiff_page(name: object, data: bytes, max_pixels: int) -> DecodedImage:
    """Read the first page of a TIFF file with tifffile.

    Args:
        name: names the page at the beginning of an error's message.
        data: the file's bytes.
        max_pixels: pixels, of a few samples each, up to which a page is decoded.

    Raises:
        FileError: the page's pixels have no right reading here.
        MissingDependency: tifffile, or a decoder that it needs, is not installed. Of damaged bytes, nearly any Exception.
    """
    with open_tiff(name, data) as file:
        page = file.pages[0].aspage()
        if page.size > max_pixels * _MAX_SAMPLES or page.imagewidth * page.imagelength > max_pixels:
            size = f"{page.imagewidth}x{page.imagelength} pixels"
            raise FileError(
                str(name), f"{name} has {size}, far too large for an image of one cell; crop the cells out first."
            )
        kind = "" if page.dtype is None else page.dtype.kind
        if kind not in "buif" or page.axes not in ("YX", "YXS", "SYX"):
            n_samples = f"{page.samplesperpixel} {_SAMPLE_KINDS.get(kind, '')} sample{'s' * (page.samplesperpixel > 1)}"
            raise FileError(
                str(name),
                f"{name} has {n_samples} of {page.bitspersample} bits per pixel, and axes {page.axes}; save it in grayscale or "
                "RGB, with 8 or 16 bits per sample.",
            )
        samples = decode_page(name, page, len(data))
    if page.axes == "SYX":
        samples = np.moveaxis(samples, 0, 2)
    orientation = page.tags.valueof(TAG_ORIENTATION, 1)
    return _interpret(name, page, _full_scale(samples, page.bitspersample)).upright(orientation)


def color_layout(samples: NDArray[Any]) -> Layout:
    """Return the layout of samples, (h, w, n), that a file calls colors but has plane by plane, as tifffile does by default.

    Three may be colors; more are hardly ever colors and transparency.
    """
    return "planes" if samples.shape[2] == 3 else "channels"


def _full_scale(samples: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return samples of fewer than 8 bits scaled so that their highest possible value is 255, and half floats as floats."""
    if samples.dtype == np.float16:
        return samples.astype(np.float32)
    if samples.dtype == np.bool_:
        return samples.astype(np.uint8) * np.uint8(255)
    if samples.dtype == np.uint8 and bits < 8:
        return np.rint(samples * (255 / ((1 << bits) - 1))).astype(np.uint8)
    return samples


def _interpret(name: object, page: TiffPage, samples: NDArray[Any]) -> DecodedImage:
    """Return what a page's samples stand for by its tag PhotometricInterpretation."""
    photometric, n_samples = int(page.photometric), page.samplesperpixel
    n_color, is_unsigned = n_samples - len(page.extrasamples), samples.dtype.kind == "u"
    if photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        notes = (WHITE_IS_ZERO_NOTE,) if photometric == WHITE_IS_ZERO else ()
        is_alpha = n_samples == 2 and set(page.extrasamples) <= {ASSOCIATED_ALPHA, UNASSOCIATED_ALPHA}
        return DecodedImage.from_samples(samples, "gray" if is_alpha else "channels", notes)
    # Decoders of color compressions return RGB for YCbCr.
    if n_samples >= 3 and (photometric == RGB or (photometric == YCBCR and page.compression != 1)):
        return DecodedImage.from_samples(samples, color_layout(samples) if page.axes == "SYX" else "color")
    if photometric == PALETTE and n_samples == 1 and is_unsigned:
        values, note = palette_values(samples, colormap_to_palette(page.colormap), page.bitspersample)
        return DecodedImage.from_samples(values, "color", (note,) if note else ())
    if photometric == CMYK and n_color == 4 and is_unsigned:
        return DecodedImage.from_samples(inks_to_rgb(samples[..., :4]), "color", (CMYK_NOTE,))
    colors = _COLOR_NAMES.get(photometric, f"{n_samples} samples per pixel of an unknown kind")
    raise FileError(
        str(name), f"{name} has colors ({colors}) that can't be read as intensities; save it in grayscale or RGB."
    )
