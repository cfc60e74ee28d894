"""Classical baselines agree with scikit-learn, are calibrated, and are saved and loaded like any network."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nephros
from nephros.data.dataset import Dataset
from nephros.data.split import Split
from nephros.errors import FileError, IncompatibleError, InvalidArgument, NephrosError
from nephros.models.classical import CLASSICAL_MODELS, ClassicalModel, KNNClassifier
from nephros.models.classifier import Classifier, InputSpec
from nephros.models.flops import count_multiply_adds, count_parameters
from nephros.models.serialization import load_model, save_model
from nephros.presets import NETWORK_RECIPES, RECIPES
from nephros.recipe import ClassicalConfig, KNNConfig, ModelConfig, OptimizerConfig, Recipe, SVMConfig
from nephros.training.classical.features import flatten_pixels
from nephros.training.classical.grid_search import GridSearchResult, fit_vector_scaling, grid_search
from nephros.training.classical.search_results import read_search_results, search_results_to_csv
from tests.conftest import squares_dataset

pytestmark = pytest.mark.usefixtures("reports_without_figures")
CPU = torch.device("cpu")


def noisy_squares(n: int = 400, classes: int = 4, channels: int = 1) -> Dataset:
    """Return the squares half hidden by noise, which no model classifies perfectly."""
    data = squares_dataset(n, classes, channels, size=12)
    rng = np.random.default_rng(5)

    def add_noise(split: Split) -> Split:
        noise = rng.normal(0, 60, split.images.shape)
        return Split(np.clip(split.images + noise, 0, 255).astype(np.uint8), split.labels)

    return dataclasses.replace(data, train=add_noise(data.train), val=add_noise(data.val), test=add_noise(data.test))


def make_recipe(network: str, **grid: Any) -> Recipe:
    """Return the recipe of a baseline with the given fields of its groups."""

    def values(config_class: type[Any]) -> dict[str, Any]:
        return {field.name: grid[field.name] for field in dataclasses.fields(config_class) if field.name in grid}

    return Recipe(
        model=ModelConfig(network=network),
        classical=ClassicalConfig(**values(ClassicalConfig)),
        knn=KNNConfig(**values(KNNConfig)),
        svm=SVMConfig(**values(SVMConfig)),
        metric="val_loss",
    )


def search(network: str, data: Dataset, **grid: Any) -> GridSearchResult:
    recipe = make_recipe(network, **grid)
    return grid_search(recipe, data, CPU)


def scores(model: ClassicalModel, split: Split) -> np.ndarray:
    with torch.no_grad():
        pixels = torch.from_numpy(flatten_pixels(split.images))
        values: np.ndarray = model.scores(model.extract_features(pixels)).numpy()
    return values


def standardized_pixels(model: ClassicalModel, split: Split) -> np.ndarray:
    """Return the (n, d) features of an SVM on pixels."""
    center, scale = (dict(model.named_buffers())[name].numpy() for name in ("center", "feature_scale"))
    features: np.ndarray = (flatten_pixels(split.images) - center) / scale
    return features


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_neighbors_match_scikit_learn(distance: str, channels: int) -> None:
    from sklearn.neighbors import NearestNeighbors

    data = noisy_squares(channels=channels)
    model = search("knn", data, distance=(distance,), n_neighbors=(5,)).model
    queries = flatten_pixels(data.val.images)
    assert isinstance(model, KNNClassifier)
    neighbors = model.kneighbors(torch.from_numpy(queries), 5).numpy()
    peer = NearestNeighbors(n_neighbors=5, algorithm="brute", metric=distance).fit(flatten_pixels(data.train.images))
    assert np.array_equal(np.sort(neighbors), np.sort(peer.kneighbors(queries, return_distance=False)))


def test_neighbors_do_not_depend_on_the_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    data = noisy_squares()
    model = search("knn", data, n_neighbors=(30,)).model
    queries = torch.from_numpy(flatten_pixels(data.val.images))
    assert isinstance(model, KNNClassifier)
    expected = model.kneighbors(queries, 30)
    monkeypatch.setattr("nephros.models.classical.CHUNK_SIZE", 17)
    assert torch.equal(model.kneighbors(queries, 30), expected)


@pytest.mark.parametrize("classes", [2, 4])
def test_the_exact_kernel_svm_matches_scikit_learn(classes: int) -> None:
    from sklearn.svm import SVC

    data = noisy_squares(classes=classes)
    model = search("svm-rbf", data, C=(2.0,), gamma=(0.7,)).model
    train, val = (standardized_pixels(model, split) for split in (data.train, data.val))
    peer = SVC(C=2.0, gamma=0.7 / train.shape[1], decision_function_shape="ovr").fit(train, data.train.labels)
    actual = scores(model, data.val)
    assert np.array_equal(actual.argmax(axis=1), peer.predict(val))
    expected = peer.decision_function(val)
    if classes == 2:
        assert np.array_equal(actual[:, 1] > actual[:, 0], expected > 0)
    else:
        assert np.allclose(actual, expected, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Maximum number of iteration")
@pytest.mark.parametrize(("network", "settings"), [("svm-linear", {}), ("svm-rbf", {"n_landmarks": 40})])
def test_linear_and_nystroem_svms_match_scikit_learn(network: str, settings: dict[str, Any]) -> None:
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    data = noisy_squares()
    n = len(data.train)
    model = search(network, data, **settings).model
    train, val = (standardized_pixels(model, split) for split in (data.train, data.val))
    svm = SGDClassifier(alpha=1 / n, average=True, max_iter=-(-1_000_000 // n), random_state=0)
    steps = [Nystroem(gamma=1 / train.shape[1], n_components=40, random_state=0)] if settings else []
    peer = make_pipeline(*steps, svm).fit(train, data.train.labels)
    assert np.allclose(scores(model, data.val), peer.decision_function(val), atol=2e-3)


@pytest.mark.parametrize("network", CLASSICAL_MODELS)
def test_the_best_combination_by_the_metric_is_kept_and_calibrated(network: str) -> None:
    data = noisy_squares(n=1200)
    grid: dict[str, dict[str, Any]] = {
        "knn": {"n_neighbors": (1, 5, 25)},
        "svm-linear": {"C": (0.01, 1.0)},
        "svm-rbf": {"gamma": (0.3, 3.0)},
    }
    outcome = search(network, data, features=("pixels", "pca"), n_components=6, **grid[network])
    model, best = outcome.model, outcome.results[outcome.best_index]
    assert len(outcome.results) == 2 * len(next(iter(grid[network].values())))
    assert best.val_loss == min(row.val_loss for row in outcome.results)
    assert 0.4 < best.val_accuracy < 1
    with torch.no_grad():
        logits = model(torch.from_numpy(data.val.images).float()[:, None] / 255).double()
    loss = float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.val.labels)))
    assert loss == pytest.approx(best.val_loss, abs=1e-4)
    # Calibrated: no other temperature gives a lower loss on validation.
    for factor in (0.8, 1.25):
        assert float(torch.nn.functional.cross_entropy(factor * logits, torch.from_numpy(data.val.labels))) > loss


@pytest.mark.parametrize("network", CLASSICAL_MODELS)
def test_models_are_saved_and_loaded_unchanged(network: str, tmp_path: Path) -> None:
    data = noisy_squares(channels=3)
    model = search(network, data, features=("pca",), n_components=5).model
    spec = InputSpec(3, 12, 12, 4)
    classifier = Classifier(model, [0.0] * 3, [1.0] * 3).eval()
    save_model(
        tmp_path / "w.safetensors", classifier.state_dict(), ModelConfig(network=network), spec, data.class_names
    )
    again, names = load_model(tmp_path / "w.safetensors")
    assert names == data.class_names
    images = torch.from_numpy(data.test.images).permute(0, 3, 1, 2)
    with torch.no_grad():
        assert torch.equal(again(images), classifier(images))
    assert count_parameters(again.network) == count_parameters(model) > 0
    assert count_multiply_adds(again.network, spec) >= 5 * 3 * 12 * 12


def test_a_class_without_training_images_is_never_predicted() -> None:
    data = noisy_squares()
    mask = data.train.labels != 2
    data = dataclasses.replace(data, train=Split(data.train.images[mask], data.train.labels[mask]))
    for network in CLASSICAL_MODELS:
        model = search(network, data).model
        with torch.no_grad():
            predicted = model(torch.from_numpy(flatten_pixels(data.val.images))[:, None]).argmax(dim=1)
        assert 2 not in predicted
        assert set(predicted.tolist()) == {0, 1, 3}


def test_vector_scaling_recovers_the_scale_and_shift_of_the_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(20_000, 3, generator=generator)
    scale, shift = torch.tensor([0.5, 2.0, 1.0]), torch.tensor([0.3, -0.4, 0.1])
    labels = torch.multinomial(torch.softmax(scale * scores + shift, dim=1), 1, generator=generator)[:, 0]
    fitted_scale, fitted_shift = fit_vector_scaling(scores, labels)
    assert torch.allclose(fitted_scale, scale, atol=0.08)
    assert torch.allclose(fitted_shift - fitted_shift.mean(), shift - shift.mean(), atol=0.08)


def test_grids_and_data_that_do_not_fit_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    data = squares_dataset(n=40, size=12)
    one_class = dataclasses.replace(data, train=Split(data.train.images, np.zeros_like(data.train.labels)))
    black = dataclasses.replace(data, train=Split(np.zeros_like(data.train.images), data.train.labels))
    cases: list[tuple[Dataset, str, dict[str, Any], type[NephrosError], str]] = [
        (data, "knn", {"n_neighbors": (41,)}, InvalidArgument, "knn.n_neighbors"),
        (data, "knn", {"features": ("pca",), "n_components": 41}, InvalidArgument, "classical.n_components"),
        (data, "svm-rbf", {"n_landmarks": 41}, InvalidArgument, "svm.n_landmarks"),
        (one_class, "svm-linear", {}, IncompatibleError, "at least two"),
        (black, "svm-rbf", {}, IncompatibleError, "All pixels"),
    ]
    for dataset, network, grid, error, message in cases:
        recipe = make_recipe(network, **grid)
        with pytest.raises(error, match=message):
            nephros.train(recipe, dataset, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_max_images_limits_the_train_split_and_is_recorded(tmp_path: Path) -> None:
    for max_images, n_train in ((24, 24), (1000, 40)):
        recipe = Recipe(model=ModelConfig(network="svm-linear"), classical=ClassicalConfig(max_images=max_images))
        run = nephros.train(recipe, squares_dataset(n=40, size=12), out=tmp_path / str(max_images))
        assert sum(run.info().class_counts["train"]) == n_train
        assert ("subset of 24" in run.info().data["detail"]) == (max_images == 24)


def test_vector_scaling_does_not_depend_on_the_scale_of_the_scores() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(2000, 4, generator=generator)
    labels = (scores + torch.randn(2000, 4, generator=generator)).argmax(dim=1)

    def loss(factor: float) -> float:
        scale, shift = fit_vector_scaling(factor * scores, labels)
        return float(torch.nn.functional.cross_entropy(scale * factor * scores + shift, labels))

    assert loss(0.001) == pytest.approx(loss(1.0), abs=1e-4) == pytest.approx(loss(1000.0), abs=1e-4)


def test_vector_scaling_takes_a_class_whose_score_is_the_same_for_all_images() -> None:
    generator = torch.Generator().manual_seed(2)
    near, far = math.log(0.6), math.log(0.1)  # of one neighbor, which is never of class 3
    labels = torch.randint(4, (60,), generator=generator)
    neighbors = torch.where(torch.rand(60, generator=generator) < 0.5, labels, 0) % 3
    scores = torch.full((60, 4), far).scatter_(1, neighbors[:, None], near)
    scale, shift = fit_vector_scaling(scores, labels)
    before, after = (
        float(torch.nn.functional.cross_entropy(values, labels)) for values in (scores, scale * scores + shift)
    )
    assert after < min(before, math.log(4))


def test_seeds_beyond_32_bits_work() -> None:
    for network, config in (("svm-linear", SVMConfig()), ("svm-rbf", SVMConfig(n_landmarks=20))):
        recipe = Recipe(model=ModelConfig(network=network), svm=config, seed=2**62)
        assert grid_search(recipe, noisy_squares(), CPU).results


def test_fields_that_a_baseline_or_a_network_does_not_use_are_refused() -> None:
    for name, changes, parameter in (
        ("knn", {"epochs": 3}, "epochs"),
        ("knn", {"optimizer": OptimizerConfig(lr=0.3)}, "optimizer.lr"),
        ("knn", {"svm": SVMConfig(gamma=(2.0,))}, "svm.gamma"),
        ("svm-linear", {"svm": SVMConfig(gamma=(2.0,))}, "svm.gamma"),
        ("svm-rbf", {"knn": KNNConfig(n_neighbors=(2,))}, "knn.n_neighbors"),
        ("course-1", {"classical": ClassicalConfig(max_images=5)}, "classical.max_images"),
    ):
        with pytest.raises(InvalidArgument) as exc_info:
            dataclasses.replace(RECIPES[name], **changes)
        assert exc_info.value.parameter == parameter
    assert set(RECIPES["knn"].to_dict()) == {"name", "source", "model", "classical", "knn", "metric", "seed"}
    assert set(RECIPES["svm-linear"].to_dict()["svm"]) == {"C"}
    for bad in ((), (float("inf"),), (0.5, float("nan"))):
        with pytest.raises(InvalidArgument) as exc_info:
            dataclasses.replace(RECIPES["svm-linear"], svm=SVMConfig(C=bad))
        assert exc_info.value.parameter == "svm.C"
    for recipe in NETWORK_RECIPES.values():
        assert not {"classical", "knn", "svm"} & set(recipe.to_dict())


def test_search_results_are_read_back_from_their_file(tmp_path: Path) -> None:
    results = search("knn", noisy_squares(), n_neighbors=(1, 3)).results
    file = tmp_path / "search_results.csv"
    file.write_text(search_results_to_csv(results))
    assert read_search_results(file) == results
    assert results[1].description == "pixels, euclidean, 3 neighbors"
    file.write_text("features\n1\n")
    with pytest.raises(FileError) as exc_info:
        read_search_results(file)
    assert exc_info.value.path == file
