"""The CSV file of MedMNIST's Evaluator: byte by byte what the package writes, with its figures in the name."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nephros
from nephros.cli import main
from nephros.data.medmnist import MEDMNIST
from nephros.errors import IncompatibleError, InvalidArgument
from nephros.workflows.run import Run
from tests.conftest import squares_dataset, write_npz

pytestmark = pytest.mark.usefixtures("reports_without_figures")

QUICK: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 16,
    "passes_per_epoch": 1,
    "tta_views": 1,
    "model__base_channels": 8,
}


def _train(folder: Path, key: str, n_classes: int) -> Run:
    data = write_npz(folder / f"{key}.npz", squares_dataset(n=96, classes=n_classes))
    return nephros.train("nephros-fast", data, out=folder / "run.1@home", **QUICK)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _train(tmp_path_factory.mktemp("eight"), "tissuemnist", 8)


@pytest.fixture
def evaluator(monkeypatch: pytest.MonkeyPatch) -> Any:
    """MedMNIST's Evaluator, without the package's other modules, which import torchvision."""
    spec = importlib.util.find_spec("medmnist")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("medmnist is not installed (pip install --no-deps medmnist, and pandas)")
    pytest.importorskip("pandas")
    package = types.ModuleType("medmnist")
    package.__path__ = list(spec.submodule_search_locations)
    monkeypatch.setitem(sys.modules, "medmnist", package)
    module = importlib.import_module("medmnist.evaluator")
    monkeypatch.delitem(sys.modules, "medmnist.evaluator")
    assert "torchvision" not in sys.modules
    return module.Evaluator


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_file_is_the_evaluators(split: str, run: Run, evaluator: Any, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    evaluation = run.evaluate(split, medmnist=ours)
    theirs.mkdir()
    metrics = evaluator("tissuemnist", split, root=str(run.root.parent)).evaluate(
        evaluation.probabilities, str(theirs), "run-1-home"
    )
    assert pytest.approx(evaluation.accuracy, abs=1e-12) == metrics.ACC
    assert evaluation.metrics.auc == pytest.approx(metrics.AUC, abs=1e-12)
    (file,), (expected,) = ours.iterdir(), theirs.iterdir()
    assert file.name == expected.name
    assert f"_{split}_[AUC]{metrics.AUC:.3f}_[ACC]{metrics.ACC:.3f}@" in file.name
    written, expected_rows = (np.loadtxt(path, delimiter=",") for path in (file, expected))
    np.testing.assert_array_equal(written, expected_rows)


def test_two_classes_are_scored_as_the_evaluator_does(evaluator: Any, tmp_path: Path) -> None:
    run = _train(tmp_path, "breastmnist", 2)
    evaluation = run.evaluate("val", medmnist=tmp_path / "csv")
    metrics = evaluator("breastmnist", "val", root=str(tmp_path)).evaluate(evaluation.probabilities)
    (file,) = (tmp_path / "csv").iterdir()
    assert f"[AUC]{metrics.AUC:.3f}_[ACC]{metrics.ACC:.3f}@run-1-home.csv" in file.name


def test_the_command_writes_it_too(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["evaluate", str(run.root), "--medmnist", str(tmp_path / "csv")])
    assert caught.value.code == 0
    (file,) = (tmp_path / "csv").iterdir()
    assert file.name.startswith("tissuemnist_val_[AUC]")
    assert str(file) in capsys.readouterr().err
    assert len(file.read_text().splitlines()) == 24


def test_other_data_and_redrawn_splits_are_refused(run: Run, tmp_path: Path) -> None:
    other = dataclasses.replace(squares_dataset(n=96, classes=8), class_names=tuple(run.info().class_names))
    with pytest.raises(IncompatibleError, match="medmnist"):
        run.evaluate("val", other, medmnist=tmp_path / "csv")
    data = run.root.parent / "tissuemnist.npz"
    redrawn = nephros.train("nephros-fast", data, resplit=[80, 24], out=tmp_path / "run", **QUICK)
    with pytest.raises(IncompatibleError, match="drawn anew"):
        redrawn.evaluate("val", medmnist=tmp_path / "csv")
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument) as caught:
        run.evaluate("val", medmnist=tmp_path / "file")
    assert caught.value.parameter == "medmnist"
    assert not (tmp_path / "csv").exists()


def test_all_data_sets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["data", "list"])
    out = capsys.readouterr().out
    assert all(info.key in out and info.license in out for info in MEDMNIST.values())
    assert "not supported" in next(line for line in out.splitlines() if "chestmnist" in line)
    names = nephros.list_datasets()
    assert "tissuemnist" in names
    assert "chestmnist" not in names
