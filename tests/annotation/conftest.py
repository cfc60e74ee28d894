"""Synthetic stacks on disk, as a microscope's program writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from nephros.microscopy.synthetic import SyntheticStack
from nephros.microscopy.voxel_size import VoxelSize

VOXEL_SIZE = (1.0, 0.5, 0.5)


def write_stack(
    folder: Path,
    name: str = "K4",
    shape: tuple[int, int, int] = (14, 96, 120),
    seed: int = 0,
    voxel_size: VoxelSize = VOXEL_SIZE,
) -> tuple[Path, Path, NDArray[np.int32]]:
    """Write a stack of nuclei as OME-TIFF and its mask as TIFF; return both paths, and the mask."""
    stack = SyntheticStack(shape, voxel_size, seed)
    images, masks = (np.stack(slices) for slices in zip(*stack.slices(), strict=True))
    metadata = {"axes": "ZYX"} | {f"PhysicalSize{axis}": side for axis, side in zip("ZYX", voxel_size, strict=True)}
    tifffile.imwrite(folder / f"{name}.ome.tif", images, metadata=metadata, ome=True)
    tifffile.imwrite(folder / f"{name}_mask.tif", masks, imagej=False, photometric="minisblack")
    return folder / f"{name}.ome.tif", folder / f"{name}_mask.tif", masks
