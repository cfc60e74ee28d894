"""OME-Zarr stores that benchmarks read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nephros.microscopy.voxel_size import VoxelSize


def create_zarr_store(
    path: Path, shape: tuple[int, int, int], dtype: Any, chunks: tuple[int, int, int], voxel_size: VoxelSize
) -> Any:
    """Create a store of one level, version 0.4, and return its array, of which no chunk is written yet."""
    import zarr

    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    axes: Any = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    scale: Any = [{"type": "scale", "scale": list(voxel_size)}]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
    return group.create_array(
        "0", shape=shape, dtype=dtype, chunks=tuple(min(c, n) for c, n in zip(chunks, shape, strict=True))
    )
