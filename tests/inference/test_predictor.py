"""The engine: what it refuses to open or answer, and the model in the box."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from nephros.errors import UserError
from nephros.exporters.inference_module import distance_tensors
from nephros.exporters.loading import open_model
from nephros.files import digest
from nephros.inference import predictor as engine_module
from nephros.inference.bundled import BOX, MOST
from nephros.inference.model_card import KEY
from nephros.inference.ood.detector import fit_ranges, reasons
from nephros.inference.ood.image_statistics import measures
from nephros.inference.ood.negative_controls import WORDS, non_cells
from nephros.inference.predictor import Engine
from tests.conftest import squares


def test_files_that_are_no_model_are_named(exported: Path, tmp_path: Path) -> None:
    bare = onnx.load(exported)
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    odd = onnx.load(exported)
    onnx.helper.set_model_props(odd, {KEY: json.dumps({"format": "nephros-card-9"})})
    onnx.save(odd, tmp_path / "odd.onnx")
    (tmp_path / "cut.onnx").write_bytes(exported.read_bytes()[:2000])
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
        with pytest.raises(UserError, match=expected) as caught:
            open_model(tmp_path / name)
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="can't be read"):
        Engine.open(tmp_path)


@pytest.mark.parametrize("shape", [(2, 28, 27), (28, 28), (2, 28, 28, 3), (2, 1, 28, 28)])
def test_cells_of_another_shape_are_refused(engine: Engine, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cells must be uint8"):
        engine.answer(np.zeros(shape, dtype=np.uint8))
    with pytest.raises(ValueError, match="float64"):
        engine.answer(np.zeros((2, 28, 28)))  # type: ignore[arg-type]


def test_answers_do_not_depend_on_batches_or_threads(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = squares(100, 4, 5)
    whole = engine.answer(images)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(engine.answer, np.array_split(images, 10)))
    assert np.allclose(np.concatenate([part.probabilities for part in parts]), whole.probabilities, atol=1e-6)
    monkeypatch.setattr(engine_module, "BATCH_PIXELS", 7 * 28 * 28)
    assert np.allclose(engine.answer(images).probabilities, whole.probabilities, atol=1e-6)
    assert len(whole) == len(whole.reasons) == len(whole.unfamiliar) == 100
    assert np.array_equal(engine.answer(images[..., None]).probabilities, engine.answer(images).probabilities)


def test_unfamiliar_pictures_say_in_which_way(engine: Engine) -> None:
    images, _ = squares(40, 4, 5)
    assert engine.answer(images).unfamiliar.mean() < 0.2
    black, noise = np.zeros((1, 28, 28), dtype=np.uint8), np.random.default_rng(0).integers(0, 256, (1, 28, 28))
    found = engine.answer(np.concatenate([black, noise.astype(np.uint8)]))
    assert found.unfamiliar.all()
    assert found.reasons[0].startswith("too dark (brightness 0, training cells ")
    assert "too flat" in found.reasons[0]
    assert "too sharp or noisy" in found.reasons[1]


def test_measures_are_what_they_say() -> None:
    ramp = np.tile(np.arange(5, dtype=np.uint8) ** 2, (4, 1))[None]
    brightness, contrast, sharpness = measures(ramp)[0]
    assert brightness == pytest.approx(6.0)
    assert contrast == pytest.approx(ramp.std())
    assert sharpness == 0  # the second difference of squares is 2 everywhere
    spot = np.zeros((1, 3, 4), dtype=np.uint8)
    spot[0, 1, 1] = 8
    assert measures(spot)[0, 2] == pytest.approx(np.var([-32, 8]))
    assert np.allclose(measures(np.repeat(spot[..., None], 3, axis=3)), measures(spot))
    assert measures(np.zeros((2, 2, 2), dtype=np.uint8))[:, 2].tolist() == [0, 0]
    assert measures(spot[:0]).shape == (0, 3)


def test_ranges_leave_out_two_in_a_thousand_and_nan_is_unfamiliar() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5000, 6, 6), dtype=np.uint8)
    about = {"ranges": fit_ranges(images), "distance": {"threshold": 3.0}}
    none = {"ranges": fit_ranges(images), "distance": None}
    assert 0 < np.mean([bool(word) for word in reasons(none, images, None)]) < 0.01
    familiar = np.full(3, 1.0)
    inside = images[[i for i, word in enumerate(reasons(none, images, None)) if not word][:3]]
    assert reasons(about, inside, familiar) == ("", "", "")
    told = reasons(about, inside, np.array([1.0, 3.5, np.nan]))
    assert told[0] == ""
    assert "(distance 3.5, cells to 3)" in told[1]
    assert "distance nan" in told[2]
    assert reasons(None, inside, familiar) == ("", "", "")


def test_the_distance_is_mahalanobis() -> None:
    import torch

    generator = np.random.default_rng(0)
    labels = np.arange(4000) % 2
    stretch = np.array([[2.0, 0.5], [0.0, 1.0]])
    features = generator.standard_normal((4000, 2)) @ stretch + np.array([[10.0, 0.0], [-10.0, 5.0]])[labels]
    found = distance_tensors(torch.from_numpy(features), torch.from_numpy(labels), 3, ridge=0.0)
    z = (torch.from_numpy(features).float() - found["centre"]) @ found["whitening"]
    ours = torch.cdist(z, found["means"]).numpy()
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
    made = non_cells(cells, 30)
    assert set(made) == set(WORDS)
    for kind, pictures in made.items():
        assert pictures.shape == (30, *shape[1:])
        assert pictures.dtype == np.uint8
        assert np.array_equal(pictures, non_cells(cells, 30)[kind])
    assert made["flat"].reshape(30, -1).std(axis=1).max() == 0
    assert np.array_equal(
        np.sort(made["scrambled cells"].reshape(30, -1)), np.sort(255 - made["inverted cells"].reshape(30, -1))
    )


def test_the_box_holds_a_model_of_tissuemnist() -> None:
    assert sum(file.stat().st_size for file in BOX.iterdir()) <= MOST
    engine = Engine.open()
    assert engine.card == json.loads((BOX / "card.json").read_text(encoding="utf-8"))
    assert (engine.channels, engine.height, engine.width, len(engine.class_names)) == (1, 28, 28, 8)
    assert engine.card["data"]["key"] == "tissuemnist"
    assert engine.card["licence"]["data"] == "CC BY 4.0"
    assert engine.card["test_accuracy"] > 0.6
    assert 0.89 < engine.card["conformal"]["measured_on_test"]["coverage"] < 0.91
    answers = engine.answer(np.zeros((3, 28, 28), dtype=np.uint8))
    assert answers.maps is not None
    assert answers.maps.shape == (3, 8, 4, 4)
    assert answers.unfamiliar.all()


@pytest.mark.slow
def test_the_box_is_right_on_real_validation_cells_as_often_as_its_card_says() -> None:
    folders = [os.environ.get("NEPHROS_DATA"), Path(__file__).parents[3] / "shared" / "data"]
    files = [Path(folder) / "tissuemnist.npz" for folder in folders if folder]
    file = next((file for file in files if file.is_file()), None)
    card = Engine.open().card
    if file is None or digest(file) != card["data"]["sha256"]:
        pytest.skip("needs the tissuemnist.npz that the model was trained on, in NEPHROS_DATA or in ../shared/data")
    with np.load(file) as arrays:
        images, labels = arrays["val_images"][:4000], arrays["val_labels"][:4000, 0]
    engine = Engine.open()
    answers = engine.answer(images)
    assert (answers.probabilities.argmax(axis=1) == labels).mean() == pytest.approx(
        card["validation"]["accuracy"], abs=0.02
    )
    sets = engine.prediction_sets(answers.probabilities, 0.9)
    assert sets[np.arange(4000), labels].mean() == pytest.approx(0.9, abs=0.015)
    assert answers.unfamiliar.mean() < 0.012
