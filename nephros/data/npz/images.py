"""Images of an npz file as uint8 in MedMNIST's shapes: what their headers reveal, and how others are converted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.images.color import PLANE_NAMES
from nephros.data.images.input_conversion import MIN_SIDE, BrightestPixel, InputConversion, default_white_level
from nephros.data.images.transforms import to_uint8
from nephros.data.input_files import InputFile
from nephros.data.npz.arrays import CHUNK_BYTES
from nephros.data.volumes import slices_last
from nephros.errors import FileError, InvalidArgument


@dataclass(frozen=True)
class PixelConversion:
    """How an array's images become (n, h, w), (n, h, w, 3) or, volumes, (n, h, w, d) uint8."""

    conversion: InputConversion
    """With the white level, where pixels are not uint8."""
    details: tuple[str, ...] = ()
    """What was done, for the provenance."""
    is_volumetric: bool = False
    """Whether the images are volumes, (n, d, h, w)."""

    def apply(self, images: NDArray[Any]) -> NDArray[np.uint8]:
        """Convert images of any shape that `image_shape` takes."""
        if self.is_volumetric:
            images = slices_last(images)
        else:
            images = np.moveaxis(images, 1, 3) if is_channels_first(images.shape) else images
            images = images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images
        if images.dtype == np.bool_:
            return images.astype(np.uint8) * np.uint8(255)
        return to_uint8(images, self.conversion.white_level or 1.0, self.conversion.black_level)


def is_channels_first(shape: tuple[int, ...]) -> bool:
    """Return whether images are (n, 1, h, w) or (n, 3, h, w), as PyTorch has them."""
    return len(shape) == 4 and shape[3] not in (1, 3) and shape[1] in (1, 3) and min(shape[2:]) >= MIN_SIDE


def image_shape(
    path: InputFile, name: str, shape: tuple[int, ...], n_labels: int | None = None, *, is_volumetric: bool = False
) -> tuple[int, int, int]:
    """Return the height, width and number of channels of an array of images; of volumes, the number of slices.

    Raises:
        FileError: the shape is not that of images, or the images, of which there are `n_labels`, are on its last axis.
    """
    if n_labels is not None and len(shape) in (3, 4) and shape[0] != n_labels and shape[-1] == n_labels:
        raise FileError(
            str(path),
            f"{path}: {name} has shape {shape} for {n_labels} labels; save numpy.moveaxis({name}, -1, 0), images first.",
        )
    if is_volumetric:
        if len(shape) != 4 or shape[1] < 2 or 0 in shape[1:]:
            expected = "volumes must be (n, d, h, w), with d slices, at least 2"
            raise FileError(str(path), f"{path}: {name} has shape {shape}; {expected}.")
        return shape[2], shape[3], shape[1]
    if is_channels_first(shape):
        return shape[2], shape[3], shape[1]
    if len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,)) or 0 in shape[1:]:
        expected = "it must be (n, h, w), (n, h, w, 3) or (n, 3, h, w)"
        raise FileError(str(path), f"{path}: {name} has shape {shape}; {expected}{_shape_hint(shape)}.")
    return shape[1], shape[2], shape[3] if len(shape) == 4 else 1


def take_channel(
    path: Path, arrays: Mapping[str, NDArray[Any]], channel: int
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Return a color plane of each array's images as images (n, h, w), and a note that says so; gray ones stay as they are.

    `arrays` have the shapes that `image_shape` takes. Raises InvalidArgument where there is no such plane.
    """
    planes: dict[str, NDArray[Any]] = {}
    notes: tuple[str, ...] = ()
    for key, images in arrays.items():
        axis = 1 if is_channels_first(images.shape) else 3
        n_planes = images.shape[axis] if images.ndim == 4 else 1
        if n_planes == 1:
            planes[key] = images
            continue
        if channel >= n_planes:
            raise InvalidArgument("channel", channel, f"from 0 to {n_planes - 1} for the images of {path}")
        planes[key] = images[:, channel] if axis == 1 else images[..., channel]
        notes = (f"{PLANE_NAMES[channel]} plane taken for the image",)
    return planes, notes


def _shape_hint(shape: tuple[int, ...]) -> str:
    """Return what to do with an array of another shape, where that can be told."""
    if len(shape) == 2 and shape[1] >= MIN_SIDE**2 and (side := math.isqrt(shape[1])) ** 2 == shape[1]:
        return f"; reshape it to (-1, {side}, {side})"
    if len(shape) == 4 and min(shape[1:]) > MIN_SIDE:
        return ", so save it under the name volumes if it holds volumes (n, d, h, w), or a projection of each"
    return ", so save one channel, or three that are colors" if len(shape) == 4 else ""


def pixel_conversion(
    path: Path, arrays: dict[str, NDArray[Any]], conversion: InputConversion, *, is_volumetric: bool = False
) -> PixelConversion:
    """Return how the images of all arrays become uint8, by one white level for all, so that images stay comparable.

    Args:
        path: of the file, for messages.
        arrays: array name -> images, which may be memory-mapped.
        conversion: its white level, if it has one, is what a user or a model chose.
        is_volumetric: whether the images are volumes, (n, d, h, w).

    Raises:
        FileError: pixels are negative, not finite or no numbers, or arrays are of different kinds.
    """
    has_channels_first = not is_volumetric and any(is_channels_first(array.shape) for array in arrays.values())
    details = ["images saved channels first (n, c, h, w)"] if has_channels_first else []
    dtypes = {array.dtype for array in arrays.values()}
    if dtypes == {np.dtype(np.uint8)}:
        return PixelConversion(conversion, tuple(details), is_volumetric)
    if len({dtype.kind for dtype in dtypes}) > 1 or np.dtype(np.uint8) in dtypes:
        kinds = ", ".join(f"{name} is {array.dtype}" for name, array in arrays.items())
        raise FileError(path, f"{path}: {kinds}; save all images as the same type.")
    if dtypes == {np.dtype(np.bool_)}:
        return PixelConversion(conversion, (*details, "pixels that are truth values: True became 255"), is_volumetric)
    lowest, brightest = _pixel_range(path, arrays)
    highest = brightest.value
    if lowest < 0:
        raise FileError(
            path,
            f"{path}: the pixels go from {lowest:g} to {highest:g}, as after normalization; save them from 0 to 1 or to 255, "
            "where 0 is black.",
        )
    kind = next(iter(dtypes)).kind
    is_16_bit = {dtype.newbyteorder("=") for dtype in dtypes} == {np.dtype(np.uint16)}
    white_level = conversion.white_level
    if white_level is None:
        white_level = default_white_level(brightest, np.result_type(*dtypes))
    if (kind == "f" and highest <= 1 < white_level) or highest > 255 * white_level:
        raise FileError(
            path,
            f"{path}: the pixels go up to {highest:g}, to which the white level {white_level:g} does not apply; set "
            "`white_level` for this file.",
        )
    name = "16-bit" if is_16_bit else "floating-point" if kind == "f" else "integer"
    if white_level == 255:
        details.append(f"{name} pixels up to {highest:g} taken as they are, in 8 bits")
    else:
        maximum = f"the file's maximum, {white_level:g}," if white_level == highest else f"{white_level:g}"
        details.append(f"{name} pixels scaled so that {maximum} becomes 255")
    return PixelConversion(replace(conversion, white_level=white_level), tuple(details), is_volumetric)


def _pixel_range(path: Path, arrays: dict[str, NDArray[Any]]) -> tuple[float, BrightestPixel]:
    """Return the lowest and the brightest pixel of all arrays; FileError where a pixel is not a number."""
    lowest, brightest = math.inf, BrightestPixel()
    for name, array in arrays.items():
        if array.dtype.kind not in "iuf":
            raise FileError(path, f"{path}: {name} is {array.dtype}; images must be numbers, such as uint8.")
        for chunk in iter_chunks(array):
            minimum = float(chunk.min())  # NaN where the chunk has one
            brightest.add(chunk)
            if not np.isfinite([minimum, brightest.value]).all():
                kind = "NaN" if np.isnan(minimum) else "infinite values"
                raise FileError(path, f"{path}: {name} is {array.dtype} and contains {kind}; convert it to uint8.")
            lowest = min(lowest, minimum)
    return lowest, brightest


def iter_chunks(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the images a part at a time, so that memory-mapped ones are never in memory as a whole."""
    n_images = max(1, CHUNK_BYTES // max(1, images[:1].nbytes))
    for start in range(0, len(images), n_images):
        yield images[start : start + n_images]
