"""From cells to a table of predictions: probabilities, prediction sets and out-of-distribution flags, row by row."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nephros.inference.ood.dataset_shift import DatasetShiftCheck
from nephros.inference.predictions import ModelSummary, Predictions
from nephros.inference.reader import CellBatch, CellSource

if TYPE_CHECKING:
    from nephros.inference.prediction_batch import PredictionBatch
    from nephros.inference.predictor import Predictor

NOT_FINITE = (
    "The network's output for this cell is not a finite number, so that there is no prediction: "
    "its weights are damaged; export the model again."
)
"""Error of a row whose outputs are not numbers."""
_BATCHES_AHEAD = 2
"""Batches in prediction: while one is compared with the training cells, the network runs on the next."""


def classify_cells(
    predictor: Predictor,
    batches: Iterable[CellBatch],
    sources: list[CellSource],
    errors: dict[int, str],
    coverage: float,
    conversion_notes: Callable[[], Sequence[str]],
) -> Predictions:
    """Return the predictions for all cells.

    Args:
        predictor: the model.
        batches: rows and their cells; reading them may add to `sources` and `errors`.
        sources: where each row comes from.
        errors: row -> why it has no cell; rows whose outputs are not finite are added.
        coverage: probability with which a prediction set shall contain the true class.
        conversion_notes: returns, once all batches are read, how images became cells.
    """
    shift_check = DatasetShiftCheck(predictor.card)
    results = []
    for rows, cells, batch in _predict_while_reading(predictor, batches):
        sets = predictor.prediction_sets(batch.probabilities, coverage)
        for row in rows[~batch.is_finite].tolist():
            errors[row] = NOT_FINITE
        results.append((rows, batch.probabilities, sets, batch.ood_reasons))
        shift_check.add([sources[row].file for row in rows.tolist()], cells)
    n_rows, n_classes = len(sources), len(predictor.class_names)
    probabilities = np.full((n_rows, n_classes), np.nan, dtype=np.float32)
    prediction_sets = np.zeros((n_rows, n_classes), dtype=np.bool_)
    ood_reasons: list[tuple[str, ...]] = [()] * n_rows
    for rows, batch_probabilities, batch_sets, batch_reasons in results:
        probabilities[rows], prediction_sets[rows] = batch_probabilities, batch_sets
        for row, reasons in zip(rows.tolist(), batch_reasons, strict=True):
            ood_reasons[row] = reasons
    notes = [*shift_check.warnings(), *conversion_notes(), *_model_notes(predictor, coverage)]
    return Predictions(
        sources,
        probabilities,
        prediction_sets,
        ood_reasons,
        dict(sorted(errors.items())),
        predictor.class_names,
        notes,
        ModelSummary.from_card(predictor.card),
    )


def _predict_while_reading(
    predictor: Predictor, batches: Iterable[CellBatch]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8], PredictionBatch]]:
    """Yield rows, cells and predictions in the order of `batches`, of which the next are read while the network runs."""
    running: deque[tuple[NDArray[np.int64], NDArray[np.uint8], Future[PredictionBatch]]] = deque()
    with ThreadPoolExecutor(_BATCHES_AHEAD, "nephros-predict") as executor:
        for rows, cells in batches:
            if len(running) == _BATCHES_AHEAD:
                first_rows, first_cells, future = running.popleft()
                yield first_rows, first_cells, future.result()
            running.append((rows, cells, executor.submit(predictor.predict_batch, cells)))
        for rows, cells, future in running:
            yield rows, cells, future.result()


def _model_notes(predictor: Predictor, coverage: float) -> list[str]:
    """Return how to read prediction sets and flags of this model."""
    on_test = predictor.card["conformal"]["test"]
    if on_test and on_test["target_coverage"] == coverage:
        basis = (
            f"on {on_test['n_images']:,} test cells: {on_test['coverage']:.1%}, "
            f"with {on_test['mean_set_size']:.1f} classes on average"
        )
    else:
        basis = "over all such cells together, not within each class"
    notes = [
        f"prediction sets contain the true class of {100 * coverage:g}% of cells like the training cells ({basis})"
    ]
    if predictor.card["network"]["precision"] == "int8":
        notes.append(
            "predicted in int8, whose last digits may differ between processors; `precision` float32 avoids that"
        )
    if predictor.card["ood_detector"] is None:
        notes.append(
            "no cell is flagged as out of distribution: the model's training data was not available to fit that"
        )
    notes.append("for research only, not for diagnosis")
    return notes
