"""`cells.geojson` against QuPath's format, read back by shapely: awkward nuclei keep every pixel, and ids join with the mask."""

from __future__ import annotations

import io
import json
import math
import uuid
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from shapely.geometry import shape

from nephros.tissue.class_colors import CLASS_COLORS
from nephros.tissue.footprints import Footprints
from nephros.tissue.geojson import FeatureCollectionWriter, iter_features

NAMES = ("Leukocytes", 'Thick "Ascending" Limb\n</b>', "Zelle µ, Größe 😀")


def _mask() -> NDArray[np.uint16]:
    """Return a mask, (2, 30, 40), of nuclei of one pixel, with a hole, in two parts, that touch at a corner, and at the edge."""
    mask = np.zeros((2, 30, 40), np.uint16)
    mask[0, 3, 3] = 5
    mask[0, 6:15, 6:15], mask[0, 9:12, 9:12] = 9, 0
    mask[0, 10, 10] = 12  # within the hole of another
    mask[1, 20:24, 20:24], mask[1, 26:28, 30:33] = 900, 900
    mask[0, 2:5, 20:23], mask[0, 5:8, 23:26] = 65535, 65535
    mask[1, 25:30, 0:4] = 40
    return mask


def _rows(mask: NDArray[np.uint16]) -> list[dict[str, Any]]:
    rows = []
    for number, nucleus_id in enumerate(np.unique(mask)[1:].tolist()):
        z, y, x = (float(places.mean()) for places in np.nonzero(mask == nucleus_id))
        label = None if number == 2 else number % 3
        rows.append({
            "id": nucleus_id, "stack": "K4.ome.tif", "z": z, "y": y, "x": x, "z_um": None, "volume_voxels": 7, "at_border": True,
            "label": label, "class_name": None if label is None else NAMES[label], "p[Leukocytes]": 0.25,
            "prediction_set": "", "is_ood": False, "ood_reasons": "atypical" if number == 0 else "",
        })  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def written() -> tuple[str, list[dict[str, Any]], NDArray[np.uint16]]:
    """Return the text of the file, on planes, the rows of the table, and the mask."""
    mask = _mask()
    rows = _rows(mask)
    footprints = Footprints(np.array([row["id"] for row in rows], np.int64))
    for mask_slice in mask:
        footprints.find_boxes(mask_slice)
    for mask_slice in mask:
        footprints.fill(mask_slice)
    file = io.StringIO()
    writer = FeatureCollectionWriter(file)
    for feature, plane in iter_features(rows, footprints, CLASS_COLORS):
        writer.write(feature, plane)
    writer.close()
    return file.getvalue(), rows, mask


def _check_feature(feature: dict[str, Any]) -> None:
    """Check the keys and types that QuPath 0.4 and later read (QuPathTypeAdapters, PathObjectTypeAdapters in its source)."""
    assert feature.keys() == {"type", "id", "geometry", "properties"}
    assert feature["type"] == "Feature"
    assert str(uuid.UUID(feature["id"])) == feature["id"]
    properties, geometry = feature["properties"], feature["geometry"]
    assert properties.keys() <= {"objectType", "name", "classification", "measurements", "metadata"}
    assert properties["objectType"] == "detection"
    if "classification" in properties:
        classification = properties["classification"]
        assert classification.keys() == {"name", "color"}
        assert classification["name"]
        assert len(classification["color"]) == 3
        assert all(type(part) is int and 0 <= part <= 255 for part in classification["color"])
    assert all(type(value) in (int, float) and math.isfinite(value) for value in properties["measurements"].values())
    assert all(type(value) is str for value in properties["metadata"].values())
    assert geometry.keys() <= {"type", "coordinates", "plane"}
    if "plane" in geometry:
        assert geometry["plane"].keys() == {"c", "z", "t"}
    polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    assert geometry["type"] in ("Polygon", "MultiPolygon")
    for ring in (ring for polygon in polygons for ring in polygon):
        assert ring[0] == ring[-1]
        assert len(ring) >= 4
        assert all(len(position) == 2 for position in ring)


def test_every_feature_has_what_qupath_reads_and_joins_with_table_and_mask(
    written: tuple[str, list[dict[str, Any]], NDArray[np.uint16]],
) -> None:
    text, rows, mask = written
    collection = json.loads(text, parse_constant=pytest.fail)  # NaN is no JSON
    assert collection.keys() == {"type", "features"}
    assert collection["type"] == "FeatureCollection"
    assert len({feature["id"] for feature in collection["features"]}) == len(rows)
    by_id = {str(row["id"]): row for row in rows}
    y, x = np.indices(mask.shape[1:]) + 0.5
    for feature in collection["features"]:
        _check_feature(feature)
        row = by_id.pop(feature["properties"]["name"])
        assert feature["properties"].get("classification", {}).get("name") == row["class_name"]
        assert feature["properties"]["measurements"]["volume_voxels"] == row["volume_voxels"]
        assert feature["geometry"].get("plane", {"z": 0})["z"] == row["z"]
        geometry = shape(feature["geometry"])
        assert geometry.is_valid, shapely.is_valid_reason(geometry)
        covered = shapely.contains_xy(geometry, x.ravel(), y.ravel()).reshape(x.shape)
        assert np.array_equal(covered, (mask == row["id"]).any(axis=0))
        assert geometry.area == covered.sum()
    assert not by_id


def test_shapely_reads_the_file_as_a_whole(written: tuple[str, list[dict[str, Any]], NDArray[np.uint16]]) -> None:
    text, rows, mask = written
    collection = shapely.from_geojson(text)
    assert len(collection.geoms) == len(rows)
    areas = [geometry.area for geometry in collection.geoms]
    assert areas == [(mask == row["id"]).any(axis=0).sum() for row in rows]
