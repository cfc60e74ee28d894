"""A run's explainer gives saliency maps and similar training cells, and the run's report shows them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nephros.data.load import load_dataset
from nephros.inference.predictor import Predictor
from nephros.interpretability.run_explainer import build_run_explainer
from nephros.interpretability.saliency import saliency_maps
from nephros.runs import RunFolder
from nephros.workflows.report import report
from tests.conftest import square_images

CELLS = square_images(6, 4, 3)[0]


def test_explanations_match_the_exported_model(run_folder: RunFolder, predictor: Predictor, cells_npz: Path) -> None:
    dataset = load_dataset(cells_npz)
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


def figure_heights(root: Path) -> dict[str, int]:
    heights = {}
    for file in (root / "figures").glob("*.png"):
        with Image.open(file) as figure:
            heights[file.name] = figure.height
    return heights


@pytest.mark.slow
def test_a_runs_report_adds_explanations_to_its_errors(run_folder: RunFolder, cells_npz: Path, tmp_path: Path) -> None:
    dataset = load_dataset(cells_npz)
    explained = Path(shutil.copytree(run_folder.root, tmp_path / "explained"))
    without_weights = Path(shutil.copytree(run_folder.root, tmp_path / "without-weights"))
    (without_weights / "weights.safetensors").unlink()
    page, plain_page = report(explained, dataset), report(without_weights, dataset)
    heights, plain_heights = figure_heights(explained), figure_heights(without_weights)
    assert heights.keys() == plain_heights.keys()
    assert {name for name in heights if heights[name] > plain_heights[name]}
    assert page.read_text(encoding="utf-8") != plain_page.read_text(encoding="utf-8")
