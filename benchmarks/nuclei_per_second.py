"""Nuclei per second from a stack and its mask to the table, by stage, from OME-TIFF and OME-Zarr files, beside other ways."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common import Row, build_parser, parse_config, publish, run_module
from benchmarks.zarr_store import create_zarr_store
from nephros.microscopy.synthetic import SyntheticStack
from nephros.tissue.ome_images import write_ome_image

SHAPE, QUICK_SHAPE = (96, 1024, 1024), (12, 128, 128)
CHUNKS = (16, 256, 256)
TITLES = {
    "nephros": "nephros predict to a folder of results",
    "arrays": "reading alone, as whole arrays",
    "regionprops": "scikit-image regionprops and a forest, to CSV",
}


def write_stacks(stack: SyntheticStack, folder: Path) -> dict[str, tuple[Path, Path]]:
    """Write a stack and its mask as OME-TIFF and OME-Zarr files; return both paths by format."""
    files: dict[str, Path] = {}
    dtypes: dict[str, np.dtype[Any]] = {"stack": np.dtype(np.uint16), "mask": np.dtype(np.int32)}
    for index, (name, dtype) in enumerate(dtypes.items()):
        path = folder / f"{name}.ome.tif"
        slices = (pair[index] for pair in stack.slices())
        write_ome_image(path, slices, stack.shape, dtype, stack.voxel_size, name=name, channel="nuclei")
        files[name] = path
        store = create_zarr_store(folder / f"{name}.zarr", stack.shape, dtype, CHUNKS, stack.voxel_size)
        store[:] = np.stack([pair[index] for pair in stack.slices()])
    return {
        "OME-TIFF": (files["stack"], files["mask"]),
        "OME-Zarr": (folder / "stack.zarr", folder / "mask.zarr"),
    }


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.set_defaults(repeats=3)
    config = parse_config(parser, "nuclei_per_second")
    stack = SyntheticStack(QUICK_SHAPE if config.quick else SHAPE)
    n_bytes = int(np.prod(stack.shape)) * 6
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for file_format, paths in write_stacks(stack, Path(folder)).items():
            for contender, title in TITLES.items():
                args = [contender, *map(str, paths)]
                results = [run_module("nuclei_case", args) for _ in range(1 if config.quick else config.repeats)]
                rows.append({"what": f"{file_format}: {title}", **_summary(results, n_bytes)})
    data = f"a synthetic stack of {' x '.join(map(str, stack.shape))} voxels with {len(stack.radii_um):,} nuclei"
    publish(config, "From a stack and its mask to a table of its nuclei", rows, data)


def _summary(results: list[dict[str, Any]], n_bytes: int) -> Row:
    """Return medians over rounds: nuclei per second, seconds by stage, and peak memory, also by the size of both volumes."""

    def middle(key: str) -> float | None:
        return median(result[key] for result in results) if key in results[0] else None

    seconds = {f"{stage}_s": middle(stage) for stage in ("read", "crop", "network", "write")}
    whole = median(result["whole"] for result in results)
    peak = median(result["peak_bytes"] for result in results)
    return {
        "nuclei_per_s": results[0]["n"] / whole,
        **seconds,
        "whole_s": whole,
        "peak_mb": peak / 1e6,
        "peak_by_volume": peak / n_bytes,
    }


if __name__ == "__main__":
    main()
