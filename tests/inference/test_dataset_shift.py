"""The dataset-shift check compares each file's cells with the training data on their own."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.inference.model_card import ModelCard
from nephros.inference.ood.dataset_shift import MAX_CELLS_PER_FILE, MAX_FILES, MIN_CELLS, SMALL_FILES, DatasetShiftCheck
from nephros.inference.predictor import Predictor


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return Predictor.from_onnx().card


def discs(radius: float, n: int, intensity: int = 100) -> NDArray[np.uint8]:
    """Return n equal images of a disc on black, (n, 28, 28)."""
    y, x = np.mgrid[-13.5:14.5, -13.5:14.5]
    return np.repeat(((np.hypot(x, y) < radius) * intensity).astype(np.uint8)[None], n, axis=0)


def test_a_small_shifted_file_after_a_large_one_is_named(card: ModelCard) -> None:
    check = DatasetShiftCheck(card)
    check.add(["large.npz"] * 3000, discs(6.3, 3000))
    check.add(["large.npz"] * 3000, discs(6.3, 3000))
    check.add(["tiny.npz"] * MIN_CELLS, discs(2.0, MIN_CELLS))
    (size_warning,) = [warning for warning in check.warnings() if "times" in warning]
    assert size_warning.startswith("tiny.npz: ")
    assert re.search(r"3\.\d times smaller", size_warning)


@pytest.mark.parametrize(("n", "is_checked"), [(MIN_CELLS - 1, False), (MIN_CELLS, True)])
def test_single_images_are_checked_together_if_there_are_enough(card: ModelCard, n: int, is_checked: bool) -> None:
    check = DatasetShiftCheck(card)
    check.add([f"{i}.png" for i in range(n)], discs(2.0, n))
    warnings = check.warnings()
    assert bool(warnings) == is_checked
    assert all(warning.startswith(f"{SMALL_FILES}: ") for warning in warnings)


def test_a_file_may_span_batches_and_memory_is_bounded(card: ModelCard) -> None:
    check = DatasetShiftCheck(card)
    check.add(["one.npz"] * MIN_CELLS, discs(6.3, MIN_CELLS))
    check.add(["one.npz"] * 3, discs(2.0, 3))
    assert not any(SMALL_FILES in warning for warning in check.warnings())
    for number in range(2 * MAX_FILES):
        check.add([f"{number}.npz"] * MIN_CELLS, discs(2.0, MIN_CELLS))
    check.add(["one.npz"] * 2 * MAX_CELLS_PER_FILE, discs(6.3, 2 * MAX_CELLS_PER_FILE))
    files = {warning.split(": ")[0] for warning in check.warnings()}
    assert len(files - {"one.npz"}) == MAX_FILES - 1


@pytest.mark.parametrize("batch_size", [700, MAX_CELLS_PER_FILE - 1, MAX_CELLS_PER_FILE, 3 * MAX_CELLS_PER_FILE])
def test_warnings_do_not_depend_on_batches(card: ModelCard, batch_size: int) -> None:
    files = ["one.npz"] * (MAX_CELLS_PER_FILE + 20) + ["two.npz"] * 30 + ["three.npz"] * MAX_CELLS_PER_FILE
    cells = np.concatenate(
        [discs(2.0, MAX_CELLS_PER_FILE), discs(6.3, 20), discs(3.0, 30), discs(2.0, MAX_CELLS_PER_FILE)]
    )
    check = DatasetShiftCheck(card)
    for start in range(0, len(files), batch_size):
        check.add(files[start : start + batch_size], cells[start : start + batch_size])
    separate = []
    for name, rows in (
        ("one.npz", slice(0, MAX_CELLS_PER_FILE)),
        ("two.npz", slice(2020, 2050)),
        ("three.npz", slice(2050, 4050)),
    ):
        alone = DatasetShiftCheck(card)
        alone.add([name] * (rows.stop - rows.start), cells[rows])
        separate += alone.warnings()
    assert check.warnings() == separate
    assert {warning.split(":")[0] for warning in separate} == {"one.npz", "two.npz", "three.npz"}


def test_models_of_other_data_get_no_warnings(card: ModelCard) -> None:
    other: Any = {**card, "data": {**card["data"], "key": None}}
    check = DatasetShiftCheck(other)
    check.add(["tiny.npz"] * 50, discs(2.0, 50))
    assert check.warnings() == []
