"""Each file's cells are compared with the training data by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.inference.ood.dataset_shift import MAX_CELLS_PER_FILE, MAX_FILES, MIN_CELLS, SMALL_FILES, DatasetShiftCheck
from nephros.inference.predictor import Predictor


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    return Predictor.from_onnx().card


def disc(radius: float, n: int, height: int = 100) -> NDArray[np.uint8]:
    """Return n pictures of a disc on black."""
    y, x = np.mgrid[-13.5:14.5, -13.5:14.5]
    return np.repeat(((np.hypot(x, y) < radius) * height).astype(np.uint8)[None], n, axis=0)


def test_a_small_bad_file_after_a_large_one_is_named(card: dict[str, Any]) -> None:
    compared = DatasetShiftCheck(card)
    compared.add(["large.npz"] * 3000, disc(6.3, 3000))
    compared.add(["large.npz"] * 3000, disc(6.3, 3000))
    compared.add(["tiny.npz"] * MIN_CELLS, disc(2.0, MIN_CELLS))
    told = [words for words in compared.warnings() if "across" in words]
    assert len(told) == 1
    assert told[0].startswith("warning: tiny.npz: These nuclei are 3.")
    assert "times smaller across" in told[0]


def test_single_pictures_are_compared_together_and_few_not_at_all(card: dict[str, Any]) -> None:
    for n in (MIN_CELLS - 1, MIN_CELLS):
        compared = DatasetShiftCheck(card)
        compared.add([f"{i}.png" for i in range(n)], disc(2.0, n))
        told = compared.warnings()
        assert bool(told) == (n == MIN_CELLS)
        assert all(words.startswith(f"warning: {SMALL_FILES}: ") for words in told)


def test_the_end_of_a_file_in_another_batch_is_the_file_s_and_memory_is_bounded(card: dict[str, Any]) -> None:
    compared = DatasetShiftCheck(card)
    compared.add(["one.npz"] * MIN_CELLS, disc(6.3, MIN_CELLS))
    compared.add(["one.npz"] * 3, disc(2.0, 3))
    assert not any(SMALL_FILES in words for words in compared.warnings())
    for number in range(2 * MAX_FILES):
        compared.add([f"{number}.npz"] * MIN_CELLS, disc(2.0, MIN_CELLS))
    compared.add(["one.npz"] * 2 * MAX_CELLS_PER_FILE, disc(6.3, 2 * MAX_CELLS_PER_FILE))
    files = {words.split(": ")[1] for words in compared.warnings()}
    assert len(files - {"one.npz"}) == MAX_FILES - 1


def test_of_models_that_learnt_from_other_data_nothing_is_said(card: dict[str, Any]) -> None:
    compared = DatasetShiftCheck(card | {"data": {**card["data"], "key": None}})
    compared.add(["tiny.npz"] * 50, disc(2.0, 50))
    assert compared.warnings() == []
