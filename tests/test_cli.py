"""The command line: what it says when all is well, and one plain sentence when something is not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nephros.cli import main
from nephros.errors import NephrosError
from nephros.presets import RECIPES
from nephros.recipe_io import get_recipe
from tests.conftest import squares_dataset, write_npz

Capture = pytest.CaptureFixture[str]


def run_cli(argv: list[str], capsys: Capture) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exc_info:
        main(argv)
    out, err = capsys.readouterr()
    return int(exc_info.value.code or 0), out, err


def assert_usage_error(argv: list[str], capsys: Capture, *expected: str) -> None:
    """Assert one plain line on stderr that has all of `expected`, and exit status 2."""
    status, _, err = run_cli(argv, capsys)
    assert status == 2, err
    assert err.startswith("nephros: ")
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1, err
    for part in expected:
        assert part in err, err


def test_help_and_version(capsys: Capture) -> None:
    status, out, _ = run_cli(["--help"], capsys)
    assert status == 0
    for command in ("train", "evaluate", "predict", "serve", "export", "report", "recipes", "data info", "data get"):
        assert command in out
    assert run_cli([], capsys)[0] == 2
    assert run_cli(["--version"], capsys)[1].startswith("nephros ")


@pytest.mark.parametrize(
    "command", ["train", "evaluate", "predict", "serve", "export", "report", "recipes", "data info", "data get"]
)
def test_every_command_explains_itself(command: str, capsys: Capture) -> None:
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


def test_the_module_and_the_script_are_one_program() -> None:
    module = subprocess.run([sys.executable, "-m", "nephros", "--version"], capture_output=True, text=True, check=True)
    script = Path(sys.executable).with_name("nephros")
    assert subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout == module.stdout


def test_recipes_are_listed_whole_and_printed_as_yaml(capsys: Capture, tmp_path: Path) -> None:
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
    status, out, _ = run_cli(["evaluate", str(run), "--split", "test"], capsys)
    assert status == 0
    assert "squares, own split: test, 60 images" in out
    assert "kind 3" not in out
    assert "class 3" in out
    status, out, _ = run_cli(["report", str(run)], capsys)
    assert status == 0
    assert Path(out.strip()) == run / "report.html"


def test_data_info(tiny_npz: Path, capsys: Capture) -> None:
    status, out, _ = run_cli(["data", "info", str(tiny_npz)], capsys)
    assert status == 0
    assert "squares, own split" in out
    assert "240" in out


def test_words_that_are_not_understood(tiny_npz: Path, capsys: Capture) -> None:
    assert_usage_error(["trian"], capsys, "no command 'trian'", "Did you mean 'train'")
    assert_usage_error(["data"], capsys, "info NAME|PATH")
    assert_usage_error(["train", "postr"], capsys, "no recipe 'postr'", "Did you mean 'poster'")
    assert_usage_error(["train", "--epoch", "3"], capsys, "--epoch", "Did you mean '--epochs'")
    assert_usage_error(["train", "--optimiser.lr", "3"], capsys, "'--optimiser.lr'", "--optimizer.lr")
    assert_usage_error(["train", "--epochs", "three"], capsys, "--epochs is three", "a whole number")
    assert_usage_error(["train", "--epochs", "0"], capsys, "--epochs is 0")
    assert_usage_error(["train", "--amp", "int8"], capsys, "--amp is int8", "'bf16'")
    assert_usage_error(["train", "--test", "--no-test"], capsys, "--test and --no-test")
    assert_usage_error(["train", "--resume", "x", "--epochs", "3"], capsys, "--resume")
    assert_usage_error(["evaluate"], capsys, "RUN")
    assert_usage_error(["evaluate", "nowhere"], capsys, "nowhere does not exist")
    assert_usage_error(["report", str(tiny_npz.parent)], capsys, "holds no run")
    assert_usage_error(["data", "info", "tissuemnits"], capsys, "Did you mean 'tissuemnist'")
    assert_usage_error(["data", "get", "tissuemnits"], capsys, "Did you mean 'tissuemnist'")
    assert_usage_error(["data", "get", "tissuemnist", "--size", "31"], capsys, "31")
    assert_usage_error(["train", "course-1", "--data", "chestmnist"], capsys, "not supported")


def test_data_that_is_not_on_disk_says_how_to_get_it(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NEPHROS_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert_usage_error(["train"], capsys, "nephros data get tissuemnist", "NEPHROS_DATA")


def test_no_gpu_is_said_plainly(tiny_npz: Path, capsys: Capture) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert_usage_error(
        ["train", "course-1", "--data", str(tiny_npz), "--device", "cuda"], capsys, "--device cuda", "no GPU"
    )


@pytest.mark.parametrize("defect", ["missing", "truncated", "text", "pickled", "floats", "labels", "lengths", "empty"])
def test_bad_data_is_one_sentence_and_leaves_nothing_behind(defect: str, tmp_path: Path, capsys: Capture) -> None:
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


def test_debug_shows_where(capsys: Capture) -> None:
    with pytest.raises(NephrosError, match="postr"):
        main(["train", "postr", "--debug"])


def test_torchvision_stays_out() -> None:
    assert importlib.util.find_spec("torchvision") is None


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["train", "course-1"], "`nephros train --resume RUN`"),
        (["tune", "poster", "--name", "first"], "`nephros tune --resume first`"),
        (["evaluate", "runs/a"], "run the same command again"),
        (["predict", "a.png"], "nothing was written"),
    ],
)
def test_a_stopped_command_says_what_to_do_next(
    args: list[str], hint: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def interrupt(_: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("nephros.cli._dispatch", interrupt)
    status, _, err = run_cli(args, capsys)
    assert status == 130
    assert f"stopped; {hint}" in err
