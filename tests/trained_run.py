"""Session fixtures: a small trained run, its exported model, and a predictor of it.

They are made once per session, by the first worker that needs them. Tests that change a file work on a copy. The imports stand
in the functions, because this module is imported at the start of every session, also by the process that only distributes tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nephros.files import file_lock

if TYPE_CHECKING:
    from nephros.data.split import Split
    from nephros.inference.predictor import Predictor
    from nephros.runs import RunFolder


@pytest.fixture(scope="session")
def shared_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of the session have in common."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


def make_once(path: Path, make: Callable[[Path], object]) -> Path:
    """Return `path` after `make` has written it, in whichever worker comes first."""
    with file_lock(path.with_name(f"{path.name}.lock")):
        done = path.with_name(f"{path.name}.done")
        if not done.exists():
            make(path)
            done.touch()
    return path


@pytest.fixture(scope="session")
def cells_npz(shared_dir: Path) -> Path:
    """Squares with every seventh label wrong, so that no model can be certain of all of them."""
    from nephros.data.split import Split
    from tests.conftest import squares_dataset, write_npz

    clean = squares_dataset(n=480)

    def with_label_noise(split: Split) -> Split:
        labels = split.labels.copy()
        labels[::7] = (labels[::7] + 1) % 4
        return Split(split.images, labels)

    noisy = replace(
        clean, train=with_label_noise(clean.train), val=with_label_noise(clean.val), test=with_label_noise(clean.test)
    )
    return make_once(shared_dir / "squares.npz", lambda path: write_npz(path, noisy))


@pytest.fixture(scope="session")
def run_folder(cells_npz: Path, shared_dir: Path) -> RunFolder:
    """A compact network of 8 base channels, trained for three epochs and scored on test."""
    from nephros.presets import RECIPES
    from nephros.runs import RunFolder
    from nephros.workflows.train import train
    from tests.conftest import without_figures

    base = RECIPES["nephros"]
    recipe = replace(base, epochs=3, batch_size=32, model=replace(base.model, base_channels=8), tta_views=1)

    def train_run(out: Path) -> None:
        with without_figures():
            train(recipe, cells_npz, out=out, test=True)

    return RunFolder.open(make_once(shared_dir / "run", train_run))


@pytest.fixture(scope="session")
def exported_model(run_folder: RunFolder, shared_dir: Path) -> Path:
    """The run's ONNX file, outside its folder."""
    from nephros.exporters.export import export

    (shared_dir / "exported").mkdir(exist_ok=True)
    return make_once(shared_dir / "exported" / "squares.onnx", lambda path: export(run_folder.root, out=path))


@pytest.fixture(scope="session")
def safetensors_model(run_folder: RunFolder, shared_dir: Path) -> Path:
    """The run's safetensors file, outside its folder."""
    from nephros.exporters.export import export

    (shared_dir / "safetensors").mkdir(exist_ok=True)  # with cards of its own
    path = shared_dir / "safetensors" / "squares.safetensors"
    return make_once(path, lambda path: export(run_folder.root, "safetensors", out=path))


@pytest.fixture(scope="session")
def predictor(exported_model: Path) -> Predictor:
    from nephros.inference.predictor import Predictor

    return Predictor.from_onnx(exported_model)
