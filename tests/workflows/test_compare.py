"""Comparing runs: their ranking, the tests of their differences, and ensembles."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

import nephros
from nephros.cli import main
from nephros.data.dataset import Split
from nephros.data.load import load
from nephros.errors import FileError, IncompatibleError, IncompleteError, InvalidArgument, NephrosError
from nephros.evaluation.significance import compare_paired
from nephros.recipe import KNNConfig, ModelConfig, Recipe
from nephros.reporting.comparison.page import describe_paired_test
from tests.conftest import squares_dataset, write_npz
from tests.workflows.test_train import QUICK

pytestmark = pytest.mark.usefixtures("reports_without_figures")

KNN = Recipe(name="neighbors", model=ModelConfig(network="knn"), knn=KNNConfig(n_neighbors=(1, 3)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs of a network and of a classical baseline on the same data, both evaluated on test."""
    folder = tmp_path_factory.mktemp("runs")
    data = write_npz(folder / "squares.npz", squares_dataset())
    for name, recipe in (("net", QUICK), ("knn", KNN)):
        nephros.train(recipe, data, out=folder / name, test=True)
    return folder / "net", folder / "knn"


def test_a_baseline_has_a_run_folder_like_a_network(runs: tuple[Path, Path]) -> None:
    folder = nephros.RunFolder.open(runs[1])
    for name in ("recipe.yaml", "run.json", "search_results.csv", "weights.safetensors", "report.html"):
        assert folder.file(name).stat().st_size > 0, name
    info = folder.info()
    assert info.status == "complete"
    assert info.hyperparameters.startswith("pixels, euclidean, ")
    assert info.parameters > 240 * 28 * 28
    assert len(folder.test_reads()) == 1
    page = folder.file("report.html").read_text()
    assert 'id="search"' in page
    assert f"{info.hyperparameters} (kept)" in page
    before = nephros.Evaluation.load(folder.file("val", "metrics.json"), folder.file("val", "predictions.npz"))
    assert nephros.evaluate(runs[1], "val").accuracy == before.accuracy


def test_an_interrupted_baseline_starts_again(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    out, data = tmp_path / "cut", runs[1].parent / "squares.npz"
    with monkeypatch.context() as patch:
        patch.setattr("nephros.workflows.train.save_model", interrupt)
        with pytest.raises(KeyboardInterrupt):
            nephros.train(KNN, data, out=out, test=True)
    with pytest.raises(IncompleteError):
        nephros.report(out)
    nephros.resume(out)
    before, after = (nephros.RunFolder.open(run).file("weights.safetensors").read_bytes() for run in (runs[1], out))
    assert before == after
    assert len(nephros.RunFolder.open(out).test_reads()) == 1


def test_the_best_run_is_tested_against_the_other(runs: tuple[Path, Path]) -> None:
    comparison = nephros.compare(runs)
    assert comparison.split == "test"
    assert [row.is_run for row in comparison.rows] == [True, True]
    assert comparison.rows[0].accuracy >= comparison.rows[1].accuracy
    ((better, other, paired),) = comparison.paired_tests
    assert {better, other} == {"net", "knn"}
    assert paired.difference == pytest.approx(comparison.rows[0].accuracy - comparison.rows[1].accuracy)
    assert paired.n == 60


def test_the_command_writes_table_and_page(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "compared"
    with pytest.raises(SystemExit) as exc_info:
        main(["compare", *map(str, runs), "--split", "val", "--out", str(out)])
    assert not exc_info.value.code
    stdout = capsys.readouterr().out
    assert "McNemar's exact test" in stdout
    assert "note: " in stdout
    with open(out / "compare.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["own validation"] * 2
    assert {row["checkpoint"].split(",")[0] for row in rows} == {"last", "best val_accuracy: pixels"}
    assert "McNemar" in (out / "compare.md").read_text()
    page = (out / "compare.html").read_text()
    assert "<svg" in page
    assert 'id="significance"' in page
    assert (out / "figures" / "compare.png").stat().st_size > 0


def test_runs_on_other_images_are_listed_but_not_tested(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = nephros.train(QUICK, squares_dataset(n=80), out=tmp_path / "other", test=True)
    comparison = nephros.compare([*runs, other.root])
    assert len(comparison.paired_tests) == (0 if comparison.rows[0].method.startswith("other") else 1)
    assert any("other images" in note for note in comparison.notes)


def test_tissuemnist_runs_are_listed_with_published_results(tmp_path: Path) -> None:
    data = squares_dataset(n=160, classes=8)
    data = dataclasses.replace(
        data, provenance=dataclasses.replace(data.provenance, key="tissuemnist", name="TissueMNIST")
    )
    run = nephros.train(QUICK, data, out=tmp_path / "run", test=True)
    methods = [row.method for row in nephros.compare([run.root]).rows]
    assert len(methods) == 15
    assert "AutoKeras" in methods
    assert len(nephros.compare([run.root], published=False).rows) == 1


def test_a_run_without_the_split_is_incomplete(runs: tuple[Path, Path], tmp_path: Path) -> None:
    untested = nephros.train(QUICK, squares_dataset(n=80), out=tmp_path / "untested")
    with pytest.raises(IncompleteError, match=re.escape(f"`nephros.evaluate('{untested.root}', split='test')`")):
        nephros.compare([runs[0], untested.root], "test")
    assert nephros.compare([runs[0], untested.root]).split == "val"


@pytest.mark.parametrize(
    ("n_runs", "split", "parameter"), [(0, None, "runs"), (2, None, "runs"), (1, "train", "split")]
)
def test_invalid_arguments_are_named(runs: tuple[Path, Path], n_runs: int, split: str | None, parameter: str) -> None:
    with pytest.raises(InvalidArgument) as exc_info:
        nephros.compare([runs[0]] * n_runs, split)
    assert exc_info.value.parameter == parameter


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError) as exc_info:
        nephros.compare([tmp_path])
    assert exc_info.value.path == tmp_path


def test_the_data_of_a_resplit_run_is_loaded_as_it_was(runs: tuple[Path, Path], tmp_path: Path) -> None:
    data = runs[0].parent / "squares.npz"
    run = nephros.train(QUICK, data, resplit=(200, 60), data_seed=4, out=tmp_path / "again")
    info = run.info()
    assert sum(info.class_counts["train"]) == 200
    assert "200 / 60 drawn at random from train + validation, seed 4" in info.data["detail"]
    dataset = load(**info.data_request)
    assert len(dataset.val) == 60
    assert nephros.evaluate(run.root, "val").metrics.n == 60
    assert not list(run.root.glob("val-on-*"))


def test_other_images_of_the_same_file_have_another_digest(tmp_path: Path) -> None:
    data = squares_dataset(n=80)
    rng = np.random.default_rng(3)
    mixed = dataclasses.replace(data, test=Split(rng.permutation(data.test.images), data.test.labels))
    runs = [nephros.train(QUICK, dataset, out=tmp_path / str(i)) for i, dataset in enumerate((data, mixed))]
    for run, dataset in zip(runs, (data, mixed), strict=True):
        nephros.evaluate(run.root, "test", dataset)
    assert nephros.compare([run.root for run in runs], "val").paired_tests
    folders = [next(run.root.glob("test*")) for run in runs]
    digests = {json.loads((folder / "metrics.json").read_text())["images_sha256"] for folder in folders}
    assert len(digests) == 2


def test_the_verdict_agrees_with_its_p_value() -> None:
    correct = np.ones(37_280, dtype=bool)
    other = correct.copy()
    other[:4] = False
    assert "not significant" in describe_paired_test("one", "two", compare_paired(correct, other))
    other[:40] = False
    assert "not significant" not in describe_paired_test("one", "two", compare_paired(correct, other))
    other[:4000] = False
    # Double precision has no such p, and it is not 0.
    assert "p < 1e-300" in describe_paired_test("one", "two", compare_paired(correct, other))


def test_a_subset_of_a_dataset_given_in_python_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NephrosError):
        nephros.train(QUICK, squares_dataset(n=80), subset=40, out=tmp_path / "run")


def test_an_ensemble_is_the_mean_of_its_runs(runs: tuple[Path, Path]) -> None:
    comparison = nephros.compare(runs, published=False, ensemble=True)
    row = next(row for row in comparison.rows if row.method == "ensemble of 2")
    evaluations = [
        nephros.Evaluation.load(run / "test" / "metrics.json", run / "test" / "predictions.npz") for run in runs
    ]
    mean = (evaluations[0].probabilities + evaluations[1].probabilities) / 2
    assert row.accuracy == pytest.approx(float((mean.argmax(1) == evaluations[0].labels).mean()))
    infos = [nephros.RunFolder.open(run).info() for run in runs]
    assert row.parameters == sum(info.parameters for info in infos)
    assert row.multiply_adds == sum(info.multiply_adds for info in infos)
    assert len(comparison.paired_tests) == 2


def test_an_ensemble_needs_two_runs_on_the_same_images(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match="`ensemble`"):
        nephros.compare(runs[:1], ensemble=True)
    other = nephros.train(QUICK, write_npz(tmp_path / "more.npz", squares_dataset(n=280)), out=tmp_path / "x")
    with pytest.raises(IncompatibleError, match="`ensemble`"):
        nephros.compare([runs[0], other.root], "val", ensemble=True)
