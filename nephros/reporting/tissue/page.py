"""One self-contained HTML page of a stack's projection and its classified nuclei."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from nephros.files import write_text
from nephros.reporting.html import load_template
from nephros.reporting.stack_overlay import CONTRAST_PERCENTILES
from nephros.tissue.class_colors import CLASS_COLORS
from nephros.tissue.outlines import smooth_ring, trace_labels

TILE = 512
"""Pixels per side of a tile."""
_JPEG_QUALITY = 88
_SCRIPT = Path(__file__).with_name("viewer.js")
_STYLE = Path(__file__).with_name("viewer.css")


def write_tissue_page(
    path: Path,
    projection: NDArray[np.float32],
    visible_nuclei: NDArray[np.int32],
    rows: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    *,
    title: str,
    pixel_um: float | None,
    notes: Sequence[str],
) -> None:
    """Write the page, all or nothing.

    It requests nothing: image tiles, of the projection and of halves of it, are data URIs, and a content security policy allows
    no more than the page's own script and style.

    Args:
        path: the file.
        projection: (h, w) float32, the maximum over slices.
        visible_nuclei: (h, w) int32, 1 + the row of the nucleus that is visible at the pixel, 0 where there is none.
        rows: of `nephros.inference.nucleus_columns.cell_columns`, one per nucleus; None for what is unknown.
        class_names: by label.
        title: name of the stack.
        pixel_um: micrometers per pixel of the projection, where known.
        notes: sentences at the bottom of the page.
    """
    height, width = projection.shape
    outlines: dict[int, list[list[int]]] = {}
    for number, polygons in trace_labels(visible_nuclei):
        rings = [smooth_ring(ring) for polygon in polygons for ring in polygon]
        outlines[number - 1] = [np.round(10 * ring[:-1]).astype(int).ravel().tolist() for ring in rings]
    data = {
        "width": width,
        "height": height,
        "pixel_um": pixel_um,
        "tile": TILE,
        "levels": _image_levels(projection),
        "classes": [
            {"name": name, "color": CLASS_COLORS[label % len(CLASS_COLORS)]} for label, name in enumerate(class_names)
        ],
        "nuclei": [{**_card(row, class_names), "outline": outlines[i]} for i, row in enumerate(rows) if i in outlines],
    }
    script, style = _SCRIPT.read_text(encoding="utf-8"), _STYLE.read_text(encoding="utf-8")
    page = load_template("tissue/tissue.html").render(
        title=title,
        n=len(rows),
        n_hidden=len(rows) - len(data["nuclei"]),
        notes=notes,
        script=Markup(script),
        style=Markup(style),
        script_hash=_csp_hash(script),
        style_hash=_csp_hash(style),
        data=Markup(json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")),
    )
    write_text(path, page)


def _card(row: Mapping[str, Any], class_names: Sequence[str]) -> dict[str, Any]:
    """Return what the page shows of a nucleus."""
    return {
        "id": row["id"],
        "label": row["label"],
        "p": [row[f"p[{name}]"] for name in class_names],
        "set": row["prediction_set"],
        "ood": (row["ood_reasons"] or "yes") if row["is_ood"] else "",
        "centroid": [row[axis] for axis in "zyx"],
        "um": [row[f"{axis}_um"] for axis in "zyx"],
        "voxels": row["volume_voxels"],
        "um3": row["volume_um3"],
        "border": row["at_border"],
    }


def _image_levels(projection: NDArray[np.float32]) -> list[list[list[str]]]:
    """Return the tiles of each level as data URIs, by row and column; each level has half the resolution of the one before."""
    step = max(1, max(projection.shape) // 1024)
    low, high = np.percentile(projection[::step, ::step], CONTRAST_PERCENTILES)
    gray = (np.clip((projection - low) / max(high - low, 1e-9), 0, 1) ** 0.7 * 235).astype(np.uint8)
    image, levels = Image.fromarray(gray), []
    while True:
        levels.append([
            [
                _data_uri(image.crop((x, y, min(x + TILE, image.width), min(y + TILE, image.height))))
                for x in range(0, image.width, TILE)
            ]
            for y in range(0, image.height, TILE)
        ])  # fmt: skip
        if max(image.size) <= TILE:
            return levels
        image = image.resize((-(-image.width // 2), -(-image.height // 2)), Image.Resampling.BOX)


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
