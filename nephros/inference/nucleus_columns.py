"""Columns on where the nuclei of stacks are, beside their predictions, and the tidy table of nuclei alone."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nephros.inference.predictions import Predictions
    from nephros.microscopy.located import LocatedNuclei

POSITION_COLUMNS = (
    "z", "y", "x", "z_um", "y_um", "x_um", "volume_voxels", "volume_um3", "at_border", "intensity_mean",
)  # fmt: skip
"""As in the table of `nephros.prepare`; see `nephros.microscopy.output_files.NUCLEI_COLUMNS`."""

_Record = dict[str, Any]


def nucleus_records(predictions: Predictions) -> list[_Record]:
    """Return, for each row of predictions, the id and the columns POSITION_COLUMNS of its nucleus; nothing for other rows."""
    records_by_file = {located.display_path: position_records(located) for located in predictions.located}
    nothing: dict[int, _Record] = {}
    return [records_by_file.get(source.file, nothing).get(source.index, {}) for source in predictions.sources]


def position_records(located: LocatedNuclei) -> dict[int, dict[str, Any]]:
    """Return id -> the id and the columns POSITION_COLUMNS of a stack's nuclei.

    Lengths in micrometers are None where the voxel size is unknown.
    """
    nuclei, sides = located.nuclei, located.voxel_size
    voxel_um3 = None if sides is None else float(np.prod(sides))
    records = {}
    for i, nucleus_id in enumerate(nuclei.ids.tolist()):
        centroid = nuclei.centroids[i].tolist()
        record: _Record = {"id": nucleus_id}
        record |= {axis: round(position, 2) for axis, position in zip("zyx", centroid, strict=True)}
        record |= {
            f"{axis}_um": None if sides is None else round(centroid[k] * sides[k], 3) for k, axis in enumerate("zyx")
        }
        n_voxels = int(nuclei.voxels[i])
        record["volume_voxels"] = n_voxels
        record["volume_um3"] = None if voxel_um3 is None else round(n_voxels * voxel_um3, 3)
        record["at_border"] = bool(located.at_border[i])
        record["intensity_mean"] = round(float(nuclei.mean_intensity[i]), 3)
        records[nucleus_id] = record
    return records


def cell_columns(predictions: Predictions) -> dict[str, list[Any]]:
    """Return the tidy table of all rows that are nuclei of stacks, by column.

    The columns are ``id`` (in the mask), ``stack``, the position and size of POSITION_COLUMNS, ``label``, ``class_name``, the
    probability of each class as ``p[NAME]``, ``prediction_set`` and ``ood_reasons`` joined by "; ", and ``is_ood``.
    """
    stack_names = _stack_names(predictions)
    names = ["id", "stack", *POSITION_COLUMNS, "label", "class_name", *(f"p[{c}]" for c in predictions.class_names)]
    names += ["prediction_set", "is_ood", "ood_reasons"]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for row, record in zip(predictions.rows(), nucleus_records(predictions), strict=True):
        if not record:
            continue
        values = record | {
            "stack": stack_names[row.source.file],
            "label": row.label,
            "class_name": row.class_name,
            "prediction_set": None,
            "is_ood": row.is_ood,
            "ood_reasons": "; ".join(row.ood_reasons),
        }
        values |= dict.fromkeys(f"p[{c}]" for c in predictions.class_names)
        if row.probabilities is not None:
            values |= {f"p[{c}]": p for c, p in zip(predictions.class_names, row.probabilities, strict=True)}
            values["prediction_set"] = "; ".join(predictions.class_names[label] for label in row.prediction_set or [])
        for name in names:
            columns[name].append(values[name])
    return columns


def _stack_names(predictions: Predictions) -> dict[str, str]:
    """Return file -> what the table calls the stack: its name or, where several stacks have that, its path."""
    counts = Counter(located.path.name for located in predictions.located)
    return {
        located.display_path: located.path.name if counts[located.path.name] == 1 else located.display_path
        for located in predictions.located
    }
