"""The classical baselines give what scikit-learn gives, are calibrated, and travel through a file like any network."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nephros
from nephros.data.dataset import Dataset, Split
from nephros.errors import NephrosError
from nephros.models.classical import CLASSICAL_MODELS, ClassicalModel, KNNClassifier
from nephros.models.classifier import Classifier
from nephros.models.flops import count_multiply_adds, count_parameters
from nephros.models.input_spec import InputSpec
from nephros.models.serialization import load_model, save_model
from nephros.presets import NETWORK_RECIPES, RECIPES
from nephros.recipe import Recipe
from nephros.recipe_parts import ClassicalConfig, ModelConfig
from nephros.training.classical.calibration import fit_vector_scaling
from nephros.training.classical.features import flatten_pixels
from nephros.training.classical.grid_search import grid_search
from nephros.training.classical.search_results import SearchResult, read_search_results, search_results_to_csv
from tests.conftest import squares_dataset

CPU = torch.device("cpu")


def hard(n: int = 400, classes: int = 4, channels: int = 1) -> Dataset:
    """Return images that no model tells apart wholly: the squares, half hidden by noise."""
    data = squares_dataset(n, classes, channels, size=12)
    rng = np.random.default_rng(5)

    def blurred(split: Split) -> Split:
        noise = rng.normal(0, 60, split.images.shape)
        return Split(np.clip(split.images + noise, 0, 255).astype(np.uint8), split.labels)

    return dataclasses.replace(data, train=blurred(data.train), val=blurred(data.val), test=blurred(data.test))


def learnt(
    network: str, data: Dataset, metric: str = "val_loss", **classic: Any
) -> tuple[ClassicalModel, list[SearchResult], int]:
    settings = ClassicalConfig(**classic)
    recipe = Recipe(model=ModelConfig(network=network), classical=settings, metric=metric)  # type: ignore[arg-type]
    return grid_search(recipe, data, CPU, lambda _words: None)


def scores(model: ClassicalModel, split: Split) -> np.ndarray:
    with torch.no_grad():
        pixels = torch.from_numpy(flatten_pixels(split.images))
        found: np.ndarray = model.scores(model.extract_features(pixels)).numpy()
    return found


def standardised(model: ClassicalModel, split: Split) -> np.ndarray:
    """Return the pixels as the machines see them, (n, d)."""
    centre, spread = (dict(model.named_buffers())[name].numpy() for name in ("centre", "spread"))
    found: np.ndarray = (flatten_pixels(split.images) - centre) / spread
    return found


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_neighbours_are_scikit_learn_s(distance: str, channels: int) -> None:
    from sklearn.neighbors import NearestNeighbors

    data = hard(channels=channels)
    model, _, _ = learnt("knn", data, distance=(distance,), n_neighbors=(5,))
    queries = flatten_pixels(data.val.images)
    assert isinstance(model, KNNClassifier)
    found = model.kneighbors(torch.from_numpy(queries), 5).numpy()
    peer = NearestNeighbors(n_neighbors=5, algorithm="brute", metric=distance).fit(flatten_pixels(data.train.images))
    assert np.array_equal(np.sort(found), np.sort(peer.kneighbors(queries, return_distance=False)))


def test_many_neighbours_across_blocks_are_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    data = hard()
    model, _, _ = learnt("knn", data, n_neighbors=(30,))
    queries = torch.from_numpy(flatten_pixels(data.val.images))
    assert isinstance(model, KNNClassifier)
    whole = model.kneighbors(queries, 30)
    monkeypatch.setattr("nephros.models.classical.CHUNK_SIZE", 17)
    assert torch.equal(model.kneighbors(queries, 30), whole)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_exact_kernel_machine_is_scikit_learn_s(classes: int) -> None:
    from sklearn.svm import SVC

    data = hard(classes=classes)
    model, _, _ = learnt("svm-rbf", data, C=(2.0,), gamma=(0.7,))
    train, val = (standardised(model, split) for split in (data.train, data.val))
    peer = SVC(C=2.0, gamma=0.7 / train.shape[1], decision_function_shape="ovr").fit(train, data.train.labels)
    found = scores(model, data.val)
    assert np.array_equal(found.argmax(axis=1), peer.predict(val))
    expected = peer.decision_function(val)
    if classes == 2:
        assert np.array_equal(found[:, 1] > found[:, 0], expected > 0)
    else:
        assert np.allclose(found, expected, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Maximum number of iteration")
def test_the_linear_machine_and_the_landmarks_are_scikit_learn_s() -> None:
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    data = hard()
    n = len(data.train)
    cases: list[tuple[str, dict[str, Any]]] = [("svm-linear", {}), ("svm-rbf", {"n_landmarks": 40})]
    for network, settings in cases:
        model, _, _ = learnt(network, data, **settings)
        train, val = (standardised(model, split) for split in (data.train, data.val))
        machine = SGDClassifier(alpha=1 / n, average=True, max_iter=-(-1_000_000 // n), random_state=0)
        steps = [Nystroem(gamma=1 / train.shape[1], n_components=40, random_state=0)] if settings else []
        peer = make_pipeline(*steps, machine).fit(train, data.train.labels)
        assert np.allclose(scores(model, data.val), peer.decision_function(val), atol=2e-3)


@pytest.mark.parametrize("network", CLASSICAL_MODELS)
def test_each_is_calibrated_judged_and_kept_by_its_metric(network: str) -> None:
    data = hard(n=1200)
    grid: dict[str, dict[str, Any]] = {
        "knn": {"n_neighbors": (1, 5, 25)},
        "svm-linear": {"C": (0.01, 1.0)},
        "svm-rbf": {"gamma": (0.3, 3.0)},
    }
    model, tried, place = learnt(network, data, features=("pixels", "pca"), n_components=6, **grid[network])
    assert len(tried) == 2 * len(next(iter(grid[network].values())))
    assert tried[place].val_loss == min(row.val_loss for row in tried)
    assert 0.4 < tried[place].val_accuracy < 1
    with torch.no_grad():
        logits = model(torch.from_numpy(data.val.images).float()[:, None] / 255).double()
    loss = float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.val.labels)))
    assert loss == pytest.approx(tried[place].val_loss, abs=1e-4)
    # No other temperature does better on validation: that is what calibrated means.
    for factor in (0.8, 1.25):
        assert float(torch.nn.functional.cross_entropy(factor * logits, torch.from_numpy(data.val.labels))) > loss


@pytest.mark.parametrize("network", CLASSICAL_MODELS)
def test_each_travels_through_a_file(network: str, tmp_path: Path) -> None:
    data = hard(channels=3)
    model, _, _ = learnt(network, data, features=("pca",), n_components=5)
    shape = InputSpec(3, 12, 12, 4)
    whole = Classifier(model, [0.0] * 3, [1.0] * 3).eval()
    save_model(tmp_path / "w.safetensors", whole.state_dict(), ModelConfig(network=network), shape, data.class_names)
    again, names = load_model(tmp_path / "w.safetensors")
    assert names == data.class_names
    images = torch.from_numpy(data.test.images).permute(0, 3, 1, 2)
    with torch.no_grad():
        assert torch.equal(again(images), whole(images))
    assert count_parameters(again.network) == count_parameters(model) > 0
    assert count_multiply_adds(again.network, shape) >= 5 * 3 * 12 * 12


def test_a_class_that_train_lacks_is_never_answered() -> None:
    data = hard()
    kept = data.train.labels != 2
    data = dataclasses.replace(data, train=Split(data.train.images[kept], data.train.labels[kept]))
    for network in CLASSICAL_MODELS:
        model, _, _ = learnt(network, data)
        with torch.no_grad():
            called = model(torch.from_numpy(flatten_pixels(data.val.images))[:, None]).argmax(dim=1)
        assert 2 not in called
        assert set(called.tolist()) == {0, 1, 3}


def test_vector_scaling_finds_the_scale_and_shift_that_made_the_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(20_000, 3, generator=generator)
    scale, shift = torch.tensor([0.5, 2.0, 1.0]), torch.tensor([0.3, -0.4, 0.1])
    labels = torch.multinomial(torch.softmax(scale * scores + shift, dim=1), 1, generator=generator)[:, 0]
    found_scale, found_shift = fit_vector_scaling(scores, labels)
    assert torch.allclose(found_scale, scale, atol=0.08)
    assert torch.allclose(found_shift - found_shift.mean(), shift - shift.mean(), atol=0.08)


def test_settings_that_the_data_can_t_serve_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    data = squares_dataset(n=40, size=12)
    one_class = dataclasses.replace(data, train=Split(data.train.images, np.zeros_like(data.train.labels)))
    black = dataclasses.replace(data, train=Split(np.zeros_like(data.train.images), data.train.labels))
    cases: list[tuple[Dataset, str, dict[str, Any], str]] = [
        (data, "knn", {"n_neighbors": (41,)}, "--classical.n_neighbors has 41"),
        (data, "knn", {"features": ("pca",), "n_components": 41}, "--classical.n_components has 41"),
        (data, "svm-rbf", {"n_landmarks": 41}, "--classical.n_landmarks has 41"),
        (one_class, "svm-linear", {}, "at least two classes"),
        (black, "svm-rbf", {}, "All pixels"),
    ]
    for given, network, classic, words in cases:
        recipe = Recipe(model=ModelConfig(network=network), classical=ClassicalConfig(**classic))
        with pytest.raises(NephrosError, match=words):
            nephros.train(recipe, given, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_limit_on_images_is_kept_and_recorded(tmp_path: Path) -> None:
    for most, kept in ((24, 24), (1000, 40)):
        recipe = Recipe(model=ModelConfig(network="svm-linear"), classical=ClassicalConfig(max_images=most))
        run = nephros.train(recipe, squares_dataset(n=40, size=12), out=tmp_path / str(most), say=lambda _words: None)
        assert sum(run.info().class_counts["train"]) == kept
        assert ("subset of 24" in run.info().data["detail"]) == (most == 24)


def test_small_scores_are_calibrated_as_well_as_large_ones() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(2000, 4, generator=generator)
    labels = (scores + torch.randn(2000, 4, generator=generator)).argmax(dim=1)

    def loss(factor: float) -> float:
        scale, shift = fit_vector_scaling(factor * scores, labels)
        return float(torch.nn.functional.cross_entropy(scale * factor * scores + shift, labels))

    assert loss(0.001) == pytest.approx(loss(1.0), abs=1e-4) == pytest.approx(loss(1000.0), abs=1e-4)


def test_large_seeds_are_seeds() -> None:
    for network, classic in (("svm-linear", ClassicalConfig()), ("svm-rbf", ClassicalConfig(n_landmarks=20))):
        recipe = Recipe(model=ModelConfig(network=network), classical=classic, seed=2**62)
        assert grid_search(recipe, hard(), CPU, lambda _words: None)[1]


def test_what_a_baseline_or_a_network_does_not_have_is_refused() -> None:
    with pytest.raises(NephrosError, match="knn has no setting --epochs"):
        dataclasses.replace(RECIPES["knn"], epochs=3)
    with pytest.raises(NephrosError, match=r"knn has no setting --classical\.gamma"):
        dataclasses.replace(RECIPES["knn"], classical=ClassicalConfig(gamma=(2.0,)))
    with pytest.raises(NephrosError, match="course has no setting --classical"):
        dataclasses.replace(RECIPES["course-1"], classical=ClassicalConfig(max_images=5))
    assert set(RECIPES["knn"].to_dict()) == {"name", "source", "model", "classical", "metric", "seed"}
    for bad in ((), (float("inf"),), (0.5, float("nan"))):
        with pytest.raises(NephrosError, match=r"--classical\.C"):
            dataclasses.replace(RECIPES["svm-linear"], classical=ClassicalConfig(C=bad))
    assert all("classical" not in recipe.to_dict() for recipe in NETWORK_RECIPES.values())


def test_tried_rows_come_back_from_their_file(tmp_path: Path) -> None:
    _, tried, _ = learnt("knn", hard(), n_neighbors=(1, 3))
    file = tmp_path / "search_results.csv"
    file.write_text(search_results_to_csv(tried))
    assert read_search_results(file) == tried
    assert tried[1].description == "pixels, euclidean, 3 neighbours"
    file.write_text("features\n1\n")
    with pytest.raises(NephrosError, match=r"search_results.csv is damaged"):
        read_search_results(file)
