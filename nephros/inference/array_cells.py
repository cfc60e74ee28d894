"""From images in memory to cells of the model's input shape, by the rule by which files become cells."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.images.array_images import ArrayImages, read_array_images
from nephros.data.images.decoded_image import DecodedImage
from nephros.data.images.input_conversion import (
    BrightestPixel,
    CellShape,
    InputConversion,
    default_white_level,
    pixel_type,
    select_planes,
    to_cell,
)
from nephros.errors import FileError, InvalidArgument


def arrays_to_cells(
    images: Any, shape: CellShape, conversion: InputConversion, *, has_user_level: bool = False
) -> tuple[NDArray[np.uint8], list[str]]:
    """Return images as cells, (n, h, w) or (n, h, w, 3) uint8, and how they were converted, one note per conversion.

    Args:
        images: as `nephros.data.images.array_images.read_array_images` takes them.
        shape: of the cells: channels (1 or 3), height, width.
        conversion: how the model's training images were converted. Without a white level, the brightest pixel of all images of
            one type of more than 8 bits becomes 255, as for the inputs of `nephros.predict`.
        has_user_level: whether the white level is the user's, and not the training images'.

    Raises:
        InvalidArgument: these are not images, or one of them can't be a cell; the message says which.
    """
    array_images = read_array_images(images)
    notes = list(array_images.notes)
    channels = shape[0]
    if not len(array_images):
        return np.empty((0, *_pixels_shape(shape)), dtype=np.uint8), notes
    if len(array_images.blocks) == 1 and are_cells(array_images.blocks[0], shape, conversion):
        return np.ascontiguousarray(array_images.blocks[0]), notes
    brightest = _brightest(array_images, channels, conversion)
    cells, counts = [], Counter[str]()
    for i, image in enumerate(array_images):
        name = f"images[{i}]"
        try:
            planes = select_planes(name, image, channels, conversion.channel)
            levels, origin = conversion, "" if has_user_level else " (as in training)"
            if planes.pixels.dtype != np.uint8 and conversion.white_level is None:
                of_all = brightest[pixel_type(planes.pixels.dtype)]
                white_level = default_white_level(of_all, planes.pixels.dtype)
                levels = replace(conversion, white_level=white_level)
                origin = " (the brightest of all)" if white_level == of_all.value else ""
            cell, cell_notes = to_cell(name, planes, shape, levels, origin)
        except FileError as error:
            raise _image_error(image, name, str(error)) from error
        cells.append(cell)
        counts.update(cell_notes)
    notes += [f"{note} ({count:,} {'image' if count == 1 else 'images'})" for note, count in counts.items()]
    return np.stack(cells), notes


def are_cells(images: NDArray[Any], shape: CellShape, conversion: InputConversion) -> bool:
    """Return whether the images of an array are cells of this shape as they are, with no color plane to take from them."""
    is_plane_chosen = shape[0] > 1 and conversion.channel is not None
    return images.dtype == np.uint8 and images.shape[1:] == _pixels_shape(shape) and not is_plane_chosen


def _pixels_shape(shape: CellShape) -> tuple[int, ...]:
    channels, height, width = shape
    return (height, width) if channels == 1 else (height, width, channels)


def _brightest(images: ArrayImages, channels: int, conversion: InputConversion) -> dict[str, BrightestPixel]:
    """Return the brightest pixel of all images of more than 8 bits, by their pixels' type, in the planes that become cells."""
    brightest: dict[str, BrightestPixel] = {}
    if conversion.white_level is not None:
        return brightest
    for image in images:
        if image.pixels.dtype != np.uint8:
            pixels = image.pixels
            if pixels.ndim > 2:
                with suppress(FileError):  # of an image that can't be a cell, which is told when its turn comes
                    pixels = select_planes("", image, channels, conversion.channel).pixels
            brightest.setdefault(pixel_type(pixels.dtype), BrightestPixel()).add(pixels)
    return brightest


def _image_error(image: DecodedImage, name: str, sentence: str) -> InvalidArgument:
    """Return the error for an image that can't be a cell; `sentence` begins with its name."""
    problem = sentence.removeprefix(f"{name} ").replace(" and save it again", "")
    shape = f"an array of shape {image.pixels.shape}"
    return InvalidArgument(name, shape, "an image of a cell", hint=f"It {problem}")
