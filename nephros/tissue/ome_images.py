"""The images of a folder of predictions, as OME-TIFF with voxel sizes: the mask, its classes, and the projection of the stack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.escaping import escape_for_terminal
from nephros.microscopy.stack import Slice
from nephros.microscopy.tiff_series import require_stacks_extra
from nephros.microscopy.voxel_size import VoxelSize


def write_ome_image(
    path: Path,
    slices: Iterable[Slice],
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    voxel_size: VoxelSize | None,
    *,
    name: str,
    channel: str,
    annotation: dict[str, str] | None = None,
) -> None:
    """Write slices, one after the other, as one channel of an OME-TIFF file.

    Args:
        path: the file.
        slices: the slices, (rows, columns) each.
        shape: slices, rows and columns.
        dtype: of the pixels.
        voxel_size: micrometers along z, y and x; None states none.
        name: of the image.
        channel: name of the channel.
        annotation: texts by key, for the metadata.
    """
    with require_stacks_extra():
        import tifffile
    metadata: dict[str, Any] = {
        "axes": "ZYX",
        "Name": escape_for_terminal(name),
        "Channel": {"Name": [escape_for_terminal(channel)]},
    }
    if voxel_size is not None:
        for axis, side in zip("ZYX", voxel_size, strict=True):
            metadata |= {f"PhysicalSize{axis}": side, f"PhysicalSize{axis}Unit": "µm"}
    if annotation:
        metadata["MapAnnotation"] = {key: escape_for_terminal(value) for key, value in annotation.items()}
    n_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
    tifffile.imwrite(
        path,
        (np.ascontiguousarray(values, dtype) for values in slices),
        shape=shape,
        dtype=dtype,
        ome=True,
        bigtiff=n_bytes > 1 << 31,
        photometric="minisblack",
        compression="zlib",
        metadata=metadata,
    )


def iter_class_slices(
    mask_slices: Iterable[Slice], ids: NDArray[np.int64], labels: NDArray[np.int64], dtype: np.dtype[Any]
) -> Iterator[Slice]:
    """Yield a mask with 1 + the class of each nucleus in place of its id; 0 for the background, and nuclei without a class.

    Args:
        mask_slices: the mask.
        ids: (n,) int64, ascending.
        labels: (n,) int64, the class of each; -1 for none.
        dtype: of the result.
    """
    numbers = (labels + 1).astype(dtype)
    for values in mask_slices:
        classes = np.zeros(values.shape, dtype)
        foreground = np.nonzero(values)
        mask_ids = values[foreground].astype(np.int64)
        rows = np.minimum(np.searchsorted(ids, mask_ids), len(ids) - 1)
        classes[foreground] = np.where(ids[rows] == mask_ids, numbers[rows], 0)
        yield classes


def class_annotation(class_names: Sequence[str]) -> dict[str, str]:
    """Return the table of pixel values to names."""
    return {"0": "no nucleus"} | {str(1 + label): name for label, name in enumerate(class_names)}


def ome_dtype(dtype: np.dtype[Any], max_value: int = 1 << 53) -> np.dtype[Any]:
    """Return the type of OME-TIFF's that holds pixels of another type, or whole numbers up to `max_value`."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype == np.float16:
        return np.dtype(np.float32)
    if dtype.kind in "ui" and dtype.itemsize == 8:
        return np.dtype(np.uint32 if max_value < 1 << 32 else np.float64)
    return dtype.newbyteorder("=")
