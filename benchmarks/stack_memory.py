"""Peak memory of `nephros data prepare` for large stacks, beside their size.

Two are TIFF files of 2 GB, with a mask and without; their slices have 2560 x 2560 pixels of 16 bits. One is an OME-Zarr store of
10 GB with a mask of 20 GB, of which few chunks are written: every slice is decoded all the same. The tissue is synthetic. The
command runs in a separate process, which reports its peak and that of the processes in which it decodes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common import Row, build_parser, parse_config, publish
from benchmarks.zarr_store import create_zarr_store
from nephros.microscopy.synthetic import SyntheticStack

SIDE, SPARSE_SIDE = 2560, 2048
CHUNKS = (64, 256, 256)
LIMIT_MB = 1000
"""Memory that a stack may need, whatever its size."""
PROBE = """
import sys
from benchmarks.process_memory import process_memory
from nephros.cli import main
from nephros.data.images.decoder import default_pool
try:
    main(sys.argv[1:])
finally:
    print("peaks", process_memory("VmHWM"), *(process_memory("VmHWM", pid) for pid in default_pool().pids))
"""


def measure_tiff(slices: int, with_mask: bool, folder: Path) -> Row:
    """Write a dense stack and its mask to `folder`, and prepare it."""
    import tifffile

    tissue = SyntheticStack((slices, SIDE, SIDE))
    stack_file, mask_file = folder / "stack.tif", folder / "mask.tif"
    with tifffile.TiffWriter(stack_file, bigtiff=True) as stack, tifffile.TiffWriter(mask_file, bigtiff=True) as mask:
        for pixels, labels in tissue.slices():
            stack.write(pixels, metadata=None)
            mask.write(labels.astype(np.uint32), metadata=None, compression="zlib")
    row = _prepare(stack_file, mask_file if with_mask else None, tissue.shape, folder)
    what = "TIFF, with a mask" if with_mask else "TIFF, without a mask"
    return {"what": what, **row, "nuclei_simulated": len(tissue.nucleus_types)}


def measure_sparse_zarr(slices: int, folder: Path, side: int = SPARSE_SIDE) -> Row:
    """Write a store and its mask with one chunk in every second layer of chunks, and prepare it."""
    shape = (slices, side, side)
    tissue = SyntheticStack(CHUNKS)
    pixels, labels = (np.stack(part) for part in zip(*tissue.slices(), strict=True))
    files = {"stack": np.uint16, "mask": np.int32}
    stack, mask = (
        create_zarr_store(folder / f"{name}.zarr", shape, dtype, CHUNKS, tissue.voxel_size)
        for name, dtype in files.items()
    )
    n_copies = 0
    for z in range(0, slices - CHUNKS[0] + 1, 2 * CHUNKS[0]):
        place = (slice(z, z + CHUNKS[0]), slice(0, CHUNKS[1]), slice(0, CHUNKS[2]))
        stack[place] = pixels
        mask[place] = np.where(labels > 0, labels + n_copies * len(tissue.nucleus_types), 0)
        n_copies += 1
    row = _prepare(folder / "stack.zarr", folder / "mask.zarr", shape, folder)
    n_nuclei = n_copies * len(np.unique(labels)[1:])
    return {"what": "OME-Zarr, few chunks, with a mask", **row, "nuclei_simulated": n_nuclei}


def _prepare(stack: Path, mask: Path | None, shape: tuple[int, int, int], folder: Path) -> Row:
    """Prepare a stack; return its size in memory, peaks, seconds and the number of nuclei."""
    out = folder / "cells.npz"
    args = ["data", "prepare", str(stack), "--voxel-size", "1,0.5,0.5", "--out", str(out)]
    args += ["--mask", str(mask)] if mask else []
    start = time.perf_counter()
    completed = subprocess.run([sys.executable, "-c", PROBE, *args], capture_output=True, text=True, check=False)
    if completed.returncode:
        raise RuntimeError(f"nephros data prepare failed:\n{completed.stderr}")
    peaks = [int(text) / 1e6 for text in completed.stdout.splitlines()[-1].split()[1:]]
    stack_mb = int(np.prod(shape)) * 2 / 1e6
    return {
        "stack_mb": stack_mb,
        "peak_mb": sum(peaks),
        "of_it_decoding_mb": sum(peaks[1:]),
        "peak_by_stack": sum(peaks) / stack_mb,
        "limit_mb": LIMIT_MB,
        "seconds": time.perf_counter() - start,
        "nuclei": json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))["nuclei"]["segmented"],
    }


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the TIFF stack (default: 2)")
    parser.add_argument("--zarr-gigabytes", type=float, default=10.0, help="size of the OME-Zarr stack (default: 10)")
    config = parse_config(parser, "stack_memory")
    if not Path("/proc/self/status").exists():
        parser.error("peak memory is read from /proc/self/status, which this system doesn't have.")
    slices = 4 if config.quick else max(1, round(config.args.gigabytes * 1e9 / (2 * SIDE * SIDE)))
    side = CHUNKS[1] if config.quick else SPARSE_SIDE
    zarr_slices = CHUNKS[0] if config.quick else round(config.args.zarr_gigabytes * 1e9 / (2 * side * side))
    rows: list[Row] = []
    for with_mask in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure_tiff(slices, with_mask, Path(folder)))
    with tempfile.TemporaryDirectory() as folder:
        rows.append(measure_sparse_zarr(max(CHUNKS[0], zarr_slices), Path(folder), side))
    publish(config, "Memory of preparing a stack", rows, "synthetic tissue")


if __name__ == "__main__":
    main()
