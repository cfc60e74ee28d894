"""Training from given weights, and with stages frozen."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nephros.cli import main
from nephros.data.dataset import Dataset
from nephros.data.load import load_dataset
from nephros.errors import FileError, IncompatibleError, InvalidArgument
from nephros.exporters.export import export
from nephros.exporters.pretrained import open_pretrained
from nephros.models.classifier import DataOrigin
from nephros.models.serialization import load_model
from nephros.models.stages import network_stages
from nephros.presets import RECIPES
from nephros.recipe import ModelConfig, Recipe
from nephros.runs import RunFolder
from nephros.training.trainer import Trainer
from nephros.training.warm_start import overlap_warnings
from nephros.workflows.resume import resume
from nephros.workflows.train import train
from tests.conftest import squares_dataset, write_npz

pytestmark = pytest.mark.usefixtures("reports_without_figures")

_BASE = RECIPES["nephros"]
RECIPE = dataclasses.replace(
    _BASE, epochs=2, batch_size=32, model=dataclasses.replace(_BASE.model, base_channels=8), tta_views=1
)
"""Of the network of `run_folder`."""


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("three") / "three.npz", squares_dataset(n=96, classes=3))


def _state(folder: RunFolder) -> dict[str, torch.Tensor]:
    return load_model(folder.file("weights.safetensors"))[0].state_dict()


def test_a_run_starts_from_another_runs_weights(run_folder: RunFolder, cells_npz: Path, tmp_path: Path) -> None:
    still = dataclasses.replace(
        RECIPE, epochs=1, optimizer=dataclasses.replace(RECIPE.optimizer, lr=1e-12, aux_lr=1e-12)
    )
    folder = train(still, cells_npz, out=tmp_path / "run", init=run_folder.root)
    before, after = _state(run_folder), _state(folder)
    for name, tensor in before.items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(after[name], tensor, rtol=1e-5, atol=1e-6)
    init = json.loads(folder.file("run.json").read_text())["init"]
    assert init["head"] == "kept"
    assert (init["source"], init["recipe"]) == (str(run_folder.root), "nephros")
    assert init["sha256"][:16] in folder.file("report.html").read_text()


def test_weights_of_another_split_of_the_same_data_set_are_warned_of(
    run_folder: RunFolder, cells_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = open_pretrained(run_folder.root)
    assert weights.data is not None
    dataset = load_dataset(cells_npz)
    ours = dataclasses.replace(dataset.provenance, key="tissuemnist", sha256="f" * 64)
    for key, sha256, split, n_warnings in (
        ("tissuemnist", "0" * 64, "official", 1),
        ("tissuemnist", "f" * 64, "own", 0),
        ("bloodmnist", "0" * 64, "official", 0),
        (None, "0" * 64, "own", 0),
    ):
        theirs = dataclasses.replace(weights, data=DataOrigin(key, split, sha256))
        warnings = overlap_warnings(theirs, dataclasses.replace(dataset, provenance=ours))
        assert len(warnings) == n_warnings
    assert overlap_warnings(weights, dataset) == ()
    monkeypatch.setattr("nephros.workflows.train.overlap_warnings", lambda *_: ("They may have seen these images.",))
    folder = train(dataclasses.replace(RECIPE, epochs=1), cells_npz, out=tmp_path / "run", init=run_folder.root)
    assert "They may have seen these images." in folder.info().warnings
    assert "They may have seen these images." in folder.file("report.html").read_text()


def test_the_bundled_weights_know_their_data() -> None:
    data = open_pretrained("nephros-fast").data
    assert data is not None
    assert (data.key, data.split) == ("tissuemnist", "own")


def test_a_head_of_other_classes_begins_anew_and_frozen_stages_stay(
    run_folder: RunFolder, three_classes: Path, tmp_path: Path
) -> None:
    folder = train(RECIPE, three_classes, out=tmp_path / "run", init=run_folder.root, freeze=("stem", "stage1"))
    info = folder.info()
    assert info.init is not None
    assert (info.init["head"], info.freeze) == ("new", ["stem", "stage1"])
    model, _ = load_model(folder.file("weights.safetensors"))
    source, _ = load_model(run_folder.file("weights.safetensors"))
    assert torch.equal(model.mean, source.mean)
    for stage, layers in network_stages(model.network).items():
        for layer in layers:
            pairs = zip(
                model.network.get_submodule(layer).state_dict().values(),
                source.network.get_submodule(layer).state_dict().values(),
                strict=True,
            )
            if any(True for _ in model.network.get_submodule(layer).parameters()):
                same = all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)
                assert same == (stage in ("stem", "stage1")), (stage, layer)


def test_reordered_classes_keep_their_rows_of_the_head(run_folder: RunFolder, tmp_path: Path) -> None:
    data = squares_dataset(n=96)
    names = tuple(reversed(run_folder.info().class_names))
    still = dataclasses.replace(
        RECIPE, epochs=1, optimizer=dataclasses.replace(RECIPE.optimizer, lr=1e-12, aux_lr=1e-12)
    )
    folder = train(still, dataclasses.replace(data, class_names=names), out=tmp_path / "run", init=run_folder.root)
    head = next(name for name in _state(folder) if name.endswith("head.1.weight"))
    torch.testing.assert_close(_state(folder)[head], _state(run_folder)[head].flip(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["run", pytest.param("safetensors", marks=pytest.mark.slow)])
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(
    kind: str, run_folder: RunFolder, three_classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init = run_folder.root
    if kind == "safetensors":
        init = export(run_folder.root, "safetensors", out=tmp_path / "squares.safetensors")
    whole = train(RECIPE, three_classes, out=tmp_path / "whole", init=init, freeze="stem")
    validate = Trainer._validate
    for last_epoch in (1, 2):  # interrupted before the first checkpoint, and after it

        def interrupt(self: Trainer, epoch: int, *rest: float, last_epoch: int = last_epoch) -> object:
            if epoch == last_epoch:
                raise KeyboardInterrupt
            return validate(self, epoch, *rest)

        out = tmp_path / f"stopped-{last_epoch}"
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_validate", interrupt)
            with pytest.raises(KeyboardInterrupt):
                train(RECIPE, three_classes, out=out, init=init, freeze="stem")
        resumed = resume(out)
        assert resumed.file("weights.safetensors").read_bytes() == whole.file("weights.safetensors").read_bytes()


def test_weights_that_changed_before_the_first_checkpoint_are_refused(
    run_folder: RunFolder, three_classes: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "copy.safetensors"
    copied.write_bytes(run_folder.file("weights.safetensors").read_bytes())
    folder = train(RECIPE, three_classes, out=tmp_path / "run", init=copied)
    folder.write_info(dataclasses.replace(folder.info(), status="training"))
    copied.write_bytes(folder.file("weights.safetensors").read_bytes())
    assert resume(folder.root).info().status == "complete"  # the checkpoint has all it needs
    folder.write_info(dataclasses.replace(folder.info(), status="training"))
    folder.file("checkpoint.pt").unlink()
    with pytest.raises(FileError, match=r"copy\.safetensors"):
        resume(folder.root)


@pytest.mark.parametrize(
    ("model", "dataset", "names"),
    [
        (ModelConfig(network="compact", base_channels=8), squares_dataset(n=48), ("equivariant", "compact")),
        (ModelConfig(network="course", base_channels=8, hidden=(16,)), squares_dataset(n=48), ("equivariant", "course")),
        (dataclasses.replace(RECIPE.model, base_channels=16), squares_dataset(n=48), ("features.0.weight", "1x1x6x6", "2x1x6x6")),
        (RECIPE.model, squares_dataset(n=48, channels=3), ("features.0.weight", "1x1x6x6", "1x3x6x6", "3 channels", "`channel`")),
        (RECIPE.model, squares_dataset(n=48, size=64), ("64x64 pixels", "28x28 pixels", "`size`=28")),
        (dataclasses.replace(RECIPE.model, depth=2), squares_dataset(n=48), ("features.4", "`model.depth` 1")),
    ],
)  # fmt: skip
def test_weights_of_another_network_are_refused_by_layer_and_shape(
    model: ModelConfig, dataset: Dataset, names: tuple[str, ...], run_folder: RunFolder, tmp_path: Path
) -> None:
    with pytest.raises(IncompatibleError) as exc_info:
        train(dataclasses.replace(RECIPE, model=model), dataset, out=tmp_path / "run", init=run_folder.root)
    assert all(name in str(exc_info.value) for name in names), str(exc_info.value)
    assert not (tmp_path / "run").exists()


def test_init_and_freeze_are_refused_where_they_mean_nothing(run_folder: RunFolder, tmp_path: Path) -> None:
    data = squares_dataset(n=48)
    cases: list[tuple[Recipe, dict[str, object], str]] = [
        (RECIPES["knn"], {"init": "bundled"}, "init"),
        (RECIPE, {"freeze": ["stem"]}, "freeze"),
        (RECIPE, {"init": run_folder.root, "freeze": "stem,stage7"}, "freeze"),
        (RECIPE, {"init": run_folder.root, "freeze": ["stem", "stem"]}, "freeze"),
    ]
    for recipe, arguments, parameter in cases:
        with pytest.raises(InvalidArgument) as exc_info:
            train(recipe, data, out=tmp_path / "run", **arguments)  # type: ignore[arg-type]
        assert exc_info.value.parameter == parameter
    assert not (tmp_path / "run").exists()


def test_the_command_starts_from_weights(
    run_folder: RunFolder, three_classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    options = [
        "--model.base_channels",
        "8",
        "--batch_size",
        "32",
        "--epochs",
        "1",
        "--passes_per_epoch",
        "1",
        "--tta_views",
        "1",
    ]
    argv = ["train", *options, "--data", str(three_classes), "--out", str(out), "--device", "cpu"]

    def run(*more: str) -> object:
        with pytest.raises(SystemExit) as exc_info:
            main([*argv, *more])
        return exc_info.value.code

    assert run("--init", str(run_folder.root), "--freeze", "stem, stage1") == 0
    assert "starting from" in capsys.readouterr().err
    info = RunFolder.open(out).info()
    assert info.freeze == ["stem", "stage1"]
    assert np.isfinite(info.normalization["mean"]).all()
    assert run("--freeze", "stem") == 2
    assert "--freeze" in capsys.readouterr().err
