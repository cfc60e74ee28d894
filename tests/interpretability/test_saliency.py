"""Heat maps point at what decides, and similar cells are those of the nearest features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.data.load import load
from nephros.errors import NephrosError
from nephros.inference.predictor import PredictionBatch, Predictor
from nephros.interpretability.run_explainer import build_run_explainer
from nephros.interpretability.saliency import saliency_maps
from nephros.interpretability.similar_cells import build_reference_index
from nephros.runs import RunFolder
from nephros.server.limits import DecodeLimiter, MemoryBudget, RequestLimits, RequestRejected
from nephros.server.multipart import sanitize_filename
from nephros.workflows.report import report
from tests.conftest import square_images, squares_dataset

CELLS = square_images(6, 4, 3)[0]


def test_class_activation_is_that_of_the_class_that_is_asked_for(predictor: Predictor) -> None:
    answers = predictor.predict_batch(CELLS)
    labels = answers.probabilities.argmax(axis=1)
    found = saliency_maps(CELLS, answers, labels, predictor.predict_batch)
    assert found.method == "class activation"
    assert found.values.shape == CELLS.shape
    assert answers.class_activation_maps is not None
    for values, maps, label in zip(found.values, answers.class_activation_maps, labels, strict=True):
        top = np.unravel_index(values.argmax(), values.shape)
        coarse = np.unravel_index(maps[label].argmax(), maps[label].shape)
        scale = values.shape[0] / maps.shape[1]
        assert abs(top[0] / scale - coarse[0] - 0.5) <= 1
        assert abs(top[1] / scale - coarse[1] - 0.5) <= 1
        assert values.max() == pytest.approx(1)
    other = saliency_maps(CELLS, answers, (labels + 1) % 4, predictor.predict_batch)
    assert not np.allclose(other.values, found.values)


def test_a_map_that_speaks_nowhere_for_the_class_is_empty() -> None:
    p = np.full((1, 2), 0.5, dtype=np.float32)
    answers = PredictionBatch(p, None, np.full((1, 2, 3, 3), -1, dtype=np.float32), np.zeros(1, dtype=np.bool_), ("",))
    found = saliency_maps(CELLS[:1], answers, np.array([0]), lambda cells: answers)
    assert (found.values == 0).all()


@pytest.mark.parametrize("colour", [False, True])
def test_occlusion_finds_the_one_spot_that_decides(colour: bool) -> None:
    def by_one_spot(cells: NDArray[np.uint8]) -> PredictionBatch:
        spot = cells[:, 20:24, 4:8].reshape(len(cells), -1).max(axis=1) > 200
        p = np.stack([1 - 0.8 * spot, 0.8 * spot], axis=1).astype(np.float32)
        return PredictionBatch(p, None, None, np.zeros(len(cells), dtype=np.bool_), ("",) * len(cells))

    cells = np.full((1, 28, 28, 3) if colour else (1, 28, 28), 40, dtype=np.uint8)
    cells[0, 20:24, 4:8] = 250
    found = saliency_maps(cells, by_one_spot(cells), np.array([1]), by_one_spot)
    assert found.method == "occlusion"
    row, column = np.unravel_index(found.values[0].argmax(), (28, 28))
    assert 18 <= row <= 26
    assert 2 <= column <= 10
    assert found.values[0, :8, 16:].max() < 0.1


def test_known_cells_are_their_own_nearest_and_of_the_train_split_alone(predictor: Predictor, cells_npz: Path) -> None:
    dataset = load(cells_npz)
    known = build_reference_index(predictor, dataset, max_cells=100, say=lambda _: None)
    assert len(known) == 100
    assert np.bincount(known.labels).min() > 15
    assert all((dataset.train.images == image).all(axis=(1, 2)).any() for image in known.images)
    features = predictor.predict_batch(known.images[:20]).features
    assert features is not None
    near, similarity = known.nearest(features, 5)
    assert near.shape == similarity.shape == (20, 5)
    assert similarity[:, 0] == pytest.approx(1, abs=1e-4)
    assert (np.diff(similarity, axis=1) <= 0).all()
    whole = (
        (features - known.feature_mean)
        @ known.unit_features.T
        / np.linalg.norm(features - known.feature_mean, axis=1)[:, None]
    )
    assert np.allclose(np.sort(whole, axis=1)[:, ::-1][:, :5], similarity, atol=1e-5)
    # Others may be as near, as squares that differ by noise are to so small a network.
    assert np.allclose(np.diagonal(whole), similarity[:, 0], atol=1e-4)
    assert known.nearest(features, 1000)[0].shape == (20, 100)


def test_a_runs_report_gives_reasons_for_its_mistakes(
    run_folder: RunFolder, predictor: Predictor, cells_npz: Path
) -> None:
    dataset = load(cells_npz)
    explain = build_run_explainer(run_folder, dataset)
    assert explain is not None
    labels = np.arange(6) % 4
    found = explain(CELLS, labels)
    maps = saliency_maps(CELLS, predictor.predict_batch(CELLS), labels, predictor.predict_batch)
    for reason, values in zip(found, maps.values, strict=True):
        assert reason.method == "class activation"
        assert np.allclose(reason.saliency, values, atol=1e-3)
        first, second = reason.similar_cells
        assert first.similarity >= second.similarity
        among = (dataset.train.images == first.image).all(axis=(1, 2))
        assert first.label in dataset.train.labels[among]
    page = report(run_folder.root, dataset).read_text(encoding="utf-8")
    assert "what spoke for it" in page
    assert "where the picture spoke for the class that was answered" in page


def test_known_cells_of_another_shape_or_a_model_without_features_are_refused(predictor: Predictor) -> None:
    with pytest.raises(NephrosError, match="3 channels"):
        build_reference_index(predictor, squares_dataset(channels=3), say=lambda _: None)
    bare = Predictor(lambda cells: {"probabilities": np.full((len(cells), 4), 0.25, dtype=np.float32)}, predictor.card)
    with pytest.raises(NephrosError, match="needs a model with features"):
        build_reference_index(bare, squares_dataset(), say=lambda _: None)


def test_the_guard_counts_cells_pixels_and_seconds() -> None:
    limits = RequestLimits(max_cells=10, max_file_pixels=1000, timeout_s=60)
    guard = DecodeLimiter(limits)
    guard("a", 4, 250)
    with pytest.raises(NephrosError, match=r"^a unpacks"):
        guard("a", 1, 1)
    guard("b", 6, 100)
    with pytest.raises(NephrosError, match=r"^c brings the upload above 10 cells"):
        guard("c", 1, 1)
    with pytest.raises(NephrosError, match=r"^a was not read within 0 seconds"):
        DecodeLimiter(replace(limits, timeout_s=0))("a", 1, 1)


def test_the_budget_is_shared_and_given_back() -> None:
    budget = MemoryBudget(100)
    with budget.lease() as one, budget.lease() as two:
        one.reserve(60)
        with pytest.raises(RequestRejected, match="as many uploads"):
            two.reserve(41)
        two.reserve(40)
    with budget.lease() as whole:
        whole.reserve(100)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (b"a b.png", "a b.png"),
        ("Zelle \u00e4.png".encode(), "Zelle \u00e4.png"),
        (b"say %22hi%22.png", 'say "hi".png'),
        (b"../../etc/passwd", "../../etc/passwd"),
        (b"\xff\x00\x1b[31m.png", "\ufffd??[31m.png"),
        ("\u202egnp.exe".encode(), "?gnp.exe"),
        (b"x" * 300 + b".png", "x" * 249 + "\u2026x.png"),
    ],
)
def test_names_of_clients_are_text_only(given: bytes, expected: str) -> None:
    assert sanitize_filename(given) == expected
    assert len(sanitize_filename(given)) <= 255
