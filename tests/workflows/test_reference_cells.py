"""Which data the page takes its reference cells from, where nobody names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nephros.inference.predictor import Predictor
from nephros.workflows.serve import _reference_cells
from tests.conftest import square_images


@pytest.fixture
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of MedMNIST's files, with eight classes of cells by the name of TissueMNIST."""
    arrays: dict[str, Any] = {}
    for name, n in (("train", 64), ("val", 16), ("test", 16)):
        images, labels = square_images(n, 8, 3)
        arrays |= {f"{name}_images": images, f"{name}_labels": labels[:, None].astype(np.uint8)}
    np.savez(tmp_path / "tissuemnist.npz", **arrays)
    monkeypatch.setenv("NEPHROS_DATA", str(tmp_path))
    return tmp_path


def test_they_come_from_the_data_that_the_model_was_trained_on(data_folder: Path) -> None:
    predictor = Predictor.from_onnx(threads=1)
    dataset, index = _reference_cells(None, predictor)
    assert dataset is not None
    assert index is not None
    assert (len(index), index.class_names, index.trained_on) == (64, predictor.class_names, False)
    assert _reference_cells("none", predictor) == (None, None)


def test_data_that_does_not_fit_the_model_is_left_out(data_folder: Path, predictor: Predictor) -> None:
    assert predictor.class_names != Predictor.from_onnx(threads=1).class_names
    assert _reference_cells(None, predictor) == (None, None)
    bundled = Predictor.from_onnx(threads=1)
    bare = Predictor(lambda cells: {"probabilities": np.full((len(cells), 8), 0.125, np.float32)}, bundled.card)
    assert _reference_cells(None, bare) == (None, None)  # a classical baseline has no features to compare
    (data_folder / "tissuemnist.npz").write_bytes(b"PK\x03\x04 broken")
    assert _reference_cells(None, bundled) == (None, None)
