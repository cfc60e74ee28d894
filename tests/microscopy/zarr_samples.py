"""OME-Zarr stores for tests, written by zarr with the metadata of the specification."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from nephros.microscopy.synthetic import SyntheticStack

VOXEL_SIZE = (1.0, 0.5, 0.5)


def axes_metadata(axes: str, unit: str | None = "micrometer") -> list[dict[str, Any]]:
    """Return the description of axes such as ``CZYX``."""
    kinds = {"T": "time", "C": "channel"}
    items = [{"name": axis.lower(), "type": kinds.get(axis, "space")} for axis in axes]
    return [item | ({"unit": unit} if unit and item["type"] == "space" else {}) for item in items]


def multiscale(axes: str, n_levels: int = 1, unit: str | None = "micrometer", **fields: Any) -> dict[str, Any]:
    """Return an entry of ``multiscales`` whose level n has pixels 2**n times as large in the plane."""
    sides = dict(zip("ZYX", VOXEL_SIZE, strict=True))
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {
                    "type": "scale",
                    "scale": [sides.get(a, 1.0) * (2**level if a in "YX" else 1) for a in axes],
                }
            ],
        }
        for level in range(n_levels)
    ]
    return {"axes": axes_metadata(axes, unit), "datasets": datasets, "version": "0.4", **fields}


def write_image(
    folder: Path,
    values: NDArray[Any],
    axes: str = "ZYX",
    *,
    zarr_format: Any = 2,
    channels: tuple[str, ...] = (),
    n_levels: int = 1,
    chunks: tuple[int, ...] | None = None,
    unit: str | None = "micrometer",
    attributes: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Write one image as a store, or as a group in one; level n takes every 2**n-th pixel of the plane."""
    group = zarr.open_group(str(folder), mode="a", zarr_format=zarr_format)
    chunks = chunks or tuple(
        min(side, 16) if axis in "YX" else 1 for axis, side in zip(axes, values.shape, strict=True)
    )
    if zarr_format == 2:
        options["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
    for level in range(n_levels):
        data = values[..., :: 2**level, :: 2**level]
        array = group.create_array(str(level), shape=data.shape, dtype=data.dtype, chunks=chunks, **options)
        array[...] = data
    ome: dict[str, Any] = {"multiscales": [multiscale(axes, n_levels, unit)]}
    if channels:
        ome["omero"] = {"channels": [{"label": name} for name in channels]}
    write_attributes(folder, ome | (attributes or {}), zarr_format=zarr_format)
    return folder


def write_attributes(folder: Path, ome: dict[str, Any], *, zarr_format: Any = 2) -> None:
    """Write the OME attributes of a group."""
    group = zarr.open_group(str(folder), mode="a", zarr_format=zarr_format)
    group.attrs.update({"ome": {"version": "0.5", **ome}} if zarr_format == 3 else ome)


def write_tissue(
    folder: Path, labels: tuple[str, ...] = ("nuclei",), shape: tuple[int, int, int] = (12, 96, 96)
) -> Path:
    """Write a synthetic stack of nuclei with two channels, the second of them the nuclei, and masks of them."""
    pixels, mask = (np.stack(part) for part in zip(*SyntheticStack(shape).slices(), strict=True))
    write_image(folder, np.stack([np.full_like(pixels, 9), pixels]), "CZYX", channels=("GFP", "DAPI"))
    for name in labels:
        write_image(folder / "labels" / name, mask.astype(np.uint32))
    if labels:
        write_attributes(folder / "labels", {"labels": list(labels)})
    return folder
