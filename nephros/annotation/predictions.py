"""Predictions of a project's model for single cells: what a gallery's frame and a cell's card show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.model_state import FeatureSpace, ModelState
from nephros.errors import IncompleteError, InvalidArgument
from nephros.finetuning.head import LinearHead
from nephros.inference.prediction_batch import PredictionBatch
from nephros.inference.predictor import Predictor
from nephros.interpretability.saliency import saliency_maps

N_SIMILAR = 8
"""Similar cells of a cell's card."""


@dataclass(frozen=True)
class CellPrediction:
    """What the model says of a cell."""

    cell: int
    class_id: int | None
    """The most probable class; None until two classes have labels and the cell has features."""
    probability: float | None
    prediction_set: tuple[int, ...]
    """Classes that are possible, the most probable first; all, as long as labels are too few to exclude one."""
    is_ood: bool
    ood_score: float | None
    """Above 1, the cell is unlike those that the network's weights were trained on; None without features."""
    is_suspicious: bool
    """Whether its label looks wrong."""


@dataclass(frozen=True)
class CellDetails:
    """What a cell's card shows beside its prediction."""

    prediction: CellPrediction
    probabilities: tuple[tuple[int, float], ...]
    """(class, probability), the most probable first."""
    similar: tuple[tuple[int, float], ...]
    """(cell, cosine similarity), the most similar first."""
    ood_reasons: tuple[str, ...]
    """In which ways the cell is out of distribution."""


def predict_cells(state: ModelState, cells: Sequence[int]) -> list[CellPrediction]:
    """Return the predictions of cells; InvalidArgument for one that doesn't exist."""
    check_cells(state, cells)
    m = len(state.space)
    suspicious = frozenset(state.review.suspicious if state.review else ())
    rows = np.array([cell for cell in cells if cell < m], np.int64)
    sets = dict(zip(rows.tolist(), state.sets_of(rows), strict=True)) if state.probabilities is not None else {}
    predictions = []
    for cell in map(int, cells):
        probabilities = _probabilities(state, cell)
        possible = tuple(class_id for class_id, _ in probabilities)
        if cell in sets:
            included = {state.class_ids[column] for column in np.flatnonzero(sets[cell]).tolist()}
            possible = tuple(class_id for class_id in possible if class_id in included)
        predictions.append(
            CellPrediction(
                cell,
                probabilities[0][0] if probabilities else None,
                probabilities[0][1] if probabilities else None,
                possible,
                bool(state.is_ood[cell]),
                float(state.space.ood[cell]) if cell < m else None,
                cell in suspicious and state.labels[cell] >= 0,
            )
        )
    return predictions


def describe_cell(state: ModelState, cell: int, image: NDArray[np.uint8], predictor: Predictor) -> CellDetails:
    """Return what a cell's card shows; `image` (1, h, w[, 3]) is the cell's."""
    (prediction,) = predict_cells(state, [cell])
    similar: tuple[tuple[int, float], ...] = ()
    if cell < len(state.space):
        similarity = state.space.similarity(cell)
        order = np.argsort(-similarity, kind="stable")[: N_SIMILAR + 1].tolist()
        similar = tuple((other, float(similarity[other])) for other in order if other != cell)[:N_SIMILAR]
    reasons = predictor.predict_batch(image).ood_reasons[0] if prediction.is_ood else ()
    return CellDetails(prediction, _probabilities(state, cell), similar, reasons)


def heatmap(state: ModelState, cell: int, image: NDArray[np.uint8], predictor: Predictor) -> NDArray[np.float32]:
    """Return (h, w), 0 to 1: where in a cell the evidence for its most probable class lies, by occlusion.

    Raises IncompleteError where the cell has no prediction yet.
    """
    check_cells(state, [cell])
    if state.head is None or cell >= len(state.space):
        raise IncompleteError(f"Cell {cell} has no prediction yet: label cells of two classes first.")
    head, space = state.head, state.space

    def predict(images: NDArray[np.uint8]) -> PredictionBatch:
        features = predictor.predict_batch(images).features
        assert features is not None
        none = ((),) * len(images)
        return PredictionBatch(
            _head_probabilities(head, space, features), None, None, np.zeros(len(images), bool), none
        )

    batch = predict(image)
    maps = saliency_maps(image, batch, batch.probabilities.argmax(axis=1), predict)
    return np.asarray(maps.values[0])


def check_cells(state: ModelState, cells: Sequence[int]) -> None:
    """Raise InvalidArgument for a cell that doesn't exist."""
    for cell in cells:
        if not 0 <= cell < state.n_cells:
            allowed = f"from 0 to {state.n_cells - 1}" if state.n_cells else "left out: the project has no cells"
            raise InvalidArgument("cell", cell, allowed)


def _probabilities(state: ModelState, cell: int) -> tuple[tuple[int, float], ...]:
    """Return (class, probability) of a cell, the most probable first; nothing without a prediction."""
    if state.probabilities is None or cell >= len(state.probabilities):
        return ()
    row = state.probabilities[cell]
    return tuple((state.class_ids[column], float(row[column])) for column in np.argsort(-row, kind="stable").tolist())


def _head_probabilities(head: LinearHead, space: FeatureSpace, features: NDArray[np.float32]) -> NDArray[np.float32]:
    return head.predict(space.standardize(features)[:, None]).astype(np.float32)
