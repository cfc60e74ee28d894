"""Reader of the napari plugin: a folder that `nephros.save_cells` wrote becomes an image, labels and points.

Nothing here imports napari, which calls `get_reader` by the manifest, napari.yaml.
"""

from __future__ import annotations

import csv
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
"""Size up to which the stack itself is opened; of a larger one only the projection is."""
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
    the columns of the table as features. Points of nuclei that are out of distribution are rings.

    Raises:
        FileError: a file is missing or damaged.
    """
    folder = Path(path if isinstance(path, str) else path[0])
    description = read_description(folder)
    if "stacks" in description:
        return [layer for name in description["stacks"] for layer in read_layers(str(folder / name))]
    stem = Path(description["stack"]).name
    has_scale = description["voxel_size_um"] is not None
    scale = tuple(description["voxel_size_um"] or (1.0, 1.0, 1.0))
    units = {"units": ("micrometer",) * 3} if has_scale else {}
    columns = _read_columns(folder / "cells.csv")
    ids = np.array(columns["id"], np.int64)
    colors = [description["class_colors"].get(name, "#808080") for name in columns["class_name"]]
    symbols = ["ring" if is_ood else "disc" for is_ood in columns["is_ood"]]
    mask = open_stack(folder / "mask.ome.tif", is_mask=True)
    centroids = np.stack([np.array(columns[axis], np.float64) for axis in "zyx"], axis=1)
    labels_arguments = {
        "name": f"{stem} nuclei",
        "scale": scale,
        **units,
        "features": {"index": ids, **columns},
        "colormap": {None: "transparent", 0: "transparent", **dict(zip(ids.tolist(), colors, strict=True))},
        "opacity": 0.5,
    }
    points_arguments = {
        "name": f"{stem} centroids",
        "scale": scale,
        **units,
        "features": columns,
        "face_color": colors,
        "symbol": symbols,
        "size": 6,
    }
    return [
        _image_layer(folder, description, {"name": stem, "scale": scale, "colormap": "gray", **units}),
        (_volume(mask).astype(np.int32), labels_arguments, "labels"),
        (centroids, points_arguments, "points"),
    ]


def _image_layer(folder: Path, description: dict[str, Any], arguments: dict[str, Any]) -> Layer:
    """Return the stack where it still is where it was and not too large, else its projection."""
    try:
        stack = open_stack(
            (folder / description["stack"]).resolve(),
            description["channel"],
            image=description["image"],
            axes=description["axes"],
            level=description.get("level"),
            time_point=description.get("time_point"),
        )
        n_bytes = int(np.prod(stack.shape, dtype=object)) * stack.dtype.itemsize
        if stack.shape == tuple(description["shape_zyx"]) and n_bytes <= MAX_VOLUME_BYTES:
            return _volume(stack), arguments, "image"
    except NephrosError:
        pass
    projection = _volume(open_stack(folder / "projection.ome.tif"))[0]
    flat = {name: arguments[name][1:] for name in ("scale", "units") if name in arguments}
    return projection, arguments | flat | {"name": f"{arguments['name']} projection"}, "image"


def _volume(stack: Stack) -> NDArray[Any]:
    return np.stack(list(stack.slices()))


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
