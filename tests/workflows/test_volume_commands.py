"""Volumes through the commands: killed, resumed, tuned, scored, overlaid; and MedMNIST's official files of both sizes."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import nephros
from nephros.data.medmnist import MEDMNIST
from nephros.microscopy.synthetic import SyntheticStack
from tests.command_line import assert_usage_error, run_cli

pytestmark = pytest.mark.slow

SMALL = ["--model.base_channels", "2", "--batch_size", "32", "--device", "cpu"]
TIMEOUT_S = 180


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a stack, its mask, and cells.npz of its nuclei as volumes with classes."""
    folder = tmp_path_factory.mktemp("prepared")
    tissue = SyntheticStack((16, 180, 180))
    pixels, labels = (np.stack(part) for part in zip(*tissue.slices(), strict=True))
    sizes = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 1.0}
    tifffile.imwrite(folder / "K4.ome.tif", pixels, photometric="minisblack", metadata=sizes)
    tifffile.imwrite(folder / "K4_mask.tif", labels.astype(np.uint16), photometric="minisblack")
    rows = [f"{nucleus},{'AB'[nucleus % 2]}" for nucleus in np.unique(labels)[1:].tolist()]
    (folder / "K4.csv").write_text("\n".join(["id,class", *rows]))
    nephros.prepare(
        folder / "K4.ome.tif",
        folder / "cells.npz",
        mask=folder / "K4_mask.tif",
        classes=folder / "K4.csv",
        volumes=True,
    )
    return folder


@pytest.fixture(scope="module")
def run(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    process = _start(prepared, out)
    _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, stderr.decode()
    return out


def _start(prepared: Path, out: Path) -> subprocess.Popen[bytes]:
    data = ["--data", str(prepared / "cells.npz"), "--out", str(out), "--epochs", "12", "--passes_per_epoch", "4"]
    return _start_training("nephnet3d", *data, *SMALL, "--test")


def _start_training(*args: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "nephros", "train", *args]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_a_killed_run_of_volumes_ends_with_the_same_bits(prepared: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process, deadline = _start(prepared, out), time.monotonic() + TIMEOUT_S
    while not ((out / "history.csv").exists() and len((out / "history.csv").read_text().splitlines()) > 2):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert json.loads((out / "run.json").read_text())["status"] != "complete"
    resumed = _start_training("--resume", str(out))
    _, stderr = resumed.communicate(timeout=TIMEOUT_S)
    assert resumed.returncode == 0, stderr.decode()
    for name in ("weights.safetensors", "test/predictions.npz"):
        assert (out / name).read_bytes() == (run / name).read_bytes(), name


def test_a_run_of_volumes_is_scored_reported_and_overlaid(
    prepared: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = str(prepared / "cells.npz")
    for argv in (
        ["evaluate", str(run), "--split", "test"],
        ["evaluate", str(run), "--data", cells],
        ["report", str(run)],
        ["predict", cells, "--model", str(run), "--out", str(tmp_path / "p.csv")],
        ["data", "overlay", str(prepared / "cells.json"), "--predictions", str(tmp_path / "p.csv"), "--out",
         str(tmp_path / "overlay.png"), "--html"],
        ["predict", str(prepared / "K4.ome.tif"), "--mask", str(prepared / "K4_mask.tif"), "--model", str(run), "--out",
         str(tmp_path / "K4")],
    ):  # fmt: skip
        status, _, err = run_cli(argv, capsys)
        assert status == 0, (argv, err)
    assert (tmp_path / "overlay.html").is_file()
    with (tmp_path / "p.csv").open() as file, (tmp_path / "K4" / "cells.csv").open() as table:
        names = [[row["class_name"] for row in csv.DictReader(opened)] for opened in (file, table)]
    assert names[0] == names[1]
    assert set(names[0]) <= {"A", "B"}


def test_volumes_are_tuned_and_fine_tuned_from_their_stack(
    prepared: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text(
        "optimizer.lr: {low: 0.0003, high: 0.003, log: true}\nmodel.base_channels: [2]\n"
    )
    study = ["--max-epochs", "3", "--brackets", "s=1", "--space", "space.yaml", "--name", "study", "--device", "cpu"]
    status, out, err = run_cli(["tune", "nephnet3d", "--data", str(prepared / "cells.npz"), *study], capsys)
    assert (status, "optimizer.lr" in out) == (0, True), err
    stack = [str(prepared / "K4.ome.tif"), "--mask", "{stem}_mask.tif", "--classes", str(prepared / "K4.csv")]
    finetune = ["finetune", *stack, "--init", str(run), "--methods", "head", "--folds", "2", "--out", "tuned"]
    status, _, err = run_cli(finetune, capsys)
    assert status == 0, err
    assert json.loads((tmp_path / "tuned" / "run.json").read_text())["input_spec"]["depth"] == 7


@pytest.mark.usefixtures("reports_without_figures")
@pytest.mark.parametrize("size", [28, 64])
def test_medmnists_volumes_train_from_their_official_files(
    size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEPHROS_DATA", str(tmp_path))
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, n in (("train", 12), ("val", 6), ("test", 7)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, size, size, size), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n) % 2)[:, None].astype(np.uint8)
    name = "adrenalmnist3d"
    np.savez_compressed(tmp_path / f"{name}{'' if size == 28 else f'_{size}'}.npz", **arrays)
    out = tmp_path / "run"
    train = ["train", "nephnet3d", "--data", name, "--epochs", "1", "--passes_per_epoch", "1", *SMALL, "--test"]
    status, _, err = run_cli([*train, *(["--size", "64"] if size == 64 else []), "--out", str(out)], capsys)
    assert status == 0, err
    spec = json.loads((out / "run.json").read_text())["input_spec"]
    assert (spec["depth"], spec["height"], spec["width"], spec["n_classes"]) == (size, size, size, 2)
    assert nephros.evaluate(out, "test").probabilities.shape == (7, 2)
    status, _, err = run_cli(["evaluate", str(out), "--split", "test", "--medmnist", str(tmp_path / "m")], capsys)
    assert status == 0, err
    (official,) = (tmp_path / "m").iterdir()
    assert official.name.startswith(f"{name}{'' if size == 28 else f'_{size}'}_test_[AUC]")
    assert MEDMNIST[name].is_volumetric


def test_what_has_no_volumes_says_so(
    prepared: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells, out = str(prepared / "cells.npz"), ["--out", str(tmp_path / "run")]
    model = str(nephros.export(run, "safetensors", out=tmp_path / "v.safetensors", force=True))
    assert_usage_error(["train", "nephros-fast", "--data", cells, *out], capsys, "volumes of 7 slices", "nephnet3d")
    assert_usage_error(["train", "nephnet3d", "--data", "synthetic", *out], capsys, "nephnet3d", "images")
    assert_usage_error(["serve", "--model", model, "--port", "0"], capsys, "volumes")
    assert_usage_error(["annotate", str(tmp_path / "project"), cells], capsys, "volumes")
    assert_usage_error(["predict", cells, "--model", model, "--precision", "int8"], capsys, "--precision")
    assert not (tmp_path / "run").exists()
