"""Draw a synthetic kidney stack to try the commands on: python examples/make_tissue.py [FOLDER]

Writes kidney.ome.tif (14 slices, one channel, voxel size stated), nuclei.tif, a mask with an integer per nucleus, and labels.csv,
the class of some nuclei.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import tifffile

from nephros.data.synthetic import NUCLEUS_TYPES
from nephros.microscopy.synthetic import SyntheticStack

SHAPE = (14, 300, 420)
CLASSES = {"oval": "elongated", "bean": "elongated", "spindle": "elongated", "lobed": "bright", "round": "round"}
"""Class of each type of nucleus in labels.csv."""
LABELS_PER_CLASS = 16


def main(folder: str = ".") -> None:
    """Write the stack, its mask and the labels into `folder`."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    stack = SyntheticStack(SHAPE, seed=1)
    pixels, masks = zip(*stack.slices(), strict=True)
    spacing = {"PhysicalSizeZ": 1.0, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5}
    tifffile.imwrite(
        Path(folder) / "kidney.ome.tif",
        np.stack(pixels),
        photometric="minisblack",
        metadata={"axes": "ZYX", **spacing},
    )
    tifffile.imwrite(Path(folder) / "nuclei.tif", np.stack(masks).astype(np.uint16), photometric="minisblack")
    write_labels(Path(folder) / "labels.csv", stack)


def write_labels(path: Path, stack: SyntheticStack) -> None:
    """Write a table of the first nuclei of each class: id, as in the mask, and class."""
    classes = [CLASSES.get(NUCLEUS_TYPES[index].name) for index in stack.nucleus_types]
    rows = [
        (index + 1, name)
        for index, name in enumerate(classes)
        if name and classes[:index].count(name) < LABELS_PER_CLASS
    ]
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "class"), *rows])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=".", help="where to write the files (default: %(default)s)")
    main(parser.parse_args().folder)
