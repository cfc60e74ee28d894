"""Names of the images in npz files that nephros writes: the stack and the id of a nucleus, or the file that an image is from."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.data.images.input_conversion import CONVERSION_ARRAY
from nephros.data.npz.arrays import open_array, read_small_array

NAMES_ARRAY = "names"
"""Array of an npz file of `nephros.annotation` with the name of each image."""


def nucleus_name(stack: str, nucleus_id: int) -> str:
    """Return the name of a nucleus by that of its stack and its id in the mask."""
    return f"{stack}, nucleus {nucleus_id}"


def read_image_names(path: Path, archive: zipfile.ZipFile, max_bytes: int) -> NDArray[np.str_] | None:
    """Return the name of each image, from the array of names or from those of stacks and ids; None where there are none.

    Only files with a CONVERSION_ARRAY have them: in any other file such arrays may mean something else.

    Args:
        path: of the file, for messages.
        archive: the file.
        max_bytes: free memory, as `nephros.data.npz.arrays.read_small_array` takes it.

    Raises:
        FileError: an array is damaged, or larger than half of the free memory.
    """
    arrays = set(archive.namelist())
    if f"{CONVERSION_ARRAY}.npy" not in arrays:
        return None

    def read(name: str) -> NDArray[np.generic]:
        return read_small_array(path, archive, open_array(path, archive, name), max_bytes)

    if f"{NAMES_ARRAY}.npy" in arrays:
        names = read(NAMES_ARRAY)
        return names.astype(np.str_) if names.dtype.kind == "U" and names.ndim == 1 else None
    if not {"ids.npy", "stack.npy"} <= arrays:
        return None
    ids, stack = read("ids"), read("stack")
    if ids.dtype.kind not in "iu" or stack.dtype.kind != "U" or ids.ndim != 1 or ids.shape != stack.shape:
        return None
    return np.array([nucleus_name(name, number) for name, number in zip(stack.tolist(), ids.tolist(), strict=True)])
