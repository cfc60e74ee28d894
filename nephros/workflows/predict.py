"""`nephros predict`: pictures in, a table of answers out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import NephrosError
from nephros.exporters.loading import load_predictor
from nephros.inference.ood.dataset_shift import DatasetShiftCheck
from nephros.inference.predictions import Predictions
from nephros.inference.predictor import Predictor
from nephros.inference.reader import CellBatch, CellReader

MIN_PROGRESS_INPUTS = 500
"""Inputs from which a bar is shown on a terminal."""


def predict(
    inputs: str | Path | Sequence[str | Path],
    model: str | Path | Predictor | None = None,
    *,
    coverage: float = 0.9,
    white_level: float | None = None,
    say: Callable[[str], None] = print,
) -> Predictions:
    """Classify pictures of cells.

    Args:
        inputs: pictures (PNG, TIFF with a page a cell, JPEG), 3-D stacks (TIFF), whose nuclei are cut out, npz files with
            ``images``, ``train_images``, ``val_images`` or ``test_images``, and folders of them.
        model: a run folder, an exported file, an open Engine, or None for the model in the box.
        coverage: how often the prediction sets shall hold the right class, above 0 to 1.
        white: the value of 16-bit pixels that becomes 255; None takes the brightest of all 16-bit pixels.

    Returns:
        A row a cell or nucleus, and a row for each input that can't be read, with its error.

    Raises:
        UserError: the model can't be opened, or `coverage` or `white_level` is out of range. A bad picture raises nothing.
    """
    if white_level is not None and not 0 < white_level <= 2**31:
        raise NephrosError(
            f"--white-level is {white_level:g}, but it must be above 0, such as 4095 for 12-bit cameras."
        )
    predictor = model if isinstance(model, Predictor) else load_predictor(model, say=say)
    predictor.prediction_sets(
        np.empty((0, len(predictor.class_names)), dtype=np.float32), coverage
    )  # before the long work
    cell_shape = (predictor.channels, predictor.height, predictor.width)
    reader = CellReader([inputs] if isinstance(inputs, str | Path) else inputs, cell_shape, white_level)
    batch_results: list[tuple[Any, ...]] = []
    shift_check = DatasetShiftCheck(predictor.card)
    for rows, cells in _iter_with_progress(reader):
        batch_results.append((rows, *_predict_batch(predictor, cells, coverage)))
        shift_check.add([reader.sources[row].file for row in rows.tolist()], cells)
    n_rows, classes = len(reader.sources), len(predictor.class_names)
    probabilities = np.full((n_rows, classes), np.nan, dtype=np.float32)
    prediction_sets = np.zeros((n_rows, classes), dtype=np.bool_)
    ood_reasons = [""] * n_rows
    for rows, batch_probabilities, batch_sets, batch_reasons in batch_results:
        probabilities[rows], prediction_sets[rows] = batch_probabilities, batch_sets
        for row, reason in zip(rows.tolist(), batch_reasons, strict=True):
            ood_reasons[row] = reason
    return Predictions(
        reader.sources, probabilities, prediction_sets, ood_reasons, dict(sorted(reader.errors.items())), predictor.class_names,
        [*shift_check.warnings(), *_notes(reader, predictor.card, coverage)], _model_summary(predictor.card),
    )  # fmt: skip


def _predict_batch(
    predictor: Predictor, cells: NDArray[np.uint8], coverage: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[str, ...]]:
    batch = predictor.predict_batch(cells)
    return batch.probabilities, predictor.prediction_sets(batch.probabilities, coverage), batch.ood_reasons


def _iter_with_progress(reader: CellReader) -> Any:
    """Yield the batches, with a bar on the terminal where there are many."""
    import sys

    if len(reader) < MIN_PROGRESS_INPUTS or not sys.stderr.isatty():
        reader.progress = _stack_progress
        yield from reader.iter_batches()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(reader))
        batch: CellBatch
        for batch in reader.iter_batches():
            progress.update(task, completed=reader.n_read)
            yield batch


def _stack_progress(items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
    from nephros.console import progress_bar

    return progress_bar(items, what, total)


def _notes(reader: CellReader, card: dict[str, Any], coverage: float) -> list[str]:
    notes = [
        *reader.input_notes,
        *(f"{conversion} ({count:,} pictures)" for conversion, count in reader.conversion_counts.items()),
    ]
    on_test = card["conformal"]["test"]
    if on_test and on_test["target_coverage"] == coverage:
        coverage_on_test, mean_set_size = on_test["coverage"], on_test["mean_set_size"]
        coverage_text = (
            f"measured on {on_test['n_images']:,} test cells: "
            f"{coverage_on_test:.1%}, {mean_set_size:.1f} classes on average"
        )
    else:
        coverage_text = "over all familiar cells alike, not within each class"
    notes.append(f"prediction sets hold the right class of {coverage:.1%} of familiar cells ({coverage_text})")
    if card["ood_detector"] is None:
        notes.append("no picture is called unfamiliar: this model's training data was not at hand when it was opened")
    notes.append("for research only, not for diagnosis")
    return notes


def _model_summary(card: dict[str, Any]) -> dict[str, Any]:
    summary = {"recipe": card["recipe"], "data": card["data"]["title"], "nephros_version": card["nephros_version"]}
    return summary | {key: card["network"][key] for key in ("tta_views", "precision", "weights_sha256")}
