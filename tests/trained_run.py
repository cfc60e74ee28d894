"""A small trained run and its exported model, made once for all tests of this folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nephros.data.dataset import Split
from nephros.exporters.export import export
from nephros.inference.predictor import Engine
from nephros.presets import RECIPES
from nephros.runs import RunFolder
from nephros.workflows.train import train
from tests.conftest import made_up, write_npz


@pytest.fixture(scope="session")
def cells_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares, one label in seven of which is wrong, so that nothing can be sure of all."""
    easy = made_up(n=480)

    def spoilt(split: Split) -> Split:
        labels = split.labels.copy()
        labels[::7] = (labels[::7] + 1) % 4
        return Split(split.images, labels)

    harder = replace(easy, train=spoilt(easy.train), val=spoilt(easy.val), test=spoilt(easy.test))
    return write_npz(tmp_path_factory.mktemp("data") / "squares.npz", harder)


@pytest.fixture(scope="session")
def run(cells_npz: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A compact network of 8 features, scored on test."""
    base = RECIPES["nephros"]
    recipe = replace(base, epochs=3, batch_size=32, model=replace(base.model, features=8), views=1)
    out = tmp_path_factory.mktemp("runs") / "run"
    return train(recipe, cells_npz, out=out, test=True, say=_say_nothing)


@pytest.fixture(scope="session")
def exported(run: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(run.root, out=tmp_path_factory.mktemp("exported") / "squares.onnx", say=_say_nothing)


@pytest.fixture(scope="session")
def engine(exported: Path) -> Engine:
    return Engine.open(exported)


def _say_nothing(_words: str) -> None:
    """Leave the tests' output clean."""
