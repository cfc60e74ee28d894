"""Images that a caller holds as arrays: one, many of one shape, or a list, as the images that files would decode to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.images.decoded_image import DecodedImage
from nephros.data.images.input_conversion import MIN_SIDE
from nephros.errors import InvalidArgument

EXPECTED = "one image (h, w), images (n, h, w) or (n, h, w, c), or a list of images"
_CHANNELS_FIRST_NOTE = "taken as channels first, (n, c, h, w)"
_MAX_CHANNELS = 4
"""Channels of an axis that is too short to be a side of a cell."""
_MIN_FLAT_SIDE = 16
"""Pixels per side from which rows as long as a square image has pixels are taken for flattened images."""


@dataclass(frozen=True)
class ArrayImages:
    """Images of one shape, or of several."""

    blocks: tuple[NDArray[Any], ...]
    """Each (n, h, w) or (n, h, w, c), of integers, floating-point numbers or, as 0 and 255, truth values."""
    notes: tuple[str, ...] = ()
    """How the axes were read, where that is not plain."""

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    def __iter__(self) -> Iterator[DecodedImage]:
        """Yield the images one by one."""
        for block in self.blocks:
            for image in block:
                yield DecodedImage.from_samples(image, _layout(image))


def read_array_images(images: Any, parameter: str = "images") -> ArrayImages:
    """Return the images of an array, of a list of arrays, or of what numpy makes an array of (tensors on the CPU, Pillow images).

    Args:
        images: (h, w), (n, h, w), (n, h, w, c), or a list or tuple of (h, w) and (h, w, c) of any sizes; any integer or
            floating-point type, and truth values. Where only one reading makes cells of at least 4 pixels per side, (h, w, 3) is
            one image, and (n, c, h, w) are images with the channels first.
        parameter: names the argument in errors.

    Raises:
        InvalidArgument: these are not images.
    """
    if isinstance(images, str | bytes | Path) or _is_list_of_paths(images):
        hint = f"For files: `nephros.predict(FILES)`, or `nephros.load_dataset(FOLDER)`; `{parameter}` are pixels."
        raise InvalidArgument(parameter, images, EXPECTED, hint=hint)
    if isinstance(images, list | tuple):
        return _read_list(images, parameter)
    array = _as_array(images, parameter)
    if array.ndim == 2:
        _check_is_not_flat(array, parameter)
        return ArrayImages((array[None],))
    if array.ndim == 3:
        return ArrayImages((_single_color_image(array, parameter),))
    if array.ndim == 4:
        block, notes = _channels_last(array)
        _check_sides(block, parameter)
        return ArrayImages((block,), notes)
    raise _shape_error(parameter, array)


def _is_list_of_paths(images: Any) -> bool:
    return isinstance(images, list | tuple) and any(isinstance(image, str | bytes | Path) for image in images)


def _read_list(images: Sequence[Any], parameter: str) -> ArrayImages:
    if images and all(np.isscalar(image) for image in images):
        raise InvalidArgument(parameter, images, EXPECTED)
    arrays = [_as_array(image, f"{parameter}[{i}]") for i, image in enumerate(images)]
    if arrays and all(array.ndim == 1 for array in arrays):  # one image, as nested lists
        return read_array_images(_as_array(images, parameter), parameter)
    blocks = []
    for i, array in enumerate(arrays):
        name = f"{parameter}[{i}]"
        if array.ndim == 3 and 1 <= array.shape[0] < MIN_SIDE and min(array.shape[1:]) >= MIN_SIDE:
            array = np.moveaxis(array, 0, 2)
        if array.ndim not in (2, 3):
            raise InvalidArgument(name, f"an array of shape {array.shape}", "one image, (h, w) or (h, w, c)")
        _check_sides(array[None], name)
        blocks.append(array[None])
    if len({(block.shape, block.dtype) for block in blocks}) == 1:
        blocks = [np.concatenate(blocks)]
    return ArrayImages(tuple(blocks))


def _as_array(images: Any, parameter: str) -> NDArray[Any]:
    try:
        array = np.asarray(images)
    except Exception as error:  # of a tensor on a GPU or with a gradient, a ragged list, a lazy array without memory
        reason = " ".join(str(error).split())
        raise InvalidArgument(parameter, type(images).__name__, EXPECTED, hint=f"Here: {reason}") from error
    if array.dtype.kind not in "buif":
        kind = f"an array of {array.dtype}" if array.ndim else type(images).__name__
        raise InvalidArgument(parameter, kind, f"{EXPECTED}, of integers or floating-point numbers")
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _single_color_image(array: NDArray[Any], parameter: str) -> NDArray[Any]:
    """Return (n, h, w), or (1, h, w, c) where an array is one image, as a side of fewer than four pixels shows."""
    *sides, last = array.shape
    if 1 <= last < MIN_SIDE <= min(sides):
        return array[None]
    if last == _MAX_CHANNELS and sides[1] > MIN_SIDE:
        hint = f"For one image with {last} channels, give `{parameter}[None]`."
        raise InvalidArgument(parameter, f"an array of shape {array.shape}", EXPECTED, hint=hint)
    _check_sides(array, parameter)
    return array


def _channels_last(array: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return (n, h, w, c) for an array of that kind or of (n, c, h, w), and a note in the second case."""
    n_channels_first = array.shape[1]
    if 1 <= n_channels_first <= _MAX_CHANNELS < min(array.shape[2:]):
        return np.moveaxis(array, 1, 3), (_CHANNELS_FIRST_NOTE,)
    return array, ()


def _check_sides(block: NDArray[Any], parameter: str) -> None:
    """Raise InvalidArgument for images that are too small to show a cell."""
    height, width = block.shape[1:3]
    if min(height, width) < MIN_SIDE or (block.ndim == 4 and block.shape[3] == 0):
        expected = f"{EXPECTED}, of at least {MIN_SIDE}x{MIN_SIDE} pixels"
        raise InvalidArgument(parameter, f"an array of shape {block.shape}", expected)


def _check_is_not_flat(array: NDArray[Any], parameter: str) -> None:
    """Raise InvalidArgument for rows of flattened square images, which would be read as one image."""
    n, length = array.shape
    side = math.isqrt(length)
    if side * side == length and side >= _MIN_FLAT_SIDE and n != length:
        hint = (
            f"For {n:,} images of {side}x{side} pixels give `{parameter}.reshape(-1, {side}, {side})`, for one image "
            f"`{parameter}[None]`."
        )
        raise InvalidArgument(parameter, f"an array of shape {array.shape}", EXPECTED, hint=hint)
    _check_sides(array[None], parameter)


def _shape_error(parameter: str, array: NDArray[Any]) -> InvalidArgument:
    hint = "Project volumes first, such as by their maximum over the slices." if array.ndim == 5 else ""
    return InvalidArgument(parameter, f"an array of shape {array.shape}", EXPECTED, hint=hint)


def _layout(image: NDArray[Any]) -> Any:
    """Return how the planes of (h, w) or (h, w, c) are read: three or four are colors, without or with transparency."""
    if image.ndim == 2 or image.shape[2] == 1:
        return "gray"
    return "color" if image.shape[2] in (3, 4) else "channels"
