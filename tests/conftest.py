"""Synthetic data for all tests, an environment without the user's own settings, and how tests share a machine."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# One thread per process, set before torch is imported: tests run in parallel, and more threads would only contend.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["NEPHROS_PRECISION"] = "float32"  # no test may depend on the processor, or on how busy it is

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from markupsafe import Markup
from numpy.typing import NDArray
from xdist.scheduler import LoadFileScheduling

from nephros.data.dataset import Dataset
from nephros.data.provenance import Provenance
from nephros.data.split import Split

pytest_plugins = ("tests.trained_run",)

TESTS = Path(__file__).parent

# Examples that break a test are kept beside Hypothesis's other files, which git ignores, and tried first from then on; its own
# profile for CI would keep none. Mended, an example becomes an @example of its test. No deadlines: the time that an example
# takes depends on the machine.
_example_database = DirectoryBasedExampleDatabase(TESTS.parent / ".hypothesis" / "examples")
settings.register_profile(
    "nephros",
    database=_example_database,
    derandomize=False,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("nephros")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as slow all but every n-th case of a test that is marked `sampled(n)`."""
    n_cases: Counter[str] = Counter()
    for item in items:
        marker = item.get_closest_marker("sampled")
        if marker is not None:
            test = item.nodeid.partition("[")[0]
            if n_cases[test] % marker.args[0]:
                item.add_marker(pytest.mark.slow)
            n_cases[test] += 1
    if hasattr(config, "workerinput"):  # a worker of a parallel run
        sizes = Counter(_file(item) for item in items)
        items.sort(key=lambda item: (_file(item) not in LONGEST, -sizes[_file(item)]))  # stable: files stay whole


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


NEED_THE_MACHINE = (
    "tests/benchmarks/test_benchmarks.py",
    "tests/tuning/test_postgres.py",
    "tests/tuning/test_ray_executor.py",
    "tests/workflows/test_torchrun.py",
)
"""Files whose tests start many processes, so that no two of them run at a time."""
LONGEST = (*NEED_THE_MACHINE, "tests/test_documents.py", "tests/test_notebooks.py")
"""Files that take minutes: they run first, so that no worker is left alone with one at the end."""


class FileScheduling(LoadFileScheduling):  # type: ignore[misc]
    """Keeps the tests of a file on one worker, which then makes their fixtures once; all of `NEED_THE_MACHINE` on one.

    The groups of pytest-xdist 3.8 would do the same, but pytest 9.2 ignores them without a word.
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return NEED_THE_MACHINE[0] if file in NEED_THE_MACHINE else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling:
    """Return the scheduler of a parallel run, for pytest-xdist."""
    assert all((TESTS.parent / file).is_file() for file in LONGEST)
    config.option.loadscopereorder = False  # it would start with the files of the most tests
    return FileScheduling(config, log)


@pytest.fixture(autouse=True)
def _isolated_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("NEPHROS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("COLUMNS", "200")


@contextlib.contextmanager
def without_figures() -> Iterator[None]:
    """Leave the figures out of the reports of runs and studies within the block: they take most of the time of small ones."""
    from nephros.reporting.run.run_figures import RunFigures

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nephros.reporting.run.page.draw_run_figures", lambda *_args: RunFigures(Markup()))
        patch.setattr("nephros.reporting.study.page.save_figure", lambda *_args: Markup())
        yield


@pytest.fixture(scope="module")
def reports_without_figures() -> Iterator[None]:
    """Leave the figures out of the reports of a module's tests and fixtures, except in tests marked `figures`."""
    with without_figures():
        yield


@pytest.fixture(autouse=True)
def _figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("figures") is not None:
        from nephros.reporting.run.run_figures import draw_run_figures

        monkeypatch.setattr("nephros.reporting.run.page.draw_run_figures", draw_run_figures)


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that holds the real TissueMNIST; the test and its commands then open it by name."""
    for folder in (os.environ.get("NEPHROS_DATA"), TESTS.parents[1] / "shared" / "data"):
        if folder and (Path(folder) / "tissuemnist.npz").is_file():
            monkeypatch.setenv("NEPHROS_DATA", str(folder))
            return Path(folder)
    pytest.skip("needs tissuemnist.npz in NEPHROS_DATA or in ../shared/data")


def square_images(
    n: int, classes: int, seed: int, channels: int = 1, size: int = 28
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return n noisy images, (n, size, size) or with channels, of a square whose brightness gives the class, and labels (n,).

    They are easy to learn, but not within the first few steps.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    rng.shuffle(labels)
    shape = (n, size, size) if channels == 1 else (n, size, size, channels)
    images = rng.integers(0, 60, shape).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[8:20, 8:20] += np.uint8(20 + 170 * label // classes)
    return images, labels.astype(np.int64)


def squares_dataset(n: int = 240, classes: int = 4, channels: int = 1, size: int = 28) -> Dataset:
    """Return a small Dataset of `square_images`: n for training, and n / 4 each for validation and test."""
    train, val, test = (
        Split(*square_images(m, classes, seed, channels, size)) for seed, m in enumerate((n, n // 4, n // 4))
    )
    names = tuple(f"kind {c}" for c in range(classes))
    return Dataset(train, val, test, names, Provenance("Squares", "own", "", "0" * 64))


def write_npz(path: Path, dataset: Dataset) -> Path:
    """Write `dataset` to `path` in the MedMNIST layout and return `path`."""
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
