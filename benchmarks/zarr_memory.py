"""Peak memory and speed of reading a large OME-Zarr store slice by slice: `python -m benchmarks.zarr_memory`.

The store claims `--gb` gigabytes, of which a few chunks are written: reading decodes or fills all of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from nephros.data.images.decoder import default_pool
from nephros.microscopy.reader import open_stack

SIDE, CHUNKS = 2048, (64, 256, 256)


def write_sparse_store(folder: Path, n_slices: int) -> None:
    """Write a store of `n_slices` slices of SIDE x SIDE pixels of 16 bits, with a chunk in every second layer of chunks."""
    group = zarr.open_group(str(folder), mode="w", zarr_format=2)
    array = group.create_array("0", shape=(n_slices, SIDE, SIDE), dtype="uint16", chunks=CHUNKS)
    pixels = np.random.default_rng(0).integers(0, 4000, CHUNKS).astype(np.uint16)
    for z in range(0, n_slices - CHUNKS[0] + 1, 2 * CHUNKS[0]):
        array[z : z + CHUNKS[0], : CHUNKS[1], : CHUNKS[2]] = pixels
    axes: Any = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    scale: Any = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]


def measure(gigabytes: float, folder: Path) -> dict[str, Any]:
    """Return the size of a store, the seconds to read it, and the peak memory of this process and of its worker in MB."""
    n_slices = max(CHUNKS[0], int(gigabytes * 1e9 / (SIDE * SIDE * 2)))
    write_sparse_store(folder / "sparse.ome.zarr", n_slices)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    stack = open_stack(folder / "sparse.ome.zarr")
    n_read = sum(1 for _ in stack.slices())
    seconds = time.perf_counter() - start
    worker_kb = 0
    for pid in default_pool().pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        worker_kb = max(worker_kb, *(int(line.split()[1]) for line in lines if line.startswith("VmHWM")))
    return {
        "gigabytes": round(n_read * SIDE * SIDE * 2 / 1e9, 2),
        "seconds": round(seconds, 1),
        "growth_of_this_process_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024,
        "peak_of_worker_mb": worker_kb // 1024,
    }


def main() -> None:
    """Measure, and print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=10.0)
    gigabytes = parser.parse_args().gb
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(gigabytes, Path(folder)), indent=1))


if __name__ == "__main__":
    main()
