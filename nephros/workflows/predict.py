"""`nephros predict`: pictures in, a table of answers out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import UserError
from nephros.exporters.loading import open_model
from nephros.inference.ood.dataset_shift import Compared
from nephros.inference.predictions import Predictions
from nephros.inference.predictor import Engine
from nephros.inference.reader import Batch, Inputs

PROGRESS_FROM = 500
"""Inputs from which a bar is shown on a terminal."""


def predict(
    inputs: str | Path | Sequence[str | Path],
    model: str | Path | Engine | None = None,
    *,
    coverage: float = 0.9,
    white: float | None = None,
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
        UserError: the model can't be opened, or `coverage` or `white` is out of range. A bad picture raises nothing.
    """
    if white is not None and not 0 < white <= 2**31:
        raise UserError(f"--white is {white:g}, but it must be above 0, such as 4095 for 12-bit cameras.")
    engine = model if isinstance(model, Engine) else open_model(model, say=say)
    engine.prediction_sets(np.empty((0, len(engine.class_names)), dtype=np.float32), coverage)  # before the long work
    shape = (engine.channels, engine.height, engine.width)
    read = Inputs([inputs] if isinstance(inputs, str | Path) else inputs, shape, white)
    answers: list[tuple[Any, ...]] = []
    compared = Compared(engine.card)
    for rows, cells in _with_bar(read):
        answers.append((rows, *_asked(engine, cells, coverage)))
        compared.add([read.rows[row].file for row in rows.tolist()], cells)
    n, classes = len(read.rows), len(engine.class_names)
    probabilities = np.full((n, classes), np.nan, dtype=np.float32)
    sets = np.zeros((n, classes), dtype=np.bool_)
    reasons = [""] * n
    for rows, p, s, words in answers:
        probabilities[rows], sets[rows] = p, s
        for row, word in zip(rows.tolist(), words, strict=True):
            reasons[row] = word
    return Predictions(
        read.rows, probabilities, sets, reasons, dict(sorted(read.errors.items())), engine.class_names,
        [*compared.warnings(), *_notes(read, engine.card, coverage)], _model(engine.card),
    )  # fmt: skip


def _asked(
    engine: Engine, cells: NDArray[np.uint8], coverage: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[str, ...]]:
    found = engine.answer(cells)
    return found.probabilities, engine.prediction_sets(found.probabilities, coverage), found.reasons


def _with_bar(read: Inputs) -> Any:
    """Yield the batches, with a bar on the terminal where there are many."""
    import sys

    if len(read) < PROGRESS_FROM or not sys.stderr.isatty():
        read.progress = _bar_of_a_stack
        yield from read.batches()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(read))
        batch: Batch
        for batch in read.batches():
            progress.update(task, completed=read.done)
            yield batch


def _bar_of_a_stack(items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
    from nephros.console import with_bar

    return with_bar(items, what, total)


def _notes(read: Inputs, card: dict[str, Any], coverage: float) -> list[str]:
    notes = [*read.remarks, *(f"{words} ({count:,} pictures)" for words, count in read.notes.items())]
    on_test = card["conformal"]["measured_on_test"]
    if on_test and on_test["asked"] == coverage:
        share, size = on_test["coverage"], on_test["mean_set_size"]
        sets = f"measured on {on_test['images']:,} test cells: {share:.1%}, {size:.1f} classes on average"
    else:
        sets = "over all familiar cells alike, not within each class"
    notes.append(f"prediction sets hold the right class of {coverage:.1%} of familiar cells ({sets})")
    if card["unfamiliarity"] is None:
        notes.append("no picture is called unfamiliar: this model's training data was not at hand when it was opened")
    notes.append("for research only, not for diagnosis")
    return notes


def _model(card: dict[str, Any]) -> dict[str, Any]:
    about = {"recipe": card["recipe"], "data": card["data"]["title"], "nephros": card["nephros"]}
    return about | {key: card["network"][key] for key in ("views", "precision", "weights_sha256")}
