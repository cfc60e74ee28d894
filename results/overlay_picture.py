"""The picture of one's own tissue in README: python results/overlay_picture.py writes results/overlay.png.

The stack is made up, so the classes say nothing about kidneys: the picture shows what the commands make.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile

from nephros.microscopy.synthetic import Tissue

PICTURE = Path(__file__).with_name("overlay.png")
SHAPE = (14, 300, 420)


def main() -> None:
    """Make a stack, cut its nuclei out, classify them with the model in the box, and paint the answers."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        pixels, marks = zip(*Tissue(SHAPE, seed=1).slices(), strict=True)
        tifffile.imwrite(
            here / "made-up-tissue.tif", np.stack(pixels), photometric="minisblack", metadata={"axes": "ZYX"}
        )
        tifffile.imwrite(here / "nuclei.tif", np.stack(marks).astype(np.uint16), photometric="minisblack")
        words = [
            "data",
            "prepare",
            "made-up-tissue.tif",
            "--labels",
            "nuclei.tif",
            "--voxel-size",
            "1,0.5,0.5",
            "--out",
            "cells.npz",
        ]
        _nephros(here, *words)
        _nephros(here, "predict", "cells.npz", "--out", "answers.csv", "--overlay", str(PICTURE))


def _nephros(folder: Path, *words: str) -> None:
    print("nephros", *words)
    subprocess.run([sys.executable, "-m", "nephros", *words], cwd=folder, check=True)


if __name__ == "__main__":
    main()
