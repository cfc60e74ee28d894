"""Similar cells are the nearest by features, come from the train split, and need a matching model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from nephros.data.load import load_dataset
from nephros.errors import IncompatibleError
from nephros.inference.predictor import Predictor
from nephros.interpretability.similar_cells import build_reference_index, embed_by, index_for_model
from tests.conftest import squares_dataset


def test_reference_cells_come_from_train_and_are_their_own_nearest(predictor: Predictor, cells_npz: Path) -> None:
    dataset = load_dataset(cells_npz)
    index = build_reference_index(predictor, dataset, max_cells=100)
    assert len(index) == 100
    assert np.bincount(index.labels).min() > 15
    assert all((dataset.train.images == image).all(axis=(1, 2)).any() for image in index.images)
    features = predictor.predict_batch(index.images[:20]).features
    assert features is not None
    neighbors, similarity = index.nearest(features, 5)
    assert neighbors.shape == similarity.shape == (20, 5)
    assert similarity[:, 0] == pytest.approx(1, abs=1e-4)
    assert (np.diff(similarity, axis=1) <= 0).all()
    centered = features - index.feature_mean
    cosines = centered @ index.unit_features.T / np.linalg.norm(centered, axis=1)[:, None]
    assert np.allclose(np.sort(cosines, axis=1)[:, ::-1][:, :5], similarity, atol=1e-5)
    # Other cells may be as near, since squares that differ only by noise look alike to so small a network.
    assert np.allclose(np.diagonal(cosines), similarity[:, 0], atol=1e-4)
    assert index.nearest(features, 1000)[0].shape == (20, 100)


def test_data_of_another_shape_is_refused(predictor: Predictor) -> None:
    with pytest.raises(IncompatibleError, match="3 channels"):
        build_reference_index(predictor, squares_dataset(channels=3))


def test_a_model_without_features_is_refused(predictor: Predictor) -> None:
    bare = Predictor(lambda cells: {"probabilities": np.full((len(cells), 4), 0.25, dtype=np.float32)}, predictor.card)
    with pytest.raises(IncompatibleError, match="no features"):
        build_reference_index(bare, squares_dataset())


def test_another_model_has_the_same_cells_by_its_own_features(predictor: Predictor, cells_npz: Path) -> None:
    index = build_reference_index(predictor, load_dataset(cells_npz), max_cells=100)
    other = Predictor.from_onnx(threads=1)
    again = index_for_model(index, other, embed_by(other.predict_batch))
    assert again is not None
    assert again.images is index.images
    assert (again.labels.tolist(), again.class_names) == (index.labels.tolist(), index.class_names)
    assert (index.trained_on, again.trained_on) == (True, False)
    features = other.predict_batch(index.images[:20]).features
    assert features is not None
    assert again.nearest(features, 1)[1][:, 0] == pytest.approx(1, abs=1e-4)
    same = index_for_model(index, predictor, embed_by(predictor.predict_batch))
    assert same is not None
    assert same.trained_on
    assert np.array_equal(same.unit_features, index.unit_features)


def test_a_model_that_can_not_compare_the_cells_has_no_index(predictor: Predictor, cells_npz: Path) -> None:
    index = build_reference_index(predictor, load_dataset(cells_npz), max_cells=20)
    bare = Predictor(lambda cells: {"probabilities": np.full((len(cells), 4), 0.25, dtype=np.float32)}, predictor.card)
    assert index_for_model(index, bare, embed_by(bare.predict_batch)) is None
    smaller = dataclasses.replace(index, images=index.images[:, :14])
    assert index_for_model(smaller, predictor, embed_by(predictor.predict_batch)) is None
