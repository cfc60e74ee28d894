"""Weights to start from: whatever holds them gives the network that was trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nephros.errors import FileError, IncompatibleError, UnknownName
from nephros.exporters.export import export
from nephros.exporters.loading import load_classifier
from nephros.exporters.pretrained import open_pretrained
from nephros.inference.bundled import bundled_file
from nephros.inference.predictor import Predictor
from nephros.models.classifier import Classifier
from nephros.models.tta import TTAClassifier
from nephros.presets import RECIPES
from nephros.runs import RunFolder
from nephros.workflows.train import train
from tests.conftest import square_images

pytestmark = pytest.mark.usefixtures("reports_without_figures")


def _probabilities(classifier: Classifier, images: NDArray[np.uint8], tta_views: int) -> NDArray[np.float32]:
    with torch.no_grad():
        logits = TTAClassifier(classifier, tta_views)(torch.from_numpy(images)[:, None])
    probabilities: NDArray[np.float32] = torch.softmax(logits, dim=1).numpy()
    return probabilities


def test_the_bundled_weights_give_the_bundled_predictions() -> None:
    pretrained = open_pretrained("bundled")
    images, _ = square_images(6, 4, seed=3)
    predictor = Predictor.from_onnx()
    card = predictor.card
    log_probabilities = np.log(_probabilities(pretrained.classifier, images, card["network"]["tta_views"]))
    calibrated = np.exp(log_probabilities / card["calibration"]["temperature"])
    calibrated /= calibrated.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(predictor.predict_batch(images).probabilities, calibrated, atol=2e-4)
    assert pretrained.class_names == tuple(card["class_names"])
    assert (pretrained.source, pretrained.recipe, pretrained.is_folded) == (card["recipe"], card["recipe"], True)
    assert open_pretrained(card["recipe"]).sha256 == pretrained.sha256


def test_a_run_its_weights_file_and_its_export_hold_one_network(run_folder: RunFolder, tmp_path: Path) -> None:
    exported = export(run_folder.root, "safetensors", out=tmp_path / "squares.safetensors")
    images, _ = square_images(8, 4, seed=3)
    sources = (run_folder.root, run_folder.file("weights.safetensors"), exported)
    models = [open_pretrained(source) for source in sources]
    expected = _probabilities(models[0].classifier, images, 1)
    for source, model in zip(sources, models, strict=True):
        np.testing.assert_allclose(_probabilities(model.classifier, images, 1), expected, atol=1e-5)
        assert model.source == str(Path(source).absolute())
        assert model.class_names == models[0].class_names
    assert [model.recipe for model in models] == ["nephros", "", "nephros"]
    assert models[0].sha256 == models[1].sha256 != models[2].sha256


@pytest.mark.parametrize("name", ["bundeld", "compact", "course-1"])
def test_a_name_that_is_no_model_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownName) as exc_info:
        open_pretrained(name)
    assert exc_info.value.parameter == "init"
    assert "bundled" in exc_info.value.options


def test_files_without_weights_to_train_from_are_refused(exported_model: Path, tmp_path: Path) -> None:
    empty, text, cut = tmp_path / "empty.safetensors", tmp_path / "a.safetensors", tmp_path / "cut.safetensors"
    empty.write_bytes(b"")
    text.write_text("not weights")
    cut.write_bytes(bundled_file("model.safetensors").read_bytes()[:-1000])
    for source in (exported_model, tmp_path / "none.safetensors", tmp_path / "none", empty, text, cut, tmp_path):
        with pytest.raises(FileError) as exc_info:
            open_pretrained(source)
        assert str(exc_info.value.path) == str(source)


@pytest.mark.slow
def test_a_classical_baseline_has_no_weights_to_start_from(cells_npz: Path, tmp_path: Path) -> None:
    run = train(RECIPES["knn"], cells_npz, out=tmp_path / "knn")
    with pytest.raises(IncompatibleError, match="knn"):
        open_pretrained(run.root)


def test_the_card_of_an_export_says_where_its_weights_began(run_folder: RunFolder) -> None:
    card = load_classifier(run_folder.root).card
    assert card["init"] is None
    assert json.loads(json.dumps(card)) == card
