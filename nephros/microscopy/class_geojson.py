"""QuPath's GeoJSON: objects with a class, as rows of a table with their positions in pixels."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nephros.reading import MalformedContent

_SUFFIXES = (".geojson", ".json")
_Z_NAME = "Z px"
_CENTER_NAMES = ("Centroid X px", "Centroid Y px", _Z_NAME)
_MAX_DEPTH = 4
"""Lists within lists of coordinates, as MultiPolygon has them."""


def is_geojson_name(path: Path) -> bool:
    """Return whether a file is named like GeoJSON."""
    return path.suffix.lower() in _SUFFIXES


def parse_geojson(content: bytes) -> tuple[Sequence[str], list[tuple[int, Sequence[str]]]]:
    """Return the objects as a header and rows, each with the number of its object, from 1.

    The columns are those of the properties (name, objectType, ...) and measurements that are text or numbers,
    ``Classification``, the stack that nephros wrote among the metadata, and the center of each object's outline, or of its
    nucleus's: ``Centroid X px``, ``Centroid Y px`` and ``Z px``, the slice, which QuPath leaves out where it is the first one.
    Points, of which QuPath keeps those of one class in one object, have a row each and the objectType ``point``.

    Raises:
        MalformedContent: it is not GeoJSON of objects.
    """
    features = parse_features(content)
    records = [
        (number, record) for number, feature in enumerate(features, start=1) for record in _records(number, feature)
    ]
    if any(record[_Z_NAME] for _, record in records):
        for _, record in records:
            record[_Z_NAME] = record[_Z_NAME] or "0"
    columns = list(
        dict.fromkeys(["Classification", *_CENTER_NAMES, *(name for _, record in records for name in record)])
    )
    return columns, [(number, tuple(record.get(name, "") for name in columns)) for number, record in records]


def parse_features(content: bytes) -> list[dict[str, Any]]:
    """Return the objects of GeoJSON.

    QuPath writes NaN and Infinity, which JSON does not have, for measurements that could not be made: they are None here. Of a
    key that it writes twice, as for cores of tissue microarrays, the last one counts.

    Raises:
        MalformedContent: it is not GeoJSON of objects.
    """
    values = json.loads(content.decode("utf-8-sig"), parse_constant=lambda _: None)
    features = values.get("features", [values]) if isinstance(values, dict) else values
    if not isinstance(features, list) or not all(isinstance(f, dict) and "geometry" in f for f in features):
        raise MalformedContent(
            "it is JSON, but not GeoJSON of objects, which QuPath writes by File, Export objects as GeoJSON"
        )
    return features


def _records(number: int, feature: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Yield column -> text of an object, or of each of its points."""
    properties = feature.get("properties") or {}
    if not isinstance(properties, dict):
        raise MalformedContent(f"object {number} has properties that are not a mapping")
    record = {str(name): _text(value) for name, value in properties.items() if isinstance(value, str | int | float)}
    measurements = properties.get("measurements") or {}
    if isinstance(measurements, list):  # of QuPath before 0.4: {"name": ..., "value": ...}
        measurements = {m.get("name"): m.get("value") for m in measurements if isinstance(m, dict)}
    if isinstance(measurements, dict):
        record |= {str(k): _text(v) for k, v in measurements.items() if isinstance(v, int | float)}
    metadata = properties.get("metadata")
    if isinstance(metadata, dict) and isinstance(stack := metadata.get("stack"), str):
        record.setdefault("stack", stack)
    record["Classification"] = _class_name(properties.get("classification"))
    geometry = feature.get("nucleusGeometry") or feature["geometry"]
    if not isinstance(geometry, dict):
        raise MalformedContent(f"object {number} has no outline")
    plane = geometry.get("plane")
    z = plane.get("z") if isinstance(plane, dict) else None
    points = geometry.get("coordinates") if geometry.get("type") == "MultiPoint" else None
    parts = [{"coordinates": point} for point in points] if isinstance(points, list) else [geometry]
    if geometry.get("type") in ("Point", "MultiPoint"):
        record["objectType"] = "point"
    for part in parts:
        x, y = _center(number, part)
        yield record | dict(zip(_CENTER_NAMES, (_text(x), _text(y), "" if z is None else _text(z)), strict=True))


def _text(value: object) -> str:
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _class_name(classification: Any) -> str:
    """Return the name of a class: of several parts, such as "Tubule: Positive", as QuPath shows it; "" for none."""
    if isinstance(classification, str):
        return classification
    if not isinstance(classification, dict):
        return ""
    names = classification.get("names")
    if isinstance(names, list) and names:
        return ": ".join(map(str, names))
    return str(classification.get("name") or "")


def _center(number: int, geometry: dict[str, Any]) -> tuple[float, float]:
    """Return the centroid of the largest outline, x and y; that of a point or a line is the mean of its points."""
    rings = list(_rings(geometry.get("coordinates"), 0))
    if not rings:
        raise MalformedContent(f"object {number} has no coordinates")
    points = max(rings, key=_area)
    area = _area(points)
    if area < 1e-9:
        center = points.mean(axis=0)
    else:
        following = np.roll(points, -1, axis=0)
        cross = points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]
        center = ((points + following) * cross[:, None]).sum(axis=0) / (3 * cross.sum())
    if not np.isfinite(center).all():
        raise MalformedContent(f"object {number} has coordinates that are not numbers")
    return float(center[0]), float(center[1])


def _area(points: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    following = np.roll(points, -1, axis=0)
    return abs(float((points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]).sum()) / 2)


def _rings(coordinates: Any, depth: int) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Return the lists of points in coordinates of any kind, (n, 2) each."""
    if not isinstance(coordinates, list) or not coordinates or depth > _MAX_DEPTH:
        return []
    if _is_point(coordinates):
        return [np.array([coordinates[:2]], np.float64)]
    if all(_is_point(item) for item in coordinates):
        return [np.array([item[:2] for item in coordinates], np.float64)]
    return [ring for item in coordinates for ring in _rings(item, depth + 1)]


def _is_point(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 2
        and all(
            isinstance(number, int | float) and math.isfinite(number) and abs(number) < 1e12 for number in value[:2]
        )
    )
