"""The command line: output, help, and one plain sentence for every error."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nephros.cli import main
from nephros.commands.registry import COMMANDS, DATA_COMMANDS
from nephros.errors import NephrosError
from nephros.presets import RECIPES
from nephros.recipe_io import get_recipe
from tests.command_line import Capture, assert_usage_error, run_cli
from tests.conftest import squares_dataset, write_npz


def test_help_and_version(capsys: Capture) -> None:
    status, out, _ = run_cli(["--help"], capsys)
    assert status == 0
    for command in (*COMMANDS, *DATA_COMMANDS):
        assert command in out
    assert run_cli([], capsys)[0] == 2
    assert run_cli(["--version"], capsys)[1].startswith("nephros ")


@pytest.mark.parametrize("command", [*COMMANDS, *(f"data {name}" for name in DATA_COMMANDS)])
def test_every_command_has_help(command: str, capsys: Capture) -> None:
    status, out, _ = run_cli([*command.split(), "--help"], capsys)
    assert status == 0
    assert f"usage: nephros {command}" in out
    if command == "train":
        assert "--optimizer.lr" in out
        assert "Peak learning rate" in out


def test_help_imports_no_torch() -> None:
    probe = (
        "import sys, nephros.cli\n"
        "try: nephros.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0


def test_module_and_script_are_the_same_program() -> None:
    module = subprocess.run([sys.executable, "-m", "nephros", "--version"], capture_output=True, text=True, check=True)
    script = Path(sys.executable).with_name("nephros")
    assert subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout == module.stdout


def test_recipes_lists_every_recipe_and_prints_one_as_yaml(capsys: Capture, tmp_path: Path) -> None:
    _, out, _ = run_cli(["recipes"], capsys)
    for recipe in RECIPES.values():
        assert recipe.name in out
        assert recipe.source in out
    assert "250,904" in out
    assert "…" not in out
    _, text, _ = run_cli(["recipes", "poster"], capsys)
    file = tmp_path / "poster.yaml"
    file.write_text(text)
    assert get_recipe(str(file)) == RECIPES["poster"]


@pytest.mark.usefixtures("reports_without_figures")
def test_train_evaluate_report(tiny_npz: Path, tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run"
    flags = ["--data", str(tiny_npz), "--epochs", "2", "--batch_size", "32", "--optimizer.lr", "0.05", "--seed", "3"]
    status, out, err = run_cli(["train", "course-4", *flags, "--out", str(run), "--test"], capsys)
    assert status == 0, err
    assert "report: " in out
    assert "epoch 2/2" in err
    text = (run / "recipe.yaml").read_text()
    assert "lr: 0.05" in text
    assert "seed: 3" in text
    status, out, err = run_cli(["evaluate", str(run), "--split", "test", "--quiet"], capsys)
    assert status == 0
    assert err == ""
    assert "squares: test, 60 images" in out
    assert "kind 3" not in out
    assert "class 3" in out
    status, out, _ = run_cli(["report", str(run)], capsys)
    assert status == 0
    assert Path(out.strip()) == run / "report.html"


def test_data_info(tiny_npz: Path, capsys: Capture) -> None:
    status, out, _ = run_cli(["data", "info", str(tiny_npz)], capsys)
    assert status == 0
    assert "squares" in out
    assert "240" in out


@pytest.mark.parametrize(
    ("args", "facts"),
    [
        (["trian"], ["'trian'", "Did you mean 'train'"]),
        (["data"], ["info NAME|PATH"]),
        (["train", "postr"], ["'postr'", "Did you mean 'poster'"]),
        (["train", "--epoch", "3"], ["--epoch", "Did you mean '--epochs'"]),
        (["train", "--optimiser.lr", "3"], ["'--optimiser.lr'", "--optimizer.lr"]),
        (["train", "--lr", "3"], ["'--lr'", "Did you mean '--optimizer.lr'"]),
        (["train", "--optimizer", "adamw"], ["--optimizer.name"]),
        (["train", "--epochs", "three"], ["--epochs is three", "a whole number"]),
        (["train", "--epochs", "0"], ["--epochs is 0"]),
        (["train", "--epochs", "9" * 6000], ["--epochs is a number of more than 4300 digits"]),
        (["train", "--epochs", "9" * 4000], ["--epochs is 9", "at most 2,147,483,647"]),
        (["train", "--amp", "int8"], ["--amp is int8", "'bf16'"]),
        (["train", "--resplit", "a,b"], ["--resplit is a,b"]),
        (["train", "--test", "--no-test"], ["--test", "--no-test"]),
        (["train", "--resume", "x", "--epochs", "3"], ["--resume"]),
        (["train", "course-1", "--data", "chestmnist"], ["ChestMNIST"]),
        (["evaluate"], ["RUN"]),
        (["evaluate", "nowhere"], ["nowhere"]),
        (["report", "."], ["."]),
        (["data", "info", "tissuemnits"], ["Did you mean 'tissuemnist'"]),
        (["data", "get", "tissuemnits"], ["Did you mean 'tissuemnist'"]),
        (["data", "get", "tissuemnist", "--size", "31"], ["31"]),
    ],
)
def test_unusable_input_is_one_sentence_in_the_words_of_the_command_line(
    args: list[str], facts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_usage_error(args, capsys, *facts)
    assert not list(tmp_path.iterdir())


def test_missing_data_names_the_command_that_downloads_it(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NEPHROS_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert_usage_error(["train"], capsys, "nephros data get tissuemnist", "NEPHROS_DATA")


def test_a_missing_gpu_is_reported(tiny_npz: Path, capsys: Capture) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert_usage_error(
        ["train", "course-1", "--data", str(tiny_npz), "--device", "cuda"], capsys, "--device is cuda", "no GPU"
    )


@pytest.mark.parametrize("defect", ["missing", "truncated", "text", "pickled", "floats", "labels", "lengths", "empty"])
def test_defective_data_is_one_sentence_and_leaves_no_run(defect: str, tmp_path: Path, capsys: Capture) -> None:
    path = write_npz(tmp_path / "cells.npz", squares_dataset(n=80))
    with np.load(path) as archive:
        arrays = dict(archive)
    if defect == "missing":
        path.unlink()
    elif defect == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif defect == "text":
        path.write_text("hello")
    elif defect == "pickled":
        arrays["train_images"] = np.array([{"a": 1}], dtype=object)
    elif defect == "floats":
        arrays["val_images"] = arrays["val_images"] / 255
    elif defect == "labels":
        arrays["test_labels"] = arrays["test_labels"].astype(np.int64) - 1
    elif defect == "lengths":
        arrays["train_labels"] = arrays["train_labels"][:-1]
    else:
        path.write_bytes(b"")
    if defect in ("pickled", "floats", "labels", "lengths"):
        np.savez(path, **arrays)
    out = tmp_path / "run"
    assert_usage_error(["train", "course-1", "--data", str(path), "--out", str(out)], capsys, "cells.npz")
    assert not out.exists()


def test_debug_raises_the_exception(capsys: Capture) -> None:
    with pytest.raises(NephrosError, match="postr"):
        main(["train", "postr", "--debug"])


def test_torchvision_is_not_installed() -> None:
    assert importlib.util.find_spec("torchvision") is None


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["train", "course-1"], "run the same command again"),
        (["reproduce", "course"], "`nephros reproduce course` continues after the last complete epoch"),
        (["evaluate", "runs/a"], "run the same command again"),
        (["predict", "a.png"], "nothing was written"),
    ],
)
def test_an_interrupted_command_names_the_next_step(
    args: list[str], hint: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def interrupt(_: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("nephros.cli._dispatch", interrupt)
    status, _, err = run_cli(args, capsys)
    assert status == 130
    assert f"stopped; {hint}" in err


@pytest.mark.parametrize(
    ("args", "interrupted", "command"),
    [
        (["train", "course-1", "--out", "a run"], "nephros.workflows.train.run_training", "train --resume 'a run'"),
        (
            ["tune", "course-1", "--max-epochs", "1", "--name", "a"],
            "nephros.workflows.tune._make_executor",
            "tune --resume a",
        ),
    ],
)
def test_an_interruption_names_the_run_or_study_to_continue(
    args: list[str],
    interrupted: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(interrupted, interrupt)
    monkeypatch.chdir(tmp_path)
    data = write_npz(tmp_path / "cells.npz", squares_dataset(n=80))
    status, _, err = run_cli([*args, "--data", str(data)], capsys)
    assert status == 130
    assert f"nephros: stopped; `nephros {command}` continues after the last complete epoch." in err
