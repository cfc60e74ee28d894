"""Peak memory of cutting the nuclei out of a stack of so many gigabytes, with a mask and without, beside the stack's size.

The tissue is made up, 2560 x 2560 pixels of 16 bits a slice. `nephros data prepare` runs in a process of its own, which
reports its own peak.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common import Row, parse, parser, publish
from nephros.microscopy.synthetic import Tissue

SIDE = 2560
LIMIT_MB = 1000
"""That a stack of 2 GB may need."""
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
    """Make a stack (and its mask) in `folder` and prepare it; return sizes, peak, seconds and how many nuclei were found."""
    import tifffile

    tissue = Tissue((slices, SIDE, SIDE))
    stack_file, mask_file, out = folder / "stack.tif", folder / "mask.tif", folder / "cells.npz"
    with tifffile.TiffWriter(stack_file, bigtiff=True) as stack, tifffile.TiffWriter(mask_file, bigtiff=True) as mask:
        for pixels, marks in tissue.slices():
            stack.write(pixels, metadata=None)
            mask.write(marks.astype(np.uint32), metadata=None, compression="zlib")
    words = ["data", "prepare", str(stack_file), "--voxel-size", "1,0.5,0.5", "--out", str(out)]
    words += ["--labels", str(mask_file)] if with_mask else []
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PROBE, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"nephros data prepare failed:\n{done.stderr}")
    return {
        "mask": with_mask,
        "stack_mb": stack_file.stat().st_size / 1e6,
        "peak_mb": int(done.stdout.splitlines()[-1].split()[1]) / 1e6,
        "limit_mb": LIMIT_MB,
        "seconds": time.perf_counter() - began,
        "nuclei": json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))["nuclei"]["marked"],
        "nuclei_made": len(tissue.kinds),
    }


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__ or "")
    made.add_argument("--gigabytes", type=float, default=2.0, help="of the stack (default: 2)")
    settings = parse(made, "stack_memory")
    if not Path("/proc/self/status").exists():
        made.error("peak memory is read from /proc/self/status, which this system lacks.")
    slices = 4 if settings.quick else max(1, round(settings.options.gigabytes * 1e9 / (2 * SIDE * SIDE)))
    rows: list[Row] = []
    for with_mask in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(slices, with_mask, Path(folder)))
    publish(settings, "Memory of cutting nuclei out of a stack", rows, "made-up tissue")


if __name__ == "__main__":
    main()
