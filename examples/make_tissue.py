"""Draw a synthetic kidney stack to try the commands on: python examples/make_tissue.py [FOLDER]

Writes kidney.ome.tif (14 slices, one channel, voxel size stated) and nuclei.tif, a mask with an integer per nucleus.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile

from nephros.microscopy.synthetic import SyntheticStack

SHAPE = (14, 300, 420)


def main(folder: str = ".") -> None:
    """Write the stack and its mask into `folder`."""
    pixels, masks = zip(*SyntheticStack(SHAPE, seed=1).slices(), strict=True)
    spacing = {"PhysicalSizeZ": 1.0, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5}
    tifffile.imwrite(
        Path(folder) / "kidney.ome.tif",
        np.stack(pixels),
        photometric="minisblack",
        metadata={"axes": "ZYX", **spacing},
    )
    tifffile.imwrite(Path(folder) / "nuclei.tif", np.stack(masks).astype(np.uint16), photometric="minisblack")


if __name__ == "__main__":
    main(*sys.argv[1:])
