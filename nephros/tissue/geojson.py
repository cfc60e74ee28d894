"""Nuclei as GeoJSON that QuPath imports as detections, with outline, class, color and measurements.

QuPath's keys are those of its own export since version 0.4 (`QuPathTypeAdapters` in its source): ``objectType``, ``name``,
``classification``, ``measurements`` (numbers only), ``metadata`` (texts only), and ``plane`` in the geometry for slices beyond
the first. Coordinates are pixels from the upper left corner of the image.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

from matplotlib.colors import to_rgb

from nephros.tissue.footprints import Footprints
from nephros.tissue.outlines import Polygon

_NAMESPACE = uuid.UUID("3b0dbd0e-5c0e-5f0c-9d57-2b7f6a3f6d11")
"""Of the ids of features: one nucleus has the same id whenever it is exported."""
_TEXT_COLUMNS = ("stack", "prediction_set", "ood_reasons")
_NOT_MEASURED = ("class_name", *_TEXT_COLUMNS)

Row = Mapping[str, Any]


def iter_features(
    rows: Sequence[Row], footprints: Footprints, class_colors: Sequence[str]
) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield a feature per nucleus, and the slice of its centroid.

    Args:
        rows: of the table that `nephros.inference.nucleus_columns.cell_columns` returns, in the order of `footprints`.
        footprints: of the same nuclei; one without a footprint becomes the point of its centroid.
        class_colors: color of each class by label, as matplotlib takes it; they repeat.
    """
    for row, polygons in zip(rows, footprints.iter_outlines(), strict=True):
        yield _feature(row, _geometry(row, polygons), class_colors), round(row["z"])


def feature_id(stack: str, nucleus_id: int) -> str:
    """Return the id of a nucleus's feature, the same whenever it is exported."""
    return str(uuid.uuid5(_NAMESPACE, f"{stack}/{nucleus_id}"))


def _geometry(row: Row, polygons: list[Polygon] | None) -> dict[str, Any]:
    if polygons is None:  # centroids count from the middle of the first pixel, QuPath from its corner
        return {"type": "Point", "coordinates": [row["x"] + 0.5, row["y"] + 0.5]}
    coordinates = [[ring.tolist() for ring in polygon] for polygon in polygons]
    if len(coordinates) == 1:
        return {"type": "Polygon", "coordinates": coordinates[0]}
    return {"type": "MultiPolygon", "coordinates": coordinates}


def _feature(row: Row, geometry: dict[str, Any], class_colors: Sequence[str]) -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": "detection", "name": str(row["id"])}
    if row["label"] is not None:
        color = [round(255 * part) for part in to_rgb(class_colors[row["label"] % len(class_colors)])]
        properties["classification"] = {"name": row["class_name"], "color": color}
    properties["measurements"] = {
        name: float(value) if isinstance(value, bool) else value
        for name, value in row.items()
        if value is not None and name not in _NOT_MEASURED
    }
    properties["metadata"] = {name: row[name] for name in _TEXT_COLUMNS if row[name]}
    return {
        "type": "Feature",
        "id": feature_id(row["stack"], row["id"]),
        "geometry": geometry,
        "properties": properties,
    }


def scale_feature(feature: Mapping[str, Any], step: tuple[float, float]) -> dict[str, Any]:
    """Return a feature in the pixels of an image that has `step` pixels, along y and x, per pixel of the feature's."""

    def scale(coordinates: list[Any]) -> list[Any]:
        if isinstance(coordinates[0], list):
            return [scale(part) for part in coordinates]
        x, y = coordinates
        return [x * step[1], y * step[0]]

    geometry = feature["geometry"]
    return {**feature, "geometry": geometry | {"coordinates": scale(geometry["coordinates"])}}


def to_finest_level(
    feature: Mapping[str, Any], plane: int, level_step: tuple[float, float, float]
) -> tuple[Mapping[str, Any], int]:
    """Return a feature and its slice in the finest level of an image pyramid, which QuPath opens whichever was read here.

    Args:
        feature: in the pixels of the level that was read.
        plane: slice of that level.
        level_step: voxels of the finest level per voxel of it, along z, y and x.
    """
    z_step, y_step, x_step = level_step
    return (
        feature if y_step == x_step == 1 else scale_feature(feature, (y_step, x_step)),
        plane if z_step == 1 else int((plane + 0.5) * z_step),
    )


class FeatureCollectionWriter:
    """Writes features one by one, a line each, as one FeatureCollection; `close` completes it."""

    def __init__(self, file: IO[str]) -> None:
        self._file, self._separator = file, "\n"
        file.write('{"type": "FeatureCollection", "features": [')

    def write(self, feature: Mapping[str, Any], plane: int = 0) -> None:
        """Write a feature; `plane` is the slice on which QuPath shows it."""
        if plane:
            geometry = feature["geometry"] | {"plane": {"c": -1, "z": plane, "t": 0}}
            feature = {**feature, "geometry": geometry}
        self._file.write(
            self._separator + json.dumps(feature, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        )
        self._separator = ",\n"

    def close(self) -> None:
        """Write the end."""
        self._file.write("\n]}\n")
