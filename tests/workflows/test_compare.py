"""Comparing runs: their ranking, the tests of their differences, and ensembles."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import nephros
from nephros.cli import main
from nephros.data.dataset import Dataset
from nephros.data.load import load_request
from nephros.data.provenance import Provenance
from nephros.data.split import Split
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
    folder = nephros.Run.open(runs[1])
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
        patch.setattr("nephros.workflows.training_run.save_model", interrupt)
        with pytest.raises(KeyboardInterrupt):
            nephros.train(KNN, data, out=out, test=True)
    with pytest.raises(IncompleteError):
        nephros.report(out)
    nephros.resume(out)
    before, after = (nephros.Run.open(run).file("weights.safetensors").read_bytes() for run in (runs[1], out))
    assert before == after
    assert len(nephros.Run.open(out).test_reads()) == 1


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


def _dataset(name: str = "Squares", key: str | None = None, seed: int = 0, **kwargs: int) -> Dataset:
    """Return squares under a name, with a digest of its own per name and seed, and other noise per seed."""
    data = squares_dataset(**kwargs)
    rng = np.random.default_rng(seed)
    test = Split(data.test.images ^ rng.integers(0, 2, data.test.images.shape, dtype=np.uint8), data.test.labels)
    provenance = dataclasses.replace(data.provenance, name=name, key=key, sha256=f"{name}{seed}")
    return dataclasses.replace(data, test=test, provenance=provenance)


def _train_all(folder: Path, **datasets: Dataset) -> list[Path]:
    return [nephros.train(QUICK, data, out=folder / name, test=True).root for name, data in datasets.items()]


def test_each_data_set_has_a_ranking_with_tests_of_its_own(runs: tuple[Path, Path], tmp_path: Path) -> None:
    (other,) = _train_all(tmp_path, other=squares_dataset(n=80))
    comparison = nephros.compare([other, *runs])
    assert [[row.method for row in dataset.rows] for dataset in comparison.datasets] == [
        ["other (quick)"],
        [row.method for row in nephros.compare(runs).rows],
    ]
    assert [len(dataset.paired_tests) for dataset in comparison.datasets] == [0, 1]
    assert comparison.datasets[1].paired_tests == nephros.compare(runs).paired_tests
    assert any("2 data sets" in note for note in comparison.notes)


@pytest.mark.slow
def test_published_results_stand_beside_their_own_data_set_alone(tmp_path: Path) -> None:
    folders = _train_all(
        tmp_path,
        breast=_dataset("BreastMNIST", "breastmnist", n=80, classes=2),
        tissue=_dataset("TissueMNIST", "tissuemnist", n=160, classes=8),
        blood=_dataset("BloodMNIST", "bloodmnist", seed=1, n=160, classes=8),
    )
    comparison = nephros.compare(folders)
    assert [dataset.title for dataset in comparison.datasets] == [
        f"{name}MNIST, own split" for name in ("Breast", "Tissue", "Blood")
    ]
    assert [len(dataset.rows) for dataset in comparison.datasets] == [1, 15, 1]
    assert not comparison.paired_tests


def test_the_official_and_another_split_are_two_tables(tmp_path: Path) -> None:
    other = _dataset("TissueMNIST", "tissuemnist", n=160, classes=8)
    official = dataclasses.replace(other, provenance=dataclasses.replace(other.provenance, split="official"))
    comparison = nephros.compare(_train_all(tmp_path, other=other, official=official))
    assert [dataset.title for dataset in comparison.datasets] == [
        "TissueMNIST, own split",
        "TissueMNIST, official split",
    ]
    assert [sum(row.is_run for row in dataset.rows) for dataset in comparison.datasets] == [1, 1]


def test_different_data_of_the_same_name_have_different_titles(tmp_path: Path) -> None:
    comparison = nephros.compare(_train_all(tmp_path, first=_dataset(n=80), second=_dataset(n=80, seed=1)))
    titles = [dataset.title for dataset in comparison.datasets]
    assert len(set(titles)) == 2
    assert all(title.startswith("Squares (20 images, ") for title in titles)


def test_another_draw_of_the_splits_is_another_table_on_validation(runs: tuple[Path, Path], tmp_path: Path) -> None:
    data = runs[0].parent / "squares.npz"
    run = nephros.train(QUICK, data, resplit=(200, 60), out=tmp_path / "again", test=True)
    assert len(nephros.compare([*runs, run.root], "val").datasets) == 2
    on_test = nephros.compare([*runs, run.root], "test")
    assert len(on_test.datasets) == 1
    assert len(on_test.paired_tests) == 2


def test_other_sizes_of_one_official_data_set_are_one_table_without_a_test(tmp_path: Path) -> None:
    def official(sha256: str, size: int) -> Dataset:
        data = squares_dataset(n=160, classes=8, size=size)
        provenance = Provenance("TissueMNIST", "official", "", sha256, "tissuemnist")
        return dataclasses.replace(data, provenance=provenance)

    comparison = nephros.compare(_train_all(tmp_path, small=official("a", 28), large=official("b", 32)))
    assert [sum(row.is_run for row in dataset.rows) for dataset in comparison.datasets] == [2]
    assert not comparison.paired_tests
    assert any("other images" in note for note in comparison.notes)


def test_a_renamed_copy_is_the_same_data_set(runs: tuple[Path, Path], tmp_path: Path) -> None:
    copy = write_npz(tmp_path / "copy.npz", squares_dataset())
    run = nephros.train(QUICK, copy, out=tmp_path / "copied", test=True)
    comparison = nephros.compare([*runs, run.root])
    assert len(comparison.datasets) == 1
    assert len(comparison.paired_tests) == 2


def test_the_files_and_the_terminal_keep_data_sets_apart(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (other,) = _train_all(tmp_path, other=_dataset("<Other>", n=80))
    with pytest.raises(SystemExit) as exc_info:
        main(["compare", *map(str, [*runs, other]), "--out", str(tmp_path / "compared")])
    assert not exc_info.value.code
    stdout, out = capsys.readouterr().out, tmp_path / "compared"
    assert stdout.index("squares: test") < stdout.index("<Other>: test")
    with open(out / "compare.csv", encoding="utf-8", newline="") as file:
        data_sets = [row["data_set"] for row in csv.DictReader(file)]
    assert data_sets == ["squares"] * 2 + ["<Other>"]
    markdown = (out / "compare.md").read_text()
    assert markdown.count("| data_set |") == 2
    page = (out / "compare.html").read_text()
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for name in ("data", "headline", "chart", "metrics", "cost"):
        assert {name, f"{name}-2"} <= set(ids)
    assert "significance" in ids
    assert "significance-2" not in ids
    assert "Published results" not in page
    for name in ("compare.png", "compare-2.png"):
        assert (out / "figures" / name).stat().st_size > 0


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
    dataset = load_request(info.data_request)
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


def test_a_run_that_was_interrupted_is_to_be_resumed(runs: tuple[Path, Path], tmp_path: Path) -> None:
    interrupted = tmp_path / "interrupted"
    shutil.copytree(runs[0], interrupted)
    info = json.loads((interrupted / "run.json").read_text())
    (interrupted / "run.json").write_text(json.dumps({**info, "status": "training"}))
    with pytest.raises(IncompleteError, match=r"nephros\.resume"):
        nephros.compare([runs[0], interrupted])


def test_an_ensemble_is_the_mean_of_its_runs(runs: tuple[Path, Path]) -> None:
    comparison = nephros.compare(runs, published=False, ensemble=True)
    row = next(row for row in comparison.rows if row.method == "ensemble of 2")
    evaluations = [
        nephros.Evaluation.load(run / "test" / "metrics.json", run / "test" / "predictions.npz") for run in runs
    ]
    mean = (evaluations[0].probabilities + evaluations[1].probabilities) / 2
    assert row.accuracy == pytest.approx(float((mean.argmax(1) == evaluations[0].labels).mean()))
    infos = [nephros.Run.open(run).info() for run in runs]
    assert row.parameters == sum(info.parameters for info in infos)
    assert row.multiply_adds == sum(info.multiply_adds for info in infos)
    assert len(comparison.paired_tests) == 2


def test_an_ensemble_needs_two_runs_on_the_same_images(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match="`ensemble`"):
        nephros.compare(runs[:1], ensemble=True)
    other = nephros.train(QUICK, write_npz(tmp_path / "more.npz", squares_dataset(n=280)), out=tmp_path / "x")
    with pytest.raises(IncompatibleError, match="`ensemble`"):
        nephros.compare([runs[0], other.root], "val", ensemble=True)


def test_an_ensemble_needs_runs_with_the_same_order_of_classes(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs[0], other)
    info, metrics = (json.loads((other / name).read_text()) for name in ("run.json", "test/metrics.json"))
    info["class_names"].reverse()
    for row, name in zip(metrics["per_class"], info["class_names"], strict=True):
        row["name"] = name
    (other / "run.json").write_text(json.dumps(info))
    (other / "test" / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(IncompatibleError, match="the same classes in the same order"):
        nephros.compare([runs[0], other], ensemble=True)
