"""Make the figure of an overlay that the README shows: ``python results/overlay_figure.py`` writes results/overlay.png.

The stack is synthetic, so its classes mean nothing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile

from nephros.microscopy.synthetic import SyntheticStack

OUTPUT_FILE = Path(__file__).with_name("overlay.png")
SHAPE = (14, 300, 420)


def main() -> None:
    """Make a stack, cut its nuclei out, classify them with the bundled model, and paint the predictions over it."""
    with tempfile.TemporaryDirectory() as folder:
        folder_path = Path(folder)
        pixels, masks = zip(*SyntheticStack(SHAPE, seed=1).slices(), strict=True)
        tifffile.imwrite(
            folder_path / "synthetic-tissue.tif", np.stack(pixels), photometric="minisblack", metadata={"axes": "ZYX"}
        )
        tifffile.imwrite(folder_path / "nuclei.tif", np.stack(masks).astype(np.uint16), photometric="minisblack")
        args = [
            "data",
            "prepare",
            "synthetic-tissue.tif",
            "--mask",
            "nuclei.tif",
            "--voxel-size",
            "1,0.5,0.5",
            "--out",
            "cells.npz",
        ]
        _run_nephros(folder_path, *args)
        _run_nephros(folder_path, "predict", "cells.npz", "--out", "predictions.csv", "--overlay", str(OUTPUT_FILE))


def _run_nephros(folder: Path, *args: str) -> None:
    print("nephros", *args)
    subprocess.run([sys.executable, "-m", "nephros", *args], cwd=folder, check=True)


if __name__ == "__main__":
    main()
