"""A stack's nuclei as a CSV table, one line a nucleus, in the order of the pictures."""

from __future__ import annotations

import csv
import io

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.measurements import NucleusProperties
from nephros.microscopy.voxel_size import VoxelSize

NUCLEI_COLUMNS = (
    "index", "id", "z", "y", "x", "z_um", "y_um", "x_um", "volume_voxels", "volume_um3", "at_border", "intensity_mean",
)  # fmt: skip
"""index: row of the npz file. id: the mask's number. z, y, x: centroid in voxels; _um: in micrometres from the middle of
the first voxel, empty where no voxel size is known. intensity_mean: mean of the stack's own pixels over the nucleus."""


def nuclei_csv(nuclei: NucleusProperties, at_border: NDArray[np.bool_], voxel_size: VoxelSize | None) -> str:
    """Return the CSV text; `at_border` is (n,) bool."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(NUCLEI_COLUMNS)
    for index in range(len(nuclei)):
        centroid, voxels = nuclei.centroids[index], int(nuclei.voxels[index])
        centroid_um, volume_um3 = ["", "", ""], ""
        if voxel_size is not None:
            centroid_um = [f"{position * side:.3f}" for position, side in zip(centroid, voxel_size, strict=True)]
            volume_um3 = f"{voxels * float(np.prod(voxel_size)):.3f}"
        writer.writerow(
            [
                index, int(nuclei.ids[index]), *(f"{position:.2f}" for position in centroid), *centroid_um, voxels, volume_um3,
                "true" if at_border[index] else "false", f"{nuclei.mean_intensity[index]:.3f}",
            ]
        )  # fmt: skip
    return buffer.getvalue()
