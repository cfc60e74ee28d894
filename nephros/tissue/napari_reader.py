"""Reader of the napari plugin: a folder that `nephros.save_cells` wrote becomes an image, labels and points.

Nothing here imports napari, which calls `get_reader` by the manifest, napari.yaml.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import NephrosError
from nephros.escaping import unescape_from_csv
from nephros.microscopy.reader import open_stack
from nephros.microscopy.stack import Stack
from nephros.reading import MAX_CSV_BYTES, file_errors, read_text
from nephros.tissue.result_folder import read_description

Layer = tuple[Any, dict[str, Any], str]
"""Data, arguments and kind of a layer, as napari takes them."""

MAX_VOLUME_BYTES = 2 << 30
"""Size of the labels up to which they and the stack are volumes; of a larger one the projections are shown."""
_ADVICE = "predict again with another `out`"


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[Layer]] | None:
    """Return the function that reads a folder, or None where it is no such folder."""
    if not isinstance(path, str):
        return None
    try:
        read_description(Path(path))
    except NephrosError:
        return None
    return read_layers


def read_layers(path: str | Sequence[str]) -> list[Layer]:
    """Return the layers of a folder, and of its subfolders where it has several stacks.

    The nuclei are labels by their ids in the mask and points at their centroids, both in the colors of their classes and with
    the columns of the table as features. Points of nuclei that are out of distribution are rings. Of a stack whose labels take
    more than MAX_VOLUME_BYTES, the layers are projections.

    Raises:
        FileError: a file is missing or damaged.
    """
    folder = Path(path if isinstance(path, str) else path[0])
    description = read_description(folder)
    if "stacks" in description:
        return [layer for name in description["stacks"] for layer in read_layers(str(folder / name))]
    stem = Path(description["stack"]).name
    mask = open_stack(folder / "mask.ome.tif", is_mask=True)
    dtype = np.dtype(np.int32 if np.can_cast(mask.dtype, np.int32) else np.int64)
    is_flat = int(np.prod(mask.shape, dtype=object)) * dtype.itemsize > MAX_VOLUME_BYTES
    space = _space(description, is_flat)
    columns = _read_columns(folder / "cells.csv")
    ids = np.array(columns["id"], np.int64)
    colors = [description["class_colors"].get(name, "#808080") for name in columns["class_name"]]
    symbols = ["ring" if is_ood else "disc" for is_ood in columns["is_ood"]]
    centroids = np.stack([np.array(columns[axis], np.float64) for axis in ("yx" if is_flat else "zyx")], axis=1)
    labels_arguments = {
        "name": f"{stem} nuclei",
        **space,
        "features": {"index": ids, **columns},
        "colormap": {None: "transparent", 0: "transparent", **dict(zip(ids.tolist(), colors, strict=True))},
        "opacity": 0.5,
    }
    points_arguments = {
        "name": f"{stem} centroids",
        **space,
        "features": columns,
        "face_color": colors,
        "symbol": symbols,
        "size": 6,
    }
    labels = functools.reduce(np.maximum, mask.slices()).astype(dtype) if is_flat else _volume(mask, dtype)
    return [
        _image_layer(folder, description, is_flat),
        (labels, labels_arguments, "labels"),
        (centroids, points_arguments, "points"),
    ]


def _space(description: dict[str, Any], is_flat: bool) -> dict[str, Any]:
    """Return a layer's scale, and its units where they are known, along z, y and x; of a flat one along y and x."""
    first = 1 if is_flat else 0
    if description["voxel_size_um"] is None:
        return {"scale": (1.0, 1.0, 1.0)[first:]}
    return {"scale": tuple(description["voxel_size_um"][first:]), "units": ("micrometer",) * (3 - first)}


def _image_layer(folder: Path, description: dict[str, Any], is_flat: bool) -> Layer:
    """Return the stack where it still is where it was and not too large, else its projection."""
    arguments: dict[str, Any] = {"name": Path(description["stack"]).name, "colormap": "gray"}
    if not is_flat and (volume := _read_stack(folder, description)) is not None:
        return volume, arguments | _space(description, False), "image"
    projection = open_stack(folder / "projection.ome.tif")
    arguments |= {"name": f"{arguments['name']} projection"} | _space(description, True)
    return _volume(projection, projection.dtype)[0], arguments, "image"


def _read_stack(folder: Path, description: dict[str, Any]) -> NDArray[Any] | None:
    """Return the stack where it still is where it was and can be read."""
    try:
        stack = open_stack(
            (folder / description["stack"]).resolve(),
            description["channel"],
            image=description["image"],
            axes=description["axes"],
            level=description.get("level"),
            time_point=description.get("time_point"),
        )
        return _volume(stack, stack.dtype) if stack.shape == tuple(description["shape_zyx"]) else None
    except NephrosError:
        return None


def _volume(stack: Stack, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return all slices; memory holds no more than them and one besides."""
    volume = np.empty(stack.shape, dtype)
    for z, values in enumerate(stack.slices()):
        volume[z] = values
    return volume


def _read_columns(path: Path) -> dict[str, list[Any]]:
    """Return the table by column, with numbers as numbers; empty cells are NaN, or empty text in columns of text."""
    with file_errors(path, _ADVICE):
        header, *rows = csv.reader(io.StringIO(read_text(path, MAX_CSV_BYTES), newline=""))
        columns = dict(zip(map(unescape_from_csv, header), zip(*rows, strict=True), strict=True))
        return {name: [_parse(name, value) for value in values] for name, values in columns.items()}


def _parse(name: str, value: str) -> Any:
    if name in ("stack", "class_name", "prediction_set", "ood_reasons"):
        return unescape_from_csv(value)
    if name in ("is_ood", "at_border"):
        return value == "true"
    if name == "id":
        return int(value)
    return float(value or "nan")
