"""The table of a stack's nuclei as CSV, one row per nucleus in the order of the images."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.errors import FileError
from nephros.microscopy.measurements import NucleusProperties
from nephros.microscopy.voxel_size import VoxelSize

NUCLEI_COLUMNS = (
    "index", "id", "z", "y", "x", "z_um", "y_um", "x_um", "volume_voxels", "volume_um3", "at_border", "intensity_mean",
)  # fmt: skip
"""index: row of the npz file. id: the nucleus's id in the mask. z, y, x: centroid in voxels, z_um, y_um, x_um: in micrometers
from the center of the first voxel, empty where the voxel size is unknown. intensity_mean: mean of the stack's voxels over the
nucleus."""


def nuclei_csv(nuclei: NucleusProperties, at_border: NDArray[np.bool_], voxel_size: VoxelSize | None) -> str:
    """Return the table as CSV text; `at_border` is (n,) bool."""
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


def read_nuclei_csv(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read the ids and the mean intensities of a table's nuclei, (n,) each.

    Raises:
        FileError: the file can't be read or is damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(int(row["id"]), float(row["intensity_mean"])) for row in csv.DictReader(file)]
        if not rows:
            raise ValueError("no rows")
    except OSError as error:
        raise FileError(
            path, f"{path} can't be read ({error.strerror}); it belongs beside the metadata file."
        ) from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise FileError(path, f"{path} is damaged; run `nephros.prepare(STACK)` again.") from error
    return np.array([nucleus_id for nucleus_id, _ in rows], np.int64), np.array([intensity for _, intensity in rows])
