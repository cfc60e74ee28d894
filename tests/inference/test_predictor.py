"""The predictor: what it refuses to open or answer, and the model in the box."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from nephros.errors import NephrosError
from nephros.exporters.inference_module import fit_feature_distance
from nephros.exporters.loading import load_predictor
from nephros.files import file_digest
from nephros.inference import predictor as predictor_module
from nephros.inference.bundled import BUNDLED_MODEL_DIR, MAX_BUNDLED_BYTES
from nephros.inference.model_card import CARD_METADATA_KEY
from nephros.inference.ood.detector import find_ood_reasons, fit_statistic_ranges
from nephros.inference.ood.image_statistics import image_statistics
from nephros.inference.ood.negative_controls import CONTROL_DESCRIPTIONS, negative_controls
from nephros.inference.predictor import Predictor
from tests.conftest import square_images


def test_files_that_are_no_model_are_named(exported_model: Path, tmp_path: Path) -> None:
    bare = onnx.load(exported_model)
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    odd = onnx.load(exported_model)
    onnx.helper.set_model_props(odd, {CARD_METADATA_KEY: json.dumps({"format": "nephros-card-9"})})
    onnx.save(odd, tmp_path / "odd.onnx")
    (tmp_path / "cut.onnx").write_bytes(exported_model.read_bytes()[:2000])
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    for name, expected in {
        "bare.onnx": "has no card",
        "odd.onnx": "has no card",
        "cut.onnx": "damaged or no ONNX model",
        "text.onnx": "damaged or no ONNX model",
        "text.safetensors": "damaged or was not written",
        "none.onnx": "does not exist",
        ".": "holds no run",
    }.items():
        with pytest.raises(NephrosError, match=expected) as caught:
            load_predictor(tmp_path / name)
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(NephrosError, match="can't be read"):
        Predictor.from_onnx(tmp_path)


@pytest.mark.parametrize("shape", [(2, 28, 27), (28, 28), (2, 28, 28, 3), (2, 1, 28, 28)])
def test_cells_of_another_shape_are_refused(predictor: Predictor, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cells must be uint8"):
        predictor.predict_batch(np.zeros(shape, dtype=np.uint8))
    with pytest.raises(ValueError, match="float64"):
        predictor.predict_batch(np.zeros((2, 28, 28)))  # type: ignore[arg-type]


def test_answers_do_not_depend_on_batches_or_threads(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = square_images(100, 4, 5)
    whole = predictor.predict_batch(images)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(predictor.predict_batch, np.array_split(images, 10)))
    assert np.allclose(np.concatenate([part.probabilities for part in parts]), whole.probabilities, atol=1e-6)
    monkeypatch.setattr(predictor_module, "MAX_BATCH_PIXELS", 7 * 28 * 28)
    assert np.allclose(predictor.predict_batch(images).probabilities, whole.probabilities, atol=1e-6)
    assert len(whole) == len(whole.ood_reasons) == len(whole.is_ood) == 100
    assert np.array_equal(
        predictor.predict_batch(images[..., None]).probabilities, predictor.predict_batch(images).probabilities
    )


def test_unfamiliar_pictures_say_in_which_way(predictor: Predictor) -> None:
    images, _ = square_images(40, 4, 5)
    assert predictor.predict_batch(images).is_ood.mean() < 0.2
    black, noise = np.zeros((1, 28, 28), dtype=np.uint8), np.random.default_rng(0).integers(0, 256, (1, 28, 28))
    found = predictor.predict_batch(np.concatenate([black, noise.astype(np.uint8)]))
    assert found.is_ood.all()
    assert found.ood_reasons[0].startswith("too dark (brightness 0, training cells ")
    assert "too flat" in found.ood_reasons[0]
    assert "too sharp or noisy" in found.ood_reasons[1]


def test_measures_are_what_they_say() -> None:
    ramp = np.tile(np.arange(5, dtype=np.uint8) ** 2, (4, 1))[None]
    brightness, contrast, sharpness = image_statistics(ramp)[0]
    assert brightness == pytest.approx(6.0)
    assert contrast == pytest.approx(ramp.std())
    assert sharpness == 0  # the second difference of squares is 2 everywhere
    spot = np.zeros((1, 3, 4), dtype=np.uint8)
    spot[0, 1, 1] = 8
    assert image_statistics(spot)[0, 2] == pytest.approx(np.var([-32, 8]))
    assert np.allclose(image_statistics(np.repeat(spot[..., None], 3, axis=3)), image_statistics(spot))
    assert image_statistics(np.zeros((2, 2, 2), dtype=np.uint8))[:, 2].tolist() == [0, 0]
    assert image_statistics(spot[:0]).shape == (0, 3)


def test_ranges_leave_out_two_in_a_thousand_and_nan_is_unfamiliar() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5000, 6, 6), dtype=np.uint8)
    about = {"ranges": fit_statistic_ranges(images), "structure": None, "feature_distance": {"threshold": 3.0}}
    none = {"ranges": fit_statistic_ranges(images), "structure": None, "feature_distance": None}
    assert 0 < np.mean([bool(word) for word in find_ood_reasons(none, images, None)]) < 0.01
    familiar = np.full(3, 1.0)
    inside = images[[i for i, word in enumerate(find_ood_reasons(none, images, None)) if not word][:3]]
    assert find_ood_reasons(about, inside, familiar) == ("", "", "")
    told = find_ood_reasons(about, inside, np.array([1.0, 3.5, np.nan]))
    assert told[0] == ""
    assert "(distance 3.5, cells to 3)" in told[1]
    assert "distance nan" in told[2]
    assert find_ood_reasons(None, inside, familiar) == ("", "", "")


def test_the_distance_is_mahalanobis() -> None:
    import torch

    generator = np.random.default_rng(0)
    labels = np.arange(4000) % 2
    stretch = np.array([[2.0, 0.5], [0.0, 1.0]])
    features = generator.standard_normal((4000, 2)) @ stretch + np.array([[10.0, 0.0], [-10.0, 5.0]])[labels]
    found = fit_feature_distance(torch.from_numpy(features), torch.from_numpy(labels), 3, ridge=0.0)
    z = (torch.from_numpy(features).float() - found["feature_mean"]) @ found["whitening"]
    ours = torch.cdist(z, found["class_means"]).numpy()
    means = np.stack([features[labels == c].mean(axis=0) for c in (0, 1)])
    within = features - means[labels]
    inverse = np.linalg.inv(within.T @ within / len(features))
    for c in (0, 1):
        away = features - means[c]
        assert np.allclose(ours[:, c], np.sqrt(np.einsum("ni,ij,nj->n", away, inverse, away)), rtol=1e-3, atol=1e-3)
    assert ours[:, 2].min() > 1000  # a class without cells is near to nothing


@pytest.mark.parametrize("shape", [(50, 28, 28), (20, 12, 16, 3)])
def test_non_cells_have_the_cells_shape_and_repeat(shape: tuple[int, ...]) -> None:
    cells = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    made = negative_controls(cells, 30)
    assert set(made) == set(CONTROL_DESCRIPTIONS)
    for kind, pictures in made.items():
        assert pictures.shape == (30, *shape[1:])
        assert pictures.dtype == np.uint8
        assert np.array_equal(pictures, negative_controls(cells, 30)[kind])
    assert made["constant"].reshape(30, -1).std(axis=1).max() == 0
    assert np.array_equal(
        np.sort(made["scrambled_cells"].reshape(30, -1)), np.sort(255 - made["inverted_cells"].reshape(30, -1))
    )


def test_the_box_holds_a_model_of_tissuemnist() -> None:
    assert sum(file.stat().st_size for file in BUNDLED_MODEL_DIR.iterdir()) <= MAX_BUNDLED_BYTES
    predictor = Predictor.from_onnx()
    assert predictor.card == json.loads((BUNDLED_MODEL_DIR / "card.json").read_text(encoding="utf-8"))
    assert (predictor.channels, predictor.height, predictor.width, len(predictor.class_names)) == (1, 28, 28, 8)
    assert predictor.card["data"]["key"] == "tissuemnist"
    assert predictor.card["license"]["data"] == "CC BY 4.0"
    assert predictor.card["test_accuracy"] > 0.6
    assert 0.89 < predictor.card["conformal"]["test"]["coverage"] < 0.91
    answers = predictor.predict_batch(np.zeros((3, 28, 28), dtype=np.uint8))
    assert answers.class_activation_maps is not None
    assert answers.class_activation_maps.shape == (3, 8, 4, 4)
    assert answers.is_ood.all()


@pytest.mark.slow
def test_the_box_is_right_on_real_validation_cells_as_often_as_its_card_says() -> None:
    folders = [os.environ.get("NEPHROS_DATA"), Path(__file__).parents[3] / "shared" / "data"]
    files = [Path(folder) / "tissuemnist.npz" for folder in folders if folder]
    file = next((file for file in files if file.is_file()), None)
    card = Predictor.from_onnx().card
    if file is None or file_digest(file) != card["data"]["sha256"]:
        pytest.skip("needs the tissuemnist.npz that the model was trained on, in NEPHROS_DATA or in ../shared/data")
    with np.load(file) as arrays:
        images, labels = arrays["val_images"][:4000], arrays["val_labels"][:4000, 0]
    predictor = Predictor.from_onnx()
    answers = predictor.predict_batch(images)
    assert (answers.probabilities.argmax(axis=1) == labels).mean() == pytest.approx(
        card["validation"]["accuracy"], abs=0.02
    )
    sets = predictor.prediction_sets(answers.probabilities, 0.9)
    assert sets[np.arange(4000), labels].mean() == pytest.approx(0.9, abs=0.015)
    assert answers.is_ood.mean() < 0.012
