"""Runs beside each other: who stands where, and whether the difference might be chance."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import nephros
from nephros.cli import main
from nephros.data.dataset import Split
from nephros.data.load import load
from nephros.errors import UserError
from nephros.evaluation.significance import pair
from nephros.recipe import Recipe
from nephros.recipe_parts import Classic, Model
from nephros.reporting.comparison.tables import sentence
from tests.conftest import made_up, write_npz
from tests.workflows.test_train import QUICK

KNN = Recipe(name="neighbours", model=Model(network="knn"), classic=Classic(neighbours=(1, 3)))


def _silent(_words: str) -> None:
    return None


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network's run and a baseline's on the same data, both scored on test."""
    place = tmp_path_factory.mktemp("runs")
    data = write_npz(place / "squares.npz", made_up())
    for name, recipe in (("net", QUICK), ("knn", KNN)):
        nephros.train(recipe, data, out=place / name, test=True, say=_silent)
    return place / "net", place / "knn"


def test_a_baseline_has_a_run_folder_like_any_network(runs: tuple[Path, Path]) -> None:
    folder = nephros.RunFolder.open(runs[1])
    for name in ("recipe.yaml", "run.json", "tried.csv", "weights.safetensors", "report.html"):
        assert folder.file(name).stat().st_size > 0, name
    info = folder.info()
    assert info.status == "complete"
    assert info.combination.startswith("pixels, euclidean, ")
    assert info.parameters > 240 * 28 * 28
    assert len(folder.test_reads()) == 1
    page = folder.file("report.html").read_text()
    assert "What was tried" in page
    assert f"{info.combination} (kept)" in page
    before = nephros.Evaluation.load(folder.file("val", "metrics.json"), folder.file("val", "predictions.npz"))
    assert nephros.evaluate(runs[1], "val").metrics["accuracy"] == before.metrics["accuracy"]


def test_a_baseline_that_was_cut_off_begins_again(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_arguments: object) -> None:
        raise KeyboardInterrupt

    out, data = tmp_path / "cut", runs[1].parent / "squares.npz"
    with monkeypatch.context() as patch:
        patch.setattr("nephros.workflows.train.save_model", cut)
        with pytest.raises(KeyboardInterrupt):
            nephros.train(KNN, data, out=out, test=True, say=_silent)
    with pytest.raises(UserError, match="before there was anything to judge"):
        nephros.report(out)
    nephros.resume(out, say=_silent)
    before, after = (nephros.RunFolder.open(run).file("weights.safetensors").read_bytes() for run in (runs[1], out))
    assert before == after
    assert len(nephros.RunFolder.open(out).test_reads()) == 1


def test_the_best_run_is_tested_against_the_other(runs: tuple[Path, Path]) -> None:
    found = nephros.compare(runs)
    assert found.split == "test"
    assert [row.own for row in found.rows] == [True, True]
    assert found.rows[0].accuracy >= found.rows[1].accuracy
    ((better, other, pair),) = found.pairs
    assert {better, other} == {"net", "knn"}
    assert pair.difference == pytest.approx(found.rows[0].accuracy - found.rows[1].accuracy)
    assert pair.n == 60


def test_the_files_hold_the_table(runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "compared"
    with pytest.raises(SystemExit) as caught:
        main(["compare", *map(str, runs), "--split", "val", "--out", str(out)])
    assert not caught.value.code
    said = capsys.readouterr().out
    assert "McNemar's exact p" in said
    assert "flatters" in said
    with open(out / "compare.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["own validation"] * 2
    assert {row["checkpoint"].split(",")[0] for row in rows} == {"last", "best val_accuracy: pixels"}
    assert "McNemar" in (out / "compare.md").read_text()
    page = (out / "compare.html").read_text()
    assert "<svg" in page
    assert "Better, or lucky?" in page
    assert (out / "figures" / "compare.png").stat().st_size > 0


def test_runs_on_other_images_are_shown_and_not_tested(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = nephros.train(QUICK, made_up(n=80), out=tmp_path / "other", test=True, say=_silent)
    found = nephros.compare([*runs, other.root])
    assert len(found.pairs) == (0 if found.rows[0].method.startswith("other") else 1)
    assert any("Not scored on the same images" in note for note in found.notes)


def test_tissuemnist_is_set_beside_what_was_published(tmp_path: Path) -> None:
    data = made_up(n=160, classes=8)
    data = dataclasses.replace(
        data, provenance=dataclasses.replace(data.provenance, key="tissuemnist", name="TissueMNIST")
    )
    run = nephros.train(QUICK, data, out=tmp_path / "run", test=True, say=_silent)
    methods = [row.method for row in nephros.compare([run.root]).rows]
    assert len(methods) == 15
    assert "AutoKeras" in methods
    assert len(nephros.compare([run.root], with_published=False).rows) == 1


def test_what_can_t_be_compared_says_why(runs: tuple[Path, Path], tmp_path: Path) -> None:
    unread = nephros.train(QUICK, made_up(n=80), out=tmp_path / "unread", say=_silent)
    with pytest.raises(UserError, match="has not been scored on test"):
        nephros.compare([runs[0], unread.root], "test")
    assert nephros.compare([runs[0], unread.root]).split == "val"
    for arguments, words in (
        (([],), "at least one RUN"),
        (([runs[0], runs[0]],), "named twice"),
        (([runs[0]], "train"), "--split is train"),
        (([tmp_path],), "holds no run"),
    ):
        with pytest.raises(UserError, match=words):
            nephros.compare(*arguments)


def test_a_resplit_run_is_opened_again_as_it_was(runs: tuple[Path, Path], tmp_path: Path) -> None:
    data = runs[0].parent / "squares.npz"
    run = nephros.train(QUICK, data, resplit=(200, 60), data_seed=4, out=tmp_path / "again", say=_silent)
    info = run.info()
    assert sum(info.class_counts["train"]) == 200
    assert "200 / 60 drawn at random from train + validation, seed 4" in info.data["detail"]
    opened = load(**info.request)
    assert len(opened.val) == 60
    assert nephros.evaluate(run.root, "val").metrics["n"] == 60
    assert not list(run.root.glob("val-on-*"))


def test_the_same_file_split_with_another_seed_is_not_the_same_images(tmp_path: Path) -> None:
    data = made_up(n=80)
    rng = np.random.default_rng(3)
    mixed = dataclasses.replace(data, test=Split(rng.permutation(data.test.images), data.test.labels))
    runs = [nephros.train(QUICK, one, out=tmp_path / str(i), say=_silent) for i, one in enumerate((data, mixed))]
    for run, one in zip(runs, (data, mixed), strict=True):
        nephros.evaluate(run.root, "test", one)
    assert nephros.compare([run.root for run in runs], "val").pairs
    folders = [next(run.root.glob("test*")) for run in runs]
    digests = {json.loads((folder / "metrics.json").read_text())["images_sha256"] for folder in folders}
    assert len(digests) == 2


def test_the_verdict_follows_the_p_that_stands_beside_it() -> None:
    right = np.ones(37_280, dtype=bool)
    other = right.copy()
    other[:4] = False
    assert "equally good" in sentence("one", "two", pair(right, other))
    other[:40] = False
    assert "more than chance" in sentence("one", "two", pair(right, other))
    other[:4000] = False
    assert "p < 1e-300:" in sentence("one", "two", pair(right, other))  # a double has no such p, and it is not 0


def test_an_open_dataset_is_cut_by_its_owner(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cut an open Dataset before"):
        nephros.train(QUICK, made_up(n=80), subset=40, out=tmp_path / "run")


def test_an_ensemble_is_the_mean_of_its_runs(runs: tuple[Path, Path]) -> None:
    found = nephros.compare(runs, with_published=False, ensemble=True)
    row = next(row for row in found.rows if row.method == "ensemble of 2")
    stored = [nephros.Evaluation.load(run / "test" / "metrics.json", run / "test" / "predictions.npz") for run in runs]
    mean = (stored[0].probabilities + stored[1].probabilities) / 2
    assert row.accuracy == pytest.approx(float((mean.argmax(1) == stored[0].labels).mean()))
    infos = [nephros.RunFolder.open(run).info() for run in runs]
    assert row.parameters == sum(info.parameters for info in infos)
    assert row.multiply_adds == sum(info.multiply_adds for info in infos)
    assert len(found.pairs) == 2


def test_an_ensemble_of_one_or_of_other_images(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--ensemble needs two runs or more"):
        nephros.compare(runs[:1], ensemble=True)
    other = nephros.train(QUICK, write_npz(tmp_path / "more.npz", made_up(n=280)), out=tmp_path / "x", say=_silent)
    with pytest.raises(UserError, match="all scored on the same images"):
        nephros.compare([runs[0], other.root], "val", ensemble=True)
