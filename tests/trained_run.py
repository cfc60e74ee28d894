"""Session fixtures: a small trained run, its exported model, and a predictor of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nephros.data.dataset import Split
from nephros.exporters.export import export
from nephros.inference.predictor import Predictor
from nephros.presets import RECIPES
from nephros.runs import RunFolder
from nephros.workflows.train import train
from tests.conftest import squares_dataset, write_npz


@pytest.fixture(scope="session")
def cells_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares with every seventh label wrong, so that no model can be certain of all of them."""
    clean = squares_dataset(n=480)

    def with_label_noise(split: Split) -> Split:
        labels = split.labels.copy()
        labels[::7] = (labels[::7] + 1) % 4
        return Split(split.images, labels)

    noisy = replace(
        clean, train=with_label_noise(clean.train), val=with_label_noise(clean.val), test=with_label_noise(clean.test)
    )
    return write_npz(tmp_path_factory.mktemp("data") / "squares.npz", noisy)


@pytest.fixture(scope="session")
def run_folder(cells_npz: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A compact network of 8 base channels, trained for three epochs and scored on test."""
    base = RECIPES["nephros"]
    recipe = replace(base, epochs=3, batch_size=32, model=replace(base.model, base_channels=8), tta_views=1)
    out = tmp_path_factory.mktemp("runs") / "run"
    return train(recipe, cells_npz, out=out, test=True)


@pytest.fixture(scope="session")
def exported_model(run_folder: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's ONNX file, outside its folder."""
    return export(run_folder.root, out=tmp_path_factory.mktemp("exported") / "squares.onnx")


@pytest.fixture(scope="session")
def predictor(exported_model: Path) -> Predictor:
    return Predictor.from_onnx(exported_model)
