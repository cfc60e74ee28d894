"""Which inputs a model of volumes takes, and what it says of images; and what a model of images says of volumes."""

from __future__ import annotations

import numpy as np

from nephros.data.folders.voxel_table import VoxelTable
from nephros.data.images.input_conversion import CellShape, InputConversion
from nephros.data.npz.stream import ImageArray
from nephros.errors import FileError


def kind_error(name: str, kind: str, shape: CellShape, *, takes_volumes: bool) -> FileError:
    """Return the error for images where the model takes volumes of `shape`, or the other way round."""
    if not takes_volumes:
        return FileError(
            name, f"{name} holds {kind}, and the model takes images: save the maximum over the slices of each."
        )
    depth, height, width = shape
    return FileError(
        name,
        f"{name} holds {kind}, and the model takes volumes of {depth} slices of {height}x{width} pixels: give a stack, whose "
        "nuclei are cut out, or an npz file with the array volumes (n, d, h, w).",
    )


def check_array(
    name: str, array: ImageArray | VoxelTable, shape: CellShape, conversion: InputConversion, *, takes_volumes: bool
) -> None:
    """Raise FileError for an array of another kind than the model takes, and for volumes that can't become its cells.

    `name` is the file's, `shape` the model's, and `conversion` says which value becomes 255 in volumes of more than 8 bits.
    """
    is_volumetric = isinstance(array, ImageArray) and array.is_volumetric
    if is_volumetric != takes_volumes:
        raise kind_error(name, "volumes" if is_volumetric else "images", shape, takes_volumes=takes_volumes)
    if not takes_volumes:
        return
    if array.shape[1:] != shape:
        sizes = ["x".join(map(str, size)) for size in (array.shape[1:], shape)]
        raise FileError(
            name,
            f"{name} holds volumes of {sizes[0]} voxels, and the model takes {sizes[1]}; crop or resize them first.",
        )
    if array.dtype not in (np.uint8, np.bool_) and conversion.white_level is None:
        raise FileError(name, f"{name} holds volumes of {array.dtype}: set `white_level`, the value that becomes 255.")
