"""A run's explainer gives saliency maps and similar training cells, and the run's report shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nephros.data.load import load
from nephros.inference.predictor import Predictor
from nephros.interpretability.run_explainer import build_run_explainer
from nephros.interpretability.saliency import saliency_maps
from nephros.runs import RunFolder
from nephros.workflows.report import report
from tests.conftest import square_images

CELLS = square_images(6, 4, 3)[0]


def test_explanations_match_the_exported_model(run_folder: RunFolder, predictor: Predictor, cells_npz: Path) -> None:
    dataset = load(cells_npz)
    explain = build_run_explainer(run_folder, dataset)
    assert explain is not None
    labels = np.arange(6) % 4
    maps = saliency_maps(CELLS, predictor.predict_batch(CELLS), labels, predictor.predict_batch)
    for explanation, values in zip(explain(CELLS, labels), maps.values, strict=True):
        assert explanation.method == "class activation"
        assert np.allclose(explanation.saliency, values, atol=1e-3)
        first, second = explanation.similar_cells
        assert first.similarity >= second.similarity
        is_first = (dataset.train.images == first.image).all(axis=(1, 2))
        assert first.label in dataset.train.labels[is_first]


def test_a_runs_report_explains_its_errors(run_folder: RunFolder, cells_npz: Path) -> None:
    page = report(run_folder.root, load(cells_npz)).read_text(encoding="utf-8")
    assert "what spoke for it" in page
    assert "where the picture spoke for the class that was answered" in page
