"""The predictor: which files and cells it refuses, that batching doesn't change predictions, and the bundled model."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from nephros.errors import FileError, InvalidArgument, NephrosError
from nephros.exporters.loading import load_classifier
from nephros.files import file_digest
from nephros.inference import onnx_session
from nephros.inference.bundled import BUNDLED_MODELS_DIR, MAX_BUNDLED_BYTES, bundled_file
from nephros.inference.model_card import CARD_METADATA_KEY
from nephros.inference.prediction_batch import PredictionBatch
from nephros.inference.predictor import Predictor
from tests.conftest import square_images


def write_broken_model(kind: str, exported_model: Path, path: Path) -> Path:
    if kind in ("no card", "outdated card"):
        model = onnx.load(exported_model)
        del model.metadata_props[:]
        if kind == "outdated card":
            onnx.helper.set_model_props(model, {CARD_METADATA_KEY: json.dumps({"format": "nephros-card-1"})})
        onnx.save(model, path)
    elif kind == "truncated":
        path.write_bytes(exported_model.read_bytes()[:2000])
    elif kind == "text":
        path.write_text("hello")
    return path


@pytest.mark.parametrize("kind", ["no card", "outdated card", "truncated", "text", "missing"])
def test_files_that_are_no_model_are_refused_by_path(kind: str, exported_model: Path, tmp_path: Path) -> None:
    path = write_broken_model(kind, exported_model, tmp_path / "model.onnx")
    with pytest.raises(FileError) as caught:
        load_classifier(path)
    assert caught.value.path == path
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_files_and_folders_are_refused_by_path(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(FileError) as caught:
        load_classifier(tmp_path / "text.safetensors")
    assert caught.value.path == tmp_path / "text.safetensors"
    with pytest.raises(NephrosError, match=str(tmp_path)):
        load_classifier(tmp_path)  # a folder, but of no run
    with pytest.raises(FileError, match="can't be read"):
        Predictor.from_onnx(tmp_path)


def test_a_file_that_no_graph_fills_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sparse.onnx"
    with path.open("wb") as file:
        file.truncate((1 << 31) + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it was read"))
    with pytest.raises(FileError, match=r"sparse\.onnx .*larger than 2,147,483,648 bytes"):
        Predictor.from_onnx(path)


@pytest.mark.parametrize("shape", [(2, 28, 27), (28, 28), (2, 28, 28, 3), (2, 1, 28, 28)])
def test_cells_of_another_shape_are_refused(predictor: Predictor, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        predictor.predict_batch(np.zeros(shape, dtype=np.uint8))
    assert caught.value.parameter == "cells"
    assert str(shape) in caught.value.value


def test_cells_of_another_dtype_are_refused(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="float64"):
        predictor.predict_batch(np.zeros((2, 28, 28)))  # type: ignore[arg-type]


def test_predictions_do_not_depend_on_batches_or_threads(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = square_images(100, 4, 5)
    expected = predictor.predict_batch(images)
    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(predictor.predict_batch, np.array_split(images, 10)))
    assert np.allclose(np.concatenate([batch.probabilities for batch in batches]), expected.probabilities, atol=1e-6)
    monkeypatch.setattr(onnx_session, "MAX_BATCH_PIXELS", 7 * 28 * 28)
    assert np.allclose(predictor.predict_batch(images).probabilities, expected.probabilities, atol=1e-6)
    assert len(expected) == len(expected.ood_reasons) == len(expected.is_ood) == 100
    assert np.array_equal(
        predictor.predict_batch(images[..., None]).probabilities, predictor.predict_batch(images).probabilities
    )


def test_a_batch_can_be_sliced_masked_and_indexed() -> None:
    p = np.arange(8, dtype=np.float32).reshape(4, 2)
    batch = PredictionBatch(p, p + 10, None, np.array([0, 1, 0, 1], dtype=np.bool_), ((), ("dark",), (), ("flat",)))
    for rows in (slice(1, 4, 2), np.array([False, True, False, True]), np.array([1, 3]), [1, 3]):
        selected = batch[rows]
        assert len(selected) == 2
        assert selected.features is not None
        assert np.array_equal(selected.probabilities, p[[1, 3]])
        assert np.array_equal(selected.features, p[[1, 3]] + 10)
        assert selected.class_activation_maps is None
        assert selected.is_ood.all()
        assert selected.ood_reasons == (("dark",), ("flat",))
    assert len(batch[:0]) == 0


def test_cells_out_of_distribution_have_their_reasons(predictor: Predictor) -> None:
    images, _ = square_images(40, 4, 5)
    assert predictor.predict_batch(images).is_ood.mean() < 0.2
    black, noise = np.zeros((1, 28, 28), dtype=np.uint8), np.random.default_rng(0).integers(0, 256, (1, 28, 28))
    batch = predictor.predict_batch(np.concatenate([black, noise.astype(np.uint8)]))
    assert batch.is_ood.all()
    assert batch.ood_reasons[0][0].startswith("too dark (brightness 0, training cells ")
    assert any(reason.startswith("too little contrast") for reason in batch.ood_reasons[0])
    assert any(reason.startswith("too sharp or noisy") for reason in batch.ood_reasons[1])


def test_the_bundled_model_classifies_tissuemnist() -> None:
    assert sum(file.stat().st_size for file in BUNDLED_MODELS_DIR.glob("*/*")) <= MAX_BUNDLED_BYTES
    predictor = Predictor.from_onnx()
    assert predictor.card == json.loads(bundled_file("card.json").read_text(encoding="utf-8"))
    assert predictor.input_shape == (1, 28, 28)
    assert len(predictor.class_names) == 8
    assert predictor.card["data"]["key"] == "tissuemnist"
    assert predictor.card["license"]["data"] == "CC BY 4.0"
    assert predictor.card["test_accuracy"] is not None
    assert predictor.card["test_accuracy"] > 0.6
    sets = predictor.card["conformal"]["test"]
    assert sets is not None
    assert 0.89 < sets["coverage"] < 0.91
    batch = predictor.predict_batch(np.zeros((3, 28, 28), dtype=np.uint8))
    assert batch.class_activation_maps is not None
    assert batch.class_activation_maps.shape == (3, 8, 4, 4)
    assert batch.is_ood.all()


@pytest.mark.slow
def test_the_bundled_model_reaches_its_validation_figures_on_real_cells() -> None:
    folders = [os.environ.get("NEPHROS_DATA"), Path(__file__).parents[3] / "shared" / "data"]
    files = [Path(folder) / "tissuemnist.npz" for folder in folders if folder]
    file = next((file for file in files if file.is_file()), None)
    predictor = Predictor.from_onnx()
    if file is None or file_digest(file) != predictor.card["data"]["sha256"]:
        pytest.skip("needs the tissuemnist.npz that the model was trained on, in NEPHROS_DATA or in ../shared/data")
    with np.load(file) as arrays:
        images, labels = arrays["val_images"][:4000], arrays["val_labels"][:4000, 0]
    batch = predictor.predict_batch(images)
    accuracy = (batch.probabilities.argmax(axis=1) == labels).mean()
    assert accuracy == pytest.approx(predictor.card["validation"]["accuracy"], abs=0.02)
    sets = predictor.prediction_sets(batch.probabilities, 0.9)
    assert sets[np.arange(4000), labels].mean() == pytest.approx(0.9, abs=0.015)
    assert batch.is_ood.mean() < 0.012
