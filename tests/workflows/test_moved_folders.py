"""Runs whose folders were moved or renamed with their data: every command that goes back to the data finds it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tifffile

import nephros
from nephros.errors import FileError, IncompatibleError, NephrosError
from nephros.evaluation.metrics import Metrics
from nephros.microscopy.synthetic import SyntheticStack
from nephros.runs import RunFolder
from nephros.workflows.resume import resume
from nephros.workflows.run import Run
from nephros.workflows.train import train
from tests.command_line import run_cli
from tests.conftest import squares_dataset, write_npz
from tests.workflows.test_train import QUICK

RECIPE = dataclasses.replace(QUICK, epochs=1)


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    """Return a project with data/squares.npz and runs/one, renamed after training."""
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    path = write_npz(project / "data/squares.npz", squares_dataset(96))
    train(RECIPE, path, out=project / "runs/one", resplit=(90, 30), data_seed=1)
    return project.rename(tmp_path / "renamed")


@pytest.mark.slow
@pytest.mark.figures
def test_report_evaluate_and_export_find_the_moved_data(moved: Path) -> None:
    run = moved / "runs/one"
    page = nephros.report(run).read_text()
    assert "can't be loaded" not in page
    before = Metrics.from_run(RunFolder.open(run), "val")
    assert nephros.evaluate(run).metrics.accuracy == before.accuracy
    assert nephros.evaluate(run, "test").metrics.n == 24
    assert nephros.export(run, "safetensors", force=True).is_file()
    assert nephros.load_classifier(run).card["ood_detector"] is not None


@pytest.mark.slow
@pytest.mark.usefixtures("reports_without_figures")
def test_each_command_takes_the_path_of_data_that_moved_elsewhere(
    moved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, elsewhere = moved / "runs/one", tmp_path / "somewhere else.npz"
    (moved / "data/squares.npz").rename(elsewhere)
    for args in (["evaluate", str(run)], ["export", str(run), "--format", "safetensors", "--force"]):
        status, out, err = run_cli(args, capsys)
        assert status == 2
        assert "--data" in out + err
        status, out, err = run_cli([*args, "--data", str(elsewhere)], capsys)
        assert status == 0, err
    assert run_cli(["report", str(run), "--data", str(elsewhere)], capsys)[0] == 0
    assert not list(run.glob("val-on-*"))  # the run's own data, so its own split
    other = write_npz(tmp_path / "other.npz", squares_dataset(60))
    for args in (
        ["report", str(run)],
        ["export", str(run), "--format", "safetensors", "--force"],
        ["train", "--resume", str(run)],
    ):
        if args[0] == "train":
            folder = RunFolder.open(run)
            folder.write_info(dataclasses.replace(folder.info(), status="training"))
        status, out, err = run_cli([*args, "--data", str(other)], capsys)
        assert status == 2
        assert "SHA-256 differs" in out + err


@pytest.mark.usefixtures("reports_without_figures")
def test_an_interrupted_run_resumes_after_a_move(moved: Path, tmp_path: Path) -> None:
    folder = RunFolder.open(moved / "runs/one")
    weights = folder.file("weights.safetensors").read_bytes()
    for name in ("weights.safetensors", "report.html"):
        folder.file(name).unlink()
    folder.write_info(dataclasses.replace(folder.info(), status="training"))
    assert resume(folder.root).file("weights.safetensors").read_bytes() == weights
    folder.write_info(dataclasses.replace(folder.info(), status="training"))
    elsewhere = (moved / "data/squares.npz").rename(tmp_path / "elsewhere.npz")
    with pytest.raises(FileError, match=r"squares\.npz.*`data`"):
        resume(folder.root)
    assert resume(folder.root, elsewhere).info().status == "complete"


@pytest.mark.usefixtures("reports_without_figures")
def test_a_run_that_started_from_another_resumes_after_a_move(moved: Path, tmp_path: Path) -> None:
    folder = train(RECIPE, moved / "data/squares.npz", out=moved / "runs/two", init=moved / "runs/one")
    weights = folder.file("weights.safetensors").read_bytes()
    again = moved.rename(tmp_path / "again")
    folder = Run.open(again / "runs/two")
    folder.file("checkpoint.pt").unlink()
    folder.file("weights.safetensors").unlink()
    folder.write_info(dataclasses.replace(folder.info(), status="training"))
    assert resume(folder.root).file("weights.safetensors").read_bytes() == weights


@pytest.mark.slow
@pytest.mark.usefixtures("reports_without_figures")
def test_a_study_resumes_and_its_best_recipe_trains_after_a_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nephros.workflows.study import best_recipe
    from nephros.workflows.tune import resume_study, tune

    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    path = write_npz(project / "data/squares.npz", squares_dataset(96))
    (project / "space.yaml").write_text("optimizer.lr: {low: 0.01, high: 0.2, log: true}\n")
    monkeypatch.chdir(project)
    result = tune(QUICK, path, max_epochs=2, eta=2, brackets="s=1", name="one", workers=1, space="space.yaml")
    monkeypatch.chdir(tmp_path)
    moved = project.rename(tmp_path / "renamed")
    assert resume_study(moved / "studies/one").best == result.best
    _, request = best_recipe(moved / "studies/one")
    assert request["source"] == str(moved / "data/squares.npz")
    (moved / "data/squares.npz").rename(tmp_path / "elsewhere.npz")
    with pytest.raises(FileError, match="`data`"):
        resume_study(moved / "studies/one")
    assert resume_study(moved / "studies/one", tmp_path / "elsewhere.npz").best == result.best
    with pytest.raises(IncompatibleError):
        resume_study(moved / "studies/one", write_npz(tmp_path / "other.npz", squares_dataset(60)))


@pytest.mark.slow
@pytest.mark.usefixtures("reports_without_figures")
def test_reproduce_knows_its_runs_after_the_data_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_npz(tmp_path / "squares.npz", squares_dataset(96))
    arguments = {"only": ["course-1"], "runs": tmp_path / "runs", "epochs": 1, "device": "cpu"}
    nephros.reproduce("baselines", str(path), **arguments)  # type: ignore[arg-type]
    (tmp_path / "data").mkdir()
    moved = path.rename(tmp_path / "data/squares.npz")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("runs/*/*/weights.safetensors")}
    assert before
    nephros.reproduce("baselines", str(moved), **arguments)  # type: ignore[arg-type]
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("runs/*/*/weights.safetensors")} == before
    with pytest.raises(NephrosError, match="other data"):
        nephros.reproduce("baselines", str(write_npz(tmp_path / "b.npz", squares_dataset(60))), **arguments)  # type: ignore[arg-type]
    assert np.load(moved)["train_images"].shape[0] == 96


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Return a folder with a stack, its mask, prepared cells and their predictions, renamed after all were written."""
    folder = tmp_path / "a"
    folder.mkdir()
    pixels, labels = (np.stack(arrays) for arrays in zip(*SyntheticStack((16, 120, 100)).slices(), strict=True))
    sizes = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 1.0}
    tifffile.imwrite(folder / "s.ome.tif", pixels, photometric="minisblack", metadata=sizes)
    tifffile.imwrite(folder / "m.tif", labels.astype(np.uint16), photometric="minisblack", metadata={"axes": "ZYX"})
    nephros.prepare(folder / "s.ome.tif", folder / "cells.npz", mask=folder / "m.tif")
    nephros.predict(folder / "cells.npz").save(folder / "p.csv")
    return folder.rename(tmp_path / "b")


def overlay_args(folder: Path, *options: str) -> list[str]:
    return ["data", "overlay", str(folder / "cells.json"), "--predictions", str(folder / "p.csv"), *options]


def test_an_overlay_is_painted_after_its_folder_was_renamed(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "o.png"
    status, _, err = run_cli(overlay_args(prepared, "--out", str(image)), capsys)
    assert status == 0, err
    (prepared / "s.ome.tif").rename(tmp_path / "stack elsewhere.tif")
    (prepared / "m.tif").rename(tmp_path / "mask elsewhere.tif")
    status, _, err = run_cli(overlay_args(prepared, "--out", str(tmp_path / "p.png")), capsys)
    assert status == 2
    assert "--stack" in err
    moved = ["--stack", str(tmp_path / "stack elsewhere.tif"), "--mask", str(tmp_path / "mask elsewhere.tif")]
    status, _, err = run_cli(overlay_args(prepared, *moved, "--out", str(tmp_path / "p.png")), capsys)
    assert status == 0, err
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    swapped = ["--stack", moved[3], "--mask", moved[1]]
    status, _, err = run_cli(overlay_args(prepared, *swapped, "--out", str(tmp_path / "q.png")), capsys)
    assert status == 2
    assert "SHA-256 differs" in err
    assert not (tmp_path / "q.png").exists()


def test_an_overlay_is_painted_after_all_files_were_renamed(prepared: Path, tmp_path: Path) -> None:
    for suffix in ("npz", "json", "csv"):
        (prepared / f"cells.{suffix}").unlink()
    nephros.prepare(prepared / "s.ome.tif", prepared / "cells.npz")  # with a mask of its own
    for suffix in ("npz", "json", "csv", "mask.tif"):
        (prepared / f"cells.{suffix}").rename(prepared / f"kidney 7.{suffix}")
    nephros.predict(prepared / "kidney 7.npz").save(prepared / "p.csv")
    assert nephros.overlay(prepared / "kidney 7.json", prepared / "p.csv", tmp_path / "o.png").is_file()
