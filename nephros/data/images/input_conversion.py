"""From a decoded image to a cell of a model's input shape, by one rule for training and prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nephros.data.images.color import PLANE_NAMES, signal_planes
from nephros.data.images.decoded_image import DecodedImage
from nephros.data.images.transforms import letterbox, to_grayscale, to_uint8
from nephros.errors import FileError, InvalidArgument

MIN_SIDE = 4
"""Shortest side, in pixels, of an image that can show a cell."""
CONVERSION_ARRAY = "input_conversion"
"""Array of an npz file that holds an InputConversion as JSON: how its images were made."""
MAX_WHITE_LEVEL = 1 << 31
_MIN_FRACTION = 0.05
"""Brightest pixel from which floating-point images are on a scale from 0 to 1."""
_MIN_8_BIT = 16
"""Brightest pixel from which floating-point images that are not of whole numbers are on a scale from 0 to 255."""
_MAX_BRIGHTER_SHARE = 0.05
"""Share of pixels above the white level up to which no note says so."""
_MAX_NEGATIVE_SHARE = 0.05
"""Negative pixels down to this share of the brightest one are noise around a background that was subtracted."""
CellShape = tuple[int, int, int]
"""A model's input shape: channels (1 or 3), height, width."""


@dataclass(frozen=True)
class InputConversion:
    """How images became cells when a model was trained, and become cells when it predicts."""

    white_level: float | None = None
    """Value that becomes 255 in images of more than 8 bits; None where training had none."""
    black_level: float = 0.0
    """Value that becomes 0 in those images."""
    resize: Literal["letterbox", "stretch"] = "letterbox"
    """``letterbox`` keeps the aspect ratio and adds black; ``stretch``, of runs of earlier versions, doesn't."""
    channel: int | None = None
    """Color plane, or sample, that is the image, from 0; None takes colors as they are, or the only plane with a signal."""
    fits_stacks: bool = True
    """Whether the levels of each stack of more than 8 bits are fitted to TissueMNIST; False where training gave the levels of
    its stacks, which then hold for others too."""
    uint8_stack_levels: tuple[float, float] | None = None
    """What becomes 0 and 255 in stacks of 8 bits, where training gave the levels of such stacks; None fits those of each."""
    target_voxel_size: tuple[float, float, float] | None = None
    """Micrometers along z, y and x to which stacks are resampled before their nuclei are cut out; None takes TissueMNIST's."""

    def override(self, white_level: float | None = None, channel: int | None = None) -> Self:
        """Return the conversion with a user's values in place of its own, as far as they are given.

        Raises:
            InvalidArgument: a value is out of range.
        """
        if white_level is not None and not 0 < white_level <= MAX_WHITE_LEVEL:
            raise InvalidArgument(
                "white_level", white_level, f"above 0 and at most {MAX_WHITE_LEVEL}, such as 4095 for 12-bit cameras"
            )
        if channel is not None and channel < 0:
            raise InvalidArgument("channel", channel, "at least 0")
        conversion = (
            self if white_level is None else replace(self, white_level=white_level, black_level=0.0, fits_stacks=True)
        )
        return conversion if channel is None else replace(conversion, channel=channel)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return what `to_dict` wrote; raise ValueError or TypeError for anything else."""
        conversion = cls(**values)
        if (voxel_size := conversion.target_voxel_size) is not None:
            z, y, x = map(float, voxel_size)
            conversion = replace(conversion, target_voxel_size=(z, y, x))
        if (levels := conversion.uint8_stack_levels) is not None:
            low, high = map(float, levels)
            conversion = replace(conversion, uint8_stack_levels=(low, high))
        white_level, black_level, channel = conversion.white_level, conversion.black_level, conversion.channel
        is_valid = (
            math.isfinite(black_level)
            and (white_level is None or (math.isfinite(white_level) and white_level > black_level))
            and (channel is None or (type(channel) is int and channel >= 0))
            and isinstance(conversion.fits_stacks, bool)
            and (levels is None or -math.inf < low < high < math.inf)
            and all(0 < side < math.inf for side in conversion.target_voxel_size or ())
            and conversion.resize in ("letterbox", "stretch")
        )
        if not is_valid:
            raise ValueError(f"{values} is not an InputConversion")
        return conversion


DEFAULT_CONVERSION = InputConversion()


def pixel_type(dtype: np.dtype[Any]) -> str:
    """Return what a type of pixels is called, such as 16-bit; images of one type share a white level where nobody says it."""
    return f"{8 * dtype.itemsize}-bit{' floating-point' if dtype.kind == 'f' else ''}"


@dataclass
class BrightestPixel:
    """The brightest pixel of all images of one type of pixels, and what tells whether they hold 8-bit ones."""

    value: float = 0.0
    is_whole: bool = True
    """Whether all pixels are whole numbers."""

    @classmethod
    def of(cls, pixels: NDArray[Any]) -> Self:
        """Return that of an array of any shape."""
        brightest = cls()
        brightest.add(pixels)
        return brightest

    def add(self, pixels: NDArray[Any]) -> None:
        """Take an array of any shape into account."""
        self.value = max(self.value, float(pixels.max(initial=0)))
        self.is_whole = self.is_whole and (pixels.dtype.kind != "f" or bool((pixels == np.rint(pixels)).all()))


def default_white_level(brightest: BrightestPixel, dtype: np.dtype[Any]) -> float:
    """Return what becomes 255 in images of more than 8 bits where nobody says it, given the brightest pixel of all of one type.

    Floating-point pixels up to 1 are 8-bit ones divided by 255, and other pixels up to 255 hold 8-bit ones as they are; else, of
    16 unsigned bits, and of fractions up to a few times 1, as scaling by a percentile makes them, it is the brightest pixel.
    """
    if dtype.kind == "f" and _MIN_FRACTION <= brightest.value <= 1:
        return 1.0
    may_be_8_bit = dtype.newbyteorder("=") != np.uint16 and (brightest.is_whole or brightest.value >= _MIN_8_BIT)
    if may_be_8_bit and 1 < brightest.value <= np.iinfo(np.uint8).max:
        return float(np.iinfo(np.uint8).max)
    return brightest.value or 1.0


def select_planes(name: object, image: DecodedImage, channels: int, channel: int | None = None) -> DecodedImage:
    """Return an image of one plane or of three colors, as a model of so many channels takes it, with its values unchanged.

    Args:
        name: names the image at the beginning of an error's message.
        image: as `nephros.data.images.decoding.decode_pages` yields it.
        channels: 1 or 3; a model of 3 takes one plane too.
        channel: the plane to take from images of several, from 0.

    Raises:
        FileError: the image can't be a cell, or which plane is the cell is unknown.
    """
    pixels, notes = image.pixels, image.notes
    n_planes, n_colors = 1 if pixels.ndim == 2 else pixels.shape[2], 3 if image.layout in ("color", "planes") else 1
    if n_planes > 1 and channel is not None:
        if not 0 <= channel < n_planes:
            raise FileError(str(name), f"{name} has {n_planes} planes; set `channel` to one from 0 to {n_planes - 1}.")
        pixels, notes = pixels[..., channel], (*notes, f"{_plane_text(channel, image)} taken for the image")
    elif n_planes > 1 and image.layout == "channels":
        raise FileError(
            str(name),
            f"{name} has {n_planes} samples per pixel, which are not colors; set `channel` to the one that shows the nuclei, "
            f"from 0 to {n_planes - 1}.",
        )
    elif n_planes > n_colors:
        if not np.ptp(pixels[..., :n_colors], axis=(0, 1)).any():
            raise FileError(
                str(name),
                f"{name} is blank except for its transparency; set `channel` to {n_colors} if that shows the nucleus, or save it "
                "in grayscale.",
            )
        notes = (*notes, "transparency, or a further sample, ignored although it differs between pixels")
        pixels = pixels[..., :3] if n_colors == 3 else pixels[..., 0]
    if pixels.ndim == 3 and image.layout == "planes":
        notes = (*notes, "three planes that are stored one after the other taken for red, green and blue")
    if pixels.ndim == 3 and channels == 1:
        planes = signal_planes(pixels)
        if len(planes) == 3 and image.layout == "planes" and np.ptp(pixels, axis=2).any():
            raise FileError(
                str(name),
                f"{name} has three planes that are stored one after the other, as channels or slices are, and show different "
                "things; set `channel` to the one of the nuclei, 0, 1 or 2, or, if they are colors, save the image in grayscale.",
            )
        if len(planes) == 2:
            raise FileError(
                str(name),
                f"{name} shows different things in {PLANE_NAMES[planes[0]]} and {PLANE_NAMES[planes[1]]}, and the model takes "
                f"grayscale; set `channel` to the plane of the nuclei, {planes[0]} or {planes[1]}, or save only that plane.",
            )
        if len(planes) == 1:
            pixels = pixels[..., planes[0]]
            notes = (*notes, f"{PLANE_NAMES[planes[0]]} plane taken for the image, since it holds the signal")
    pixels, is_clipped = _check_pixels(name, pixels)
    notes = (*notes, "negative pixels, down to 5% of the brightest, set to 0") if is_clipped else notes
    return DecodedImage(pixels, "gray" if pixels.ndim == 2 else "color", notes)


def _plane_text(channel: int, image: DecodedImage) -> str:
    return f"{PLANE_NAMES[channel]} plane" if image.layout == "color" and channel < 3 else f"channel {channel}"


def _check_pixels(name: object, pixels: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """Return the pixels without slightly negative ones, and whether there were any; FileError where they can't be a cell."""
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise FileError(
            str(name),
            f"{name} has {width}x{height} pixels, too few to show a cell; use images of at least {MIN_SIDE}x{MIN_SIDE}.",
        )
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise FileError(
            str(name), f"{name} has pixels that are not numbers (NaN or infinite); replace them and save it again."
        )
    if pixels.dtype.kind == "u" or (lowest := pixels.min()) >= 0:
        return pixels, False
    if -float(lowest) > _MAX_NEGATIVE_SHARE * float(pixels.max()):
        raise FileError(
            str(name),
            f"{name} has negative pixels, down to {lowest:g}; shift them so that black is 0, and save unsigned 8 or 16 bits.",
        )
    return np.maximum(pixels, 0), True


def to_cell(
    name: object, image: DecodedImage, shape: CellShape, conversion: InputConversion, origin: str = ""
) -> tuple[NDArray[np.uint8], list[str]]:
    """Return an image as a (height, width) or (height, width, 3) uint8 cell, and the conversions that it took.

    Args:
        name: names the image at the beginning of an error's message.
        image: from `select_planes` for the same number of channels.
        shape: of the cell.
        conversion: must have a white level if the image has more than 8 bits.
        origin: where the white level is from, for the note on it.

    Raises:
        FileError: the levels are for pixels of another kind.
    """
    channels, height, width = shape
    pixels, notes = image.pixels, list(image.notes)
    if pixels.dtype != np.uint8:
        white_level = conversion.white_level or 1.0
        _check_level(name, pixels, white_level)
        kind = "floating-point" if pixels.dtype.kind == "f" else pixel_type(pixels.dtype)
        black = f"{conversion.black_level:g} became 0 and " if conversion.black_level else ""
        notes.append(f"{kind} pixels scaled to 8-bit: {black}{white_level:g}{origin} became 255")
        if (pixels > white_level).mean() > _MAX_BRIGHTER_SHARE:
            notes.append(
                f"more than {_MAX_BRIGHTER_SHARE:.0%} of the pixels are above the white level and became 255, too"
            )
        pixels = to_uint8(pixels, white_level, conversion.black_level)
    if pixels.ndim == 3 and channels == 1:
        pixels = to_grayscale(pixels)
        notes.append("color converted to grayscale (0.299 red + 0.587 green + 0.114 blue)")
    if pixels.ndim == 2 and channels == 3:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
        notes.append("grayscale repeated in all three channels")
    if pixels.shape[:2] != (height, width):
        is_same_shape = pixels.shape[0] * width == pixels.shape[1] * height
        if conversion.resize == "stretch":
            pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))
            remark = "" if is_same_shape else ", stretched as the training images were"
        else:
            pixels = letterbox(pixels, height, width)
            remark = "" if is_same_shape else ", padded with black to keep the aspect ratio"
        notes.append(f"resized to {width}x{height} pixels (bicubic){remark}")
    return pixels, notes


def _check_level(name: object, pixels: NDArray[Any], white_level: float) -> None:
    """Refuse fractions for a white level of integers, and the other way round: all would become black or white."""
    is_fraction = pixels.dtype.kind == "f" and pixels.max() <= 1
    is_level_of_fractions = white_level <= 1 or (white_level < _MIN_8_BIT and white_level % 1 != 0)
    is_beyond = pixels.dtype.kind != "f" and is_level_of_fractions and pixels.max() > 1
    if (is_fraction and white_level > np.iinfo(np.uint8).max) or is_beyond:
        raise FileError(
            str(name),
            f"{name} has {'floating-point' if is_fraction else 'integer'} pixels up to {pixels.max():g}, to which the white "
            f"level {white_level:g} does not apply; set `white_level` for these images.",
        )
