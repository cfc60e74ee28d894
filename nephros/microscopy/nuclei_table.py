"""A stack's nuclei as a CSV table, one line a nucleus, in the order of the pictures."""

from __future__ import annotations

import csv
import io

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.measurements import Nuclei
from nephros.microscopy.voxel_size import Voxels

COLUMNS = (
    "index", "id", "z", "y", "x", "z_um", "y_um", "x_um", "volume_voxels", "volume_um3", "border", "brightness",
)  # fmt: skip
"""index: row of the npz file. id: the mask's number. z, y, x: centroid in voxels; _um: in micrometres from the middle of
the first voxel, empty where no voxel size is known. brightness: mean of the stack's own pixels over the nucleus."""


def table(nuclei: Nuclei, border: NDArray[np.bool_], voxel_size: Voxels | None) -> str:
    """Return the CSV text; `border` is (n,) bool."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for index in range(len(nuclei)):
        centroid, voxels = nuclei.centroids[index], int(nuclei.voxels[index])
        microns, volume = ["", "", ""], ""
        if voxel_size is not None:
            microns = [f"{position * side:.3f}" for position, side in zip(centroid, voxel_size, strict=True)]
            volume = f"{voxels * float(np.prod(voxel_size)):.3f}"
        writer.writerow(
            [
                index, int(nuclei.ids[index]), *(f"{position:.2f}" for position in centroid), *microns, voxels, volume,
                "true" if border[index] else "false", f"{nuclei.brightness[index]:.3f}",
            ]
        )  # fmt: skip
    return text.getvalue()
