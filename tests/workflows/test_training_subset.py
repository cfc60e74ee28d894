"""A run on a subset of its training images says so wherever its accuracy is named."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

import nephros
from nephros.cli import main
from nephros.data.load import load_dataset
from nephros.data.subset import resplit_train_val, subset_train
from nephros.exporters.model_card_markdown import card_to_markdown
from nephros.exporters.packaging import probabilities_only
from nephros.inference.model_card import training_subset
from nephros.inference.predictor import Predictor
from nephros.recipe import ClassicalConfig, KNNConfig, ModelConfig, Recipe
from nephros.reporting.comparison.page import write_comparison
from nephros.reporting.plots.accuracy_charts import plot_leaderboard
from nephros.runs import RunFolder
from nephros.server.limits import BATCH_LIMITS, STACK_LIMITS, RequestLimits
from nephros.server.openapi import version_response
from nephros.server.service import Service
from tests.conftest import squares_dataset, write_npz
from tests.workflows.test_train import QUICK

pytestmark = pytest.mark.usefixtures("reports_without_figures")

SUBSET = "subset: 60 of 240 training images"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "squares.npz", squares_dataset())


@pytest.fixture(scope="module")
def subset_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return nephros.train(QUICK, data, subset=60, out=tmp_path_factory.mktemp("runs") / "part", test=True)


def test_the_report_says_it_in_its_header(subset_run: RunFolder) -> None:
    page = subset_run.file("report.html").read_text()
    assert SUBSET.capitalize() in page[page.index("<header") : page.index('id="headline"')]


def test_every_form_of_a_comparison_says_it(
    subset_run: RunFolder, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = nephros.train(QUICK, data, out=tmp_path / "whole", test=True)
    comparison = nephros.compare([subset_run.root, whole.root])
    labels = {row.label for row in comparison.rows}
    assert labels == {f"part (quick), {SUBSET}", "whole (quick)"}
    markdown, table, page = write_comparison(comparison, tmp_path)
    with open(table, encoding="utf-8", newline="") as file:
        assert {row["method"] for row in csv.DictReader(file)} == labels
    assert f"part (quick), {SUBSET}" in markdown.read_text()
    html = page.read_text()
    assert html.count(f"part (quick), {SUBSET}") == 2  # metrics and cost
    figure = plot_leaderboard(comparison.rows, "test", comparison.title)
    assert any(SUBSET in label.get_text() for label in figure.axes[0].get_yticklabels())
    with pytest.raises(SystemExit):
        main(["compare", str(subset_run.root)])
    assert SUBSET in capsys.readouterr().out.replace("\n", "")


def test_the_headline_of_a_comparison_says_it(subset_run: RunFolder, tmp_path: Path) -> None:
    html = write_comparison(nephros.compare([subset_run.root]), tmp_path)[2].read_text()
    assert f"<b>part (quick)</b><br>trained on a {SUBSET}" in html[: html.index("</header>")]


@pytest.mark.parametrize("subset", [60, None])
def test_an_ensemble_names_the_subsets_of_its_runs(
    subset_run: RunFolder, data: Path, tmp_path: Path, subset: int | None
) -> None:
    recipe = dataclasses.replace(QUICK, seed=1)
    other = nephros.train(recipe, data, subset=subset, out=tmp_path / "other", test=True)
    comparison = nephros.compare([subset_run.root, other.root], ensemble=True)
    (label,) = [row.label for row in comparison.rows if row.method == "ensemble of 2"]
    assert label == f"ensemble of 2, {'' if subset else 'some runs on a '}{SUBSET}"


def test_evaluate_says_it(subset_run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", str(subset_run.root)])
    assert f"trained on a {SUBSET}" in capsys.readouterr().out


def test_the_card_says_it_in_its_title_and_beside_its_metrics(subset_run: RunFolder, tmp_path: Path) -> None:
    _, card = probabilities_only(subset_run, torch.device("cpu"))
    assert training_subset(card) == SUBSET
    text = card_to_markdown(card)
    assert f"trained on squares, {SUBSET}\n" in text
    assert SUBSET in text[text.index("## Metrics") :]


def test_the_server_says_it(subset_run: RunFolder) -> None:
    predictor = Predictor(*probabilities_only(subset_run, torch.device("cpu")))
    service = cast(Service, SimpleNamespace(predictor=predictor, reference_index=None))
    assert version_response(service, RequestLimits(), BATCH_LIMITS, STACK_LIMITS).model.training_subset == SUBSET


def test_the_recipe_of_a_baseline_can_limit_its_images_too(data: Path, tmp_path: Path) -> None:
    recipe = Recipe(
        name="neighbors",
        model=ModelConfig(network="knn"),
        knn=KNNConfig(n_neighbors=(1,)),
        classical=ClassicalConfig(max_images=60),
    )
    assert nephros.train(recipe, data, out=tmp_path / "run").info().training_subset == SUBSET


def test_an_open_subset_is_one_too(data: Path, tmp_path: Path) -> None:
    dataset = load_dataset(data, subset=60)
    assert nephros.train(QUICK, dataset, out=tmp_path / "run").info().training_subset == SUBSET


def test_a_subset_of_a_subset_counts_from_all_images() -> None:
    data = subset_train(subset_train(squares_dataset(), 120, 0), 60, 0)
    assert (len(data.train), data.provenance.full_train_images) == (60, 240)


@pytest.mark.parametrize(("sizes", "expected"), [((200, 60), 240), ((240, 60), None), ((200, 100), None)])
def test_another_split_that_leaves_images_out_is_a_subset(sizes: tuple[int, int], expected: int | None) -> None:
    data = resplit_train_val(squares_dataset(), sizes, 0)
    assert data.provenance.full_train_images == expected


def test_all_images_are_no_subset(data: Path, tmp_path: Path) -> None:
    folder = nephros.train(QUICK, data, subset=240, out=tmp_path / "run")
    assert folder.info().training_subset == ""
    assert "subset:" not in folder.file("report.html").read_text()


def test_a_run_of_an_earlier_version_says_what_it_knows(subset_run: RunFolder) -> None:
    info = subset_run.info()
    earlier = info.data.copy()
    del earlier["full_train_images"]
    assert json.loads(subset_run.file("run.json").read_text())["data"] != earlier
    assert dataclasses.replace(info, data=earlier).training_subset == "subset: 60 training images"
