"""Peak memory of `nephros data prepare` for a large stack, with a mask and without, beside the size of the stack.

The tissue is synthetic, with slices of 2560 x 2560 pixels of 16 bits. The command runs in a separate process, which reports its
peak.
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
from nephros.microscopy.synthetic import SyntheticStack

SIDE = 2560
LIMIT_MB = 1000
"""Memory that a stack of 2 GB may need."""
PROBE = """
import sys
from nephros.cli import main
try:
    main(sys.argv[1:])
finally:
    peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
    print("peak", int(peak.split()[1]) * 1024)
"""


def measure(slices: int, with_mask: bool, folder: Path) -> Row:
    """Write a stack and its mask to `folder` and prepare it; return sizes, peak memory, seconds and numbers of nuclei."""
    import tifffile

    tissue = SyntheticStack((slices, SIDE, SIDE))
    stack_file, mask_file, out = folder / "stack.tif", folder / "mask.tif", folder / "cells.npz"
    with tifffile.TiffWriter(stack_file, bigtiff=True) as stack, tifffile.TiffWriter(mask_file, bigtiff=True) as mask:
        for pixels, labels in tissue.slices():
            stack.write(pixels, metadata=None)
            mask.write(labels.astype(np.uint32), metadata=None, compression="zlib")
    args = ["data", "prepare", str(stack_file), "--voxel-size", "1,0.5,0.5", "--out", str(out)]
    args += ["--mask", str(mask_file)] if with_mask else []
    start = time.perf_counter()
    completed = subprocess.run([sys.executable, "-c", PROBE, *args], capture_output=True, text=True, check=False)
    if completed.returncode:
        raise RuntimeError(f"nephros data prepare failed:\n{completed.stderr}")
    return {
        "mask": with_mask,
        "stack_mb": stack_file.stat().st_size / 1e6,
        "peak_mb": int(completed.stdout.splitlines()[-1].split()[1]) / 1e6,
        "limit_mb": LIMIT_MB,
        "seconds": time.perf_counter() - start,
        "nuclei": json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))["nuclei"]["segmented"],
        "nuclei_simulated": len(tissue.nucleus_types),
    }


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of the stack (default: 2)")
    config = parse_config(parser, "stack_memory")
    if not Path("/proc/self/status").exists():
        parser.error("peak memory is read from /proc/self/status, which this system doesn't have.")
    slices = 4 if config.quick else max(1, round(config.args.gigabytes * 1e9 / (2 * SIDE * SIDE)))
    rows: list[Row] = []
    for with_mask in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(slices, with_mask, Path(folder)))
    publish(config, "Memory of preparing a stack", rows, "synthetic tissue")


if __name__ == "__main__":
    main()
