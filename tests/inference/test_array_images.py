"""Images in memory: a classifier takes them as a notebook holds them, converted as files are, and says how."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nephros
from nephros.data.images.array_images import read_array_images
from nephros.errors import InvalidArgument, NephrosError, UnknownName
from nephros.inference.predictor import Predictor
from tests.conftest import square_images

IMAGES = square_images(12, 4, seed=3)[0]


@pytest.fixture(scope="module")
def classifier() -> Predictor:
    return nephros.load_classifier()


def test_the_bundled_classifier_needs_no_torch() -> None:
    code = (
        "import sys, numpy as np, nephros; clf = nephros.load_classifier(); clf.predict(np.zeros((2, 28, 28), np.uint8)); "
        "nephros.list_models(pretrained=True); print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False"]


def test_models_are_listed_and_opened_by_name(classifier: Predictor) -> None:
    names = nephros.list_models()
    assert {"nephros", "nephros-fast", "course-1"} <= set(names)
    assert "knn" not in names
    pretrained = nephros.list_models(pretrained=True)
    assert set(pretrained) <= set(names)
    assert nephros.list_models("course-*") == [f"course-{row}" for row in range(1, 8)]
    for name in ("nephros-distilled", "nephros", "bundled"):
        assert nephros.load_classifier(name).card == classifier.card
    assert nephros.load_classifier("nephros-fast").card["recipe"] == "nephros-fast"
    with pytest.raises(UnknownName) as caught:
        nephros.load_classifier("nephros-distiled")
    assert caught.value.parameter == "model"
    assert "nephros-distilled" in str(caught.value)
    assert repr(classifier).startswith("<Predictor nephros-distilled")


def test_a_classifier_is_opened_from_a_run_and_from_its_exports(
    run_folder: Any, exported_model: Path, safetensors_model: Path
) -> None:
    expected = nephros.load_classifier(exported_model).predict_proba(IMAGES)
    for model in (safetensors_model, str(exported_model)):
        np.testing.assert_allclose(nephros.load_classifier(model).predict_proba(IMAGES), expected, atol=1e-5)
    assert nephros.load_classifier(run_folder.root).class_names == nephros.load_classifier(exported_model).class_names


@pytest.mark.parametrize(
    "images",
    [
        list(IMAGES),
        IMAGES[..., None],
        IMAGES[:, None],
        IMAGES / 255,
        (IMAGES / 255).astype(np.float16).astype(np.float32),
        IMAGES.astype(np.int64),
        torch.from_numpy(IMAGES),
        [Image.fromarray(image) for image in IMAGES],
        [image.tolist() for image in IMAGES],
        np.repeat(IMAGES[..., None], 3, axis=3),
        list(np.repeat(IMAGES[:, None], 3, axis=1)),
        np.asfortranarray(IMAGES),
        IMAGES[::-1][::-1],
    ],
    ids=[
        "list",
        "nhw1",
        "n1hw",
        "float",
        "float16",
        "int64",
        "torch",
        "Pillow",
        "nested lists",
        "rgb",
        "chw",
        "F",
        "view",
    ],
)
def test_the_same_cells_give_the_same_predictions(images: Any, classifier: Predictor) -> None:
    expected = classifier.predict_batch(IMAGES).probabilities
    atol = 2e-2 if isinstance(images, np.ndarray) and images.dtype == np.float32 else 1e-5
    np.testing.assert_allclose(classifier.predict_proba(images), expected, atol=atol)


def test_one_image_is_a_batch_of_one(classifier: Predictor) -> None:
    expected = classifier.predict_proba(IMAGES)[:1]
    for image in (IMAGES[0], IMAGES[0][..., None], np.repeat(IMAGES[0][..., None], 3, axis=2), IMAGES[0].tolist()):
        np.testing.assert_allclose(classifier.predict_proba(image), expected, atol=1e-6)
    assert classifier.predict_proba([]).shape == (0, 8)
    assert len(classifier.predict(IMAGES[:0])) == 0


def test_fractions_beyond_1_are_scaled_by_the_brightest_of_all(classifier: Predictor) -> None:
    scaled = IMAGES / 200
    assert 1 < scaled.max() < 2
    expected = classifier.predict(scaled, white_level=float(scaled.max())).probabilities
    np.testing.assert_array_equal(classifier.predict_proba(scaled), expected)
    np.testing.assert_array_equal(classifier.predict_proba(list(scaled)), expected)


def test_files_and_arrays_become_the_same_cells(classifier: Predictor, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    deep = [rng.integers(0, 3000, (40, 30)).astype(np.uint16), rng.integers(0, 900, (28, 28)).astype(np.uint16)]
    for i, image in enumerate(deep):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    from_files = nephros.predict(tmp_path, classifier)
    from_arrays = classifier.predict(deep)
    np.testing.assert_array_equal(from_arrays.probabilities, from_files.probabilities)
    resized = [note for note in from_arrays.notes if "resized" in note]
    assert resized == [note for note in from_files.notes if "resized" in note] != []
    np.testing.assert_array_equal(
        classifier.predict(deep, white_level=4095).probabilities,
        nephros.predict(tmp_path, classifier, white_level=4095).probabilities,
    )


def test_predict_takes_arrays_as_it_takes_files(classifier: Predictor) -> None:
    np.testing.assert_array_equal(nephros.predict(IMAGES).probabilities, classifier.predict_proba(IMAGES))
    np.testing.assert_array_equal(nephros.predict(list(IMAGES), classifier).labels, classifier.predict(IMAGES).labels)


def test_conversions_are_said(classifier: Predictor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="nephros"):
        classifier.predict_proba(IMAGES)
        assert not caplog.records
        classifier.predict_proba(np.zeros((3, 40, 40), np.uint8))
        assert "28x28" in caplog.text
        caplog.clear()
        classifier.embed(IMAGES[:, None].astype(np.uint16))
        assert "(n, c, h, w)" in caplog.text
        assert "16-bit" in caplog.text


@pytest.mark.parametrize(
    ("images", "parameter"),
    [
        ("cell.png", "images"),
        (["cell.png"], "images"),
        (None, "images"),
        (3, "images"),
        ({}, "images"),
        (np.zeros((5, 784)), "images"),
        (np.zeros((2, 3, 3)), "images"),
        (np.zeros((28, 28, 4)), "images"),
        (np.zeros((2, 5, 28, 28, 1)), "images"),
        (np.zeros((2, 28, 28), dtype=complex), "images"),
        (np.array(["a"]), "images"),
        ([[1, 2], [3]], "images"),
        ([1, 2, 3], "images"),
        ([IMAGES[0], IMAGES[0].astype(np.float64) * np.nan], "images[1]"),
        ([IMAGES[0], np.zeros((28, 28, 28, 28))], "images[1]"),
        ([IMAGES[0], np.zeros((3, 3))], "images[1]"),
        (-1.0 - IMAGES, "images[0]"),
        (np.zeros((2, 28, 28, 2), np.uint8), "images[0]"),
        (torch.zeros(2, 28, 28, requires_grad=True), "images"),
    ],
)
def test_what_is_no_image_is_refused_by_name(images: Any, parameter: str, classifier: Predictor) -> None:
    for call in (classifier.predict_proba, classifier.predict, classifier.embed):
        with pytest.raises(InvalidArgument) as caught:
            call(images)
        assert caught.value.parameter == parameter
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "parameter"),
    [({"coverage": 1.5}, "coverage"), ({"white_level": 0}, "white_level"), ({"channel": -1}, "channel")],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], parameter: str, classifier: Predictor) -> None:
    with pytest.raises(InvalidArgument) as caught:
        classifier.predict(IMAGES, **options)
    assert caught.value.parameter == parameter
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, NephrosError)


def test_a_channel_is_chosen(classifier: Predictor) -> None:
    two = np.stack([np.zeros_like(IMAGES), IMAGES], axis=-1)
    expected = classifier.predict_proba(IMAGES)
    np.testing.assert_allclose(classifier.predict_proba(two, channel=1), expected, atol=1e-6)


def test_the_brightest_pixel_is_that_of_the_chosen_channel(classifier: Predictor) -> None:
    deep = IMAGES.astype(np.uint16) * 16
    bright = np.full_like(deep, 60_000)
    expected = classifier.predict_proba(deep)
    np.testing.assert_allclose(classifier.predict_proba(np.stack([deep, bright], axis=-1), channel=0), expected)
    np.testing.assert_allclose(classifier.predict_proba([*np.stack([deep, bright], axis=-1)], channel=0), expected)


def test_a_prediction_is_a_row_and_a_table(classifier: Predictor, tmp_path: Path) -> None:
    predictions = classifier.predict(IMAGES, coverage=0.8)
    assert len(predictions) == 12
    assert predictions.class_names == classifier.class_names
    np.testing.assert_array_equal(predictions.labels, predictions.probabilities.argmax(axis=1))
    assert predictions.prediction_sets[np.arange(12), predictions.labels].mean() > 0.9
    assert predictions.is_ood.tolist() == [bool(reasons) for reasons in predictions.ood_reasons]
    assert predictions[3].label == predictions[-9].label == predictions.labels[3]
    assert [row.source.index for row in predictions] == list(range(12))
    assert predictions[predictions.labels >= 0][2:4].labels.tolist() == predictions.labels[2:4].tolist()
    with pytest.raises(IndexError):
        predictions[12]
    saved = predictions.save(tmp_path / "p.csv")
    assert len(saved.read_text().splitlines()) == 13
    with pytest.raises(InvalidArgument):
        predictions.save(tmp_path / "p.xlsx")
    assert "12 cells" in repr(predictions)
    page = predictions._repr_html_()
    assert page.count("<tr>") == 1 + 10
    assert "first 10 of 12 rows" in page


def test_predictions_become_a_data_frame(classifier: Predictor) -> None:
    pytest.importorskip("pandas")
    frame = classifier.predict(IMAGES).to_pandas()
    assert list(frame["index"]) == list(range(12))
    np.testing.assert_allclose(frame[[f"p_{c}" for c in range(8)]].sum(axis=1), 1, atol=1e-4)


def test_features_are_those_of_the_last_layer(classifier: Predictor) -> None:
    features = classifier.embed(IMAGES)
    assert features.shape == (12, 128)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, classifier.predict_batch(IMAGES).features)


def test_truth_values_are_black_and_white() -> None:
    (image,) = read_array_images(np.eye(8, dtype=np.bool_))
    assert np.unique(image.pixels).tolist() == [0, 255]
