"""Groups, such as patients: what commands say of them, what runs and studies store, and runs from before there were groups."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nephros
from nephros import cli
from nephros.errors import InvalidArgument
from nephros.recipe import to_yaml
from nephros.runs import RunFolder
from nephros.workflows.study import best_recipe
from tests.conftest import squares_dataset
from tests.tuning.conftest import RECIPE

pytestmark = pytest.mark.usefixtures("reports_without_figures")
N_PATIENTS = 8
TUNE = ["tune", "small.yaml", "--data", "cells", "--max-epochs", "1", "--brackets", "s=0", "--workers", "1"]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with a recipe and with a folder CLASS/PATIENT/IMAGE."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(to_yaml(RECIPE))
    train = squares_dataset(n=160, classes=2).train
    for index, (image, label) in enumerate(zip(train.images, train.labels, strict=True)):
        folder = tmp_path / "cells" / f"kind {label}" / f"P{index % N_PATIENTS}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    return tmp_path


def run_cli(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exc_info:
        cli.main(argv)
    captured = capsys.readouterr()
    assert exc_info.value.code == 0, captured.err
    return captured.out + captured.err


@pytest.mark.slow
def test_every_command_says_how_groups_were_split(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = [
        ["data", "info", "cells"],
        ["train", "small.yaml", "--data", "cells", "--epochs", "1", "--out", "run"],
        ["evaluate", "run"],
        [*TUNE, "--name", "one"],
    ]
    for command in commands:
        text = run_cli(command, capsys)
        assert "8 groups (the subfolders of class folders)" in text
        assert "--groups" in text
    info = RunFolder.open("run").info()
    assert info.data_request["groups"] == "auto"
    assert info.data["n_groups"] == N_PATIENTS
    assert best_recipe("one")[1]["groups"] == "auto"
    text = run_cli(["data", "info", "cells", "--groups", "none"], capsys)
    assert "split 7:1:2 by class with seed 0" in text


@pytest.mark.slow
def test_the_choice_holds_for_everything_that_follows(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_cli(["train", "small.yaml", "--data", "cells", "--groups", "none", "--epochs", "1", "--out", "run"], capsys)
    ungrouped = nephros.load_dataset("cells", groups="none")
    evaluation = nephros.evaluate("run")
    assert np.array_equal(evaluation.labels, ungrouped.val.labels)
    assert not list(Path("run").glob("val-on-*"))
    with pytest.raises(InvalidArgument) as caught:
        nephros.evaluate("run", groups="none")
    assert caught.value.parameter == "groups"
    run_cli([*TUNE, "--name", "one", "--groups", "none"], capsys)
    run_cli(["train", "--from-study", "one", "--epochs", "1", "--out", "tuned"], capsys)
    assert RunFolder.open("tuned").info().data_request["groups"] == "none"
    assert RunFolder.open("tuned").info().data["n_groups"] is None


def test_a_run_from_before_there_were_groups_is_read_as_it_was(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_cli(["train", "small.yaml", "--data", "cells", "--groups", "none", "--epochs", "1", "--out", "run"], capsys)
    path = Path("run/run.json")
    values = json.loads(path.read_text())
    del values["data_request"]["groups"], values["data"]["n_groups"]
    path.write_text(json.dumps(values))
    before = json.loads(Path("run/val/metrics.json").read_text())["images_sha256"]
    assert nephros.evaluate("run").metrics.images_sha256 == before


def test_a_redraw_keeps_groups_together(workspace: Path) -> None:
    dataset = nephros.load_dataset("cells", resplit=(100, 20))
    assert (len(dataset.train), len(dataset.val)) == (100, 20)
    assert dataset.train.groups is not None
    assert dataset.val.groups is not None
    assert not set(dataset.train.groups) & set(dataset.val.groups)
    assert "by group" in dataset.provenance.detail
    assert not any("more than one split" in warning for warning in dataset.warnings)
    assert len(nephros.load_dataset("cells", resplit=(100, 20), groups="none").val) == 20


def test_groups_that_are_too_few_for_a_redraw_are_refused(tmp_path: Path) -> None:
    data = squares_dataset(n=96, classes=2)
    arrays = {
        f"{name}_{kind}": values
        for name, split in data.splits()
        for kind, values in (("images", split.images), ("labels", split.labels), ("patient", np.full(len(split), name)))
    }
    arrays["val_patient"] = np.full(len(data.val), "train")
    np.savez(tmp_path / "one.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument) as caught:
        nephros.load_dataset(tmp_path / "one.npz", resplit=(60, 20))
    assert caught.value.parameter == "resplit"
    (warning,) = nephros.load_dataset(tmp_path / "one.npz").warnings
    assert "train and val" in warning


def test_groups_are_an_array_or_a_column_by_its_name(workspace: Path) -> None:
    data = squares_dataset(n=160, classes=2).train
    day = np.array(["mon", "tue", "wed", "thu", "fri", "sat"])[np.arange(160) % 6]
    np.savez("cells.npz", images=data.images, labels=data.labels, patient=np.arange(160) // 20, day_of_stain=day)
    assert nephros.load_dataset("cells.npz").provenance.n_groups == N_PATIENTS
    dataset = nephros.load_dataset("cells.npz", groups="day of stain")
    assert dataset.provenance.n_groups == 6
    assert dataset.test.groups is not None
    assert set(dataset.test.groups) <= set(day)
    files = sorted(Path("cells").rglob("*.png"))
    rows = [f"{path.as_posix()},{path.parts[1]},{path.parts[2]},{index % 5}" for index, path in enumerate(files)]
    Path("table.csv").write_text("file,label,patient,Day\n" + "\n".join(rows))
    assert nephros.load_dataset("table.csv").provenance.n_groups == N_PATIENTS
    assert nephros.load_dataset("table.csv", groups="day").provenance.n_groups == 5
    for source, groups in (
        ("cells.npz", "weekday"),
        ("cells.npz", "folders"),
        ("table.csv", "weekday"),
        ("cells", "Day"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            nephros.load_dataset(source, groups=groups)
        assert caught.value.parameter == "groups"
