"""A large stack needs little memory: the command in a process of its own, which reports its own peak."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from nephros.data.stack.made_up import Tissue

pytestmark = pytest.mark.slow

PROBE = """
import sys
from nephros.cli import main
try:
    main(sys.argv[1:])
finally:
    peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
    print("peak", int(peak.split()[1]) * 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("with_mask", [True, False])
def test_half_a_gigabyte_needs_less_than_its_own_size(with_mask: bool, tmp_path: Path) -> None:
    tissue = Tissue((40, 2560, 2560))
    with tifffile.TiffWriter(tmp_path / "stack.tif") as stack, tifffile.TiffWriter(tmp_path / "mask.tif") as mask:
        for pixels, marks in tissue.slices():
            stack.write(pixels, metadata=None)
            mask.write(marks.astype(np.uint16), metadata=None, compression="zlib")
    size = (tmp_path / "stack.tif").stat().st_size
    assert size > 500e6
    words = [
        "data",
        "prepare",
        str(tmp_path / "stack.tif"),
        "--voxel-size",
        "1,0.5,0.5",
        "--out",
        str(tmp_path / "a.npz"),
    ]
    words += ["--labels", str(tmp_path / "mask.tif")] if with_mask else []
    done = subprocess.run([sys.executable, "-c", PROBE, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.splitlines()[-1].split()[1])
    nuclei = json.loads((tmp_path / "a.json").read_text())["nuclei"]["marked"]
    print(f"stack {size / 1e6:.0f} MB, {nuclei:,} nuclei, peak {peak / 1e6:.0f} MB")
    assert nuclei == pytest.approx(len(tissue.kinds), rel=0.03)
    assert peak < 500e6
