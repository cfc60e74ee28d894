"""Made-up data that every test may use, and a machine without a user's own settings."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from numpy.typing import NDArray

from nephros.data.dataset import Dataset, Provenance, Split

pytest_plugins = ("tests.trained_run",)

# What once broke a test is committed, so that it is tried first everywhere from then on; Hypothesis's own profile for CI
# would keep nothing. No deadlines: how long an example takes tells of the machine.
_example_database = DirectoryBasedExampleDatabase(Path(__file__).parent / "corpus" / "hypothesis")
settings.register_profile(
    "nephros",
    database=_example_database,
    derandomize=False,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("nephros")


@pytest.fixture(autouse=True)
def _isolated_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("NEPHROS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that holds the real TissueMNIST, which the test and its commands then open by name."""
    for folder in (os.environ.get("NEPHROS_DATA"), Path(__file__).parents[2] / "shared" / "data"):
        if folder and (Path(folder) / "tissuemnist.npz").is_file():
            monkeypatch.setenv("NEPHROS_DATA", str(folder))
            return Path(folder)
    pytest.skip("needs tissuemnist.npz in NEPHROS_DATA or in ../shared/data")


def square_images(
    n: int, classes: int, seed: int, channels: int = 1, size: int = 28
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return n noisy images with a square whose brightness tells the class, and their labels: easy, but not at once."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    rng.shuffle(labels)
    shape = (n, size, size) if channels == 1 else (n, size, size, channels)
    images = rng.integers(0, 60, shape).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[8:20, 8:20] += np.uint8(20 + 170 * label // classes)
    return images, labels.astype(np.int64)


def squares_dataset(n: int = 240, classes: int = 4, channels: int = 1, size: int = 28) -> Dataset:
    """Return a tiny Dataset of `squares`: n training images and a quarter of that in val and in test."""
    train, val, test = (
        Split(*square_images(m, classes, seed, channels, size)) for seed, m in enumerate((n, n // 4, n // 4))
    )
    names = tuple(f"kind {c}" for c in range(classes))
    return Dataset(train, val, test, names, Provenance("Squares", "own", "", "0" * 64))


def write_npz(path: Path, dataset: Dataset) -> Path:
    """Write a Dataset in the MedMNIST layout."""
    arrays = {}
    for name, split in dataset.splits():
        arrays[f"{name}_images"] = split.images
        arrays[f"{name}_labels"] = split.labels.astype(np.uint8)[:, None]
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


@pytest.fixture
def tiny_dataset() -> Dataset:
    return squares_dataset()


@pytest.fixture
def tiny_npz(tmp_path: Path) -> Path:
    return write_npz(tmp_path / "squares.npz", squares_dataset())
