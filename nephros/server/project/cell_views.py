"""What pages show of a project's cells: states, cards, heat maps and tissue, from the project and its classifier."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nephros.data.images.transforms import overlay_heatmap, png_data_uri
from nephros.errors import InvalidArgument
from nephros.server.project.schemas import (
    CellCard,
    CellState,
    ClassProbability,
    HistoryEntry,
    LocationInfo,
    NeighborInfo,
    SimilarProjectCell,
    TissueView,
)
from nephros.server.project.session import ProjectSession
from nephros.tissue.outlines import trace_outlines


def cell_states(session: ProjectSession, cells: Sequence[int]) -> list[CellState]:
    """Return what is known of cells."""
    labels = session.project.labels
    current = labels.current()[list(cells)].tolist()
    by_annotator = {name: labels.by_annotator(name)[list(cells)].tolist() for name, _ in labels.annotators()}
    return [
        CellState(
            cell=cell,
            label=_class_or_none(current[i]),
            labels_by={name: values[i] for name, values in by_annotator.items() if values[i] >= 0},
            class_id=prediction.class_id,
            probability=prediction.probability,
            prediction_set=list(prediction.prediction_set),
            is_ood=prediction.is_ood,
            ood_score=prediction.ood_score,
            is_suspicious=prediction.is_suspicious,
        )
        for i, (cell, prediction) in enumerate(zip(cells, session.model.predictions(cells), strict=True))
    ]


def cell_card(session: ProjectSession, cell: int) -> CellCard:
    """Return a cell with everything that is known of it."""
    (state,) = cell_states(session, [cell])
    details, labels = session.model.details(cell), session.project.labels
    location = session.project.location(cell)
    current = labels.current()
    return CellCard(
        **state.model_dump(by_alias=False),
        ood_reasons=list(details.ood_reasons),
        probabilities=[ClassProbability(class_id=class_id, probability=p) for class_id, p in details.probabilities],
        similar=[
            SimilarProjectCell(cell=int(other), similarity=float(similarity), label=_class_or_none(int(current[other])))
            for other, similarity in details.similar
        ],
        history=[
            HistoryEntry(
                annotator=change.annotator,
                class_id=change.class_id,
                time=change.time,
                is_undo=change.undoes is not None,
            )
            for change in labels.changes_of(cell)
        ],
        location=None
        if location is None
        else LocationInfo(source=location.stack, id=location.id, z=location.z, y=location.y, x=location.x),
        image=png_data_uri(session.project.images([cell])[0]),
    )


def heatmap_png(session: ProjectSession, cell: int) -> bytes:
    """Return a cell with a heat map of the evidence for its class as a PNG."""
    image = session.project.images([cell])[0]
    heatmap = np.asarray(session.model.heatmap(cell), np.float32)
    return _encode_png(overlay_heatmap(image, heatmap))


def tissue_view(session: ProjectSession, cell: int) -> TissueView:
    """Return the slices around a nucleus with its outline and neighbors; InvalidArgument for a cell of no stack."""
    view = session.project.tissue(cell)
    if view is None:
        raise InvalidArgument("cell", cell, "a cell that was cut out of a stack")
    planes, (height, width) = np.array(view.z), view.slices.shape[1:]
    return TissueView(
        slices=[_png_uri(pixels) for pixels in view.slices],
        outlines=[svg_path(pixels) for pixels in view.outline],
        z=list(view.z),
        center=view.center,
        neighbors=[
            NeighborInfo(
                cell=neighbor.cell,
                slice=int(np.abs(planes - neighbor.z).argmin()),
                y=neighbor.y - view.top,
                x=neighbor.x - view.left,
            )
            for neighbor in view.neighbors
        ],
        voxel_size=None if view.voxel_size is None else list(view.voxel_size),
        height=height,
        width=width,
    )


def svg_path(pixels: NDArray[np.bool_]) -> str:
    """Return the outlines of pixels, (h, w), as an SVG path: ``M x y`` and the other corners of each ring."""
    rings: list[Any] = [ring for polygon in trace_outlines(pixels) for ring in polygon]
    return "".join(f"M{'L'.join(f'{x} {y}' for x, y in ring[:-1].tolist())}Z" for ring in rings)


def _class_or_none(class_id: int) -> int | None:
    return class_id if class_id >= 0 else None


def _encode_png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def _png_uri(pixels: NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(_encode_png(np.ascontiguousarray(pixels))).decode()
