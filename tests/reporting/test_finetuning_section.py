"""The report of a fine-tuned run: its methods, the classes that need labels, and the labels that look wrong, with images."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

import nephros
from nephros.data.dataset import Dataset
from nephros.data.split import Split
from nephros.evaluation.held_out import read_held_out
from nephros.finetuning.label_review import suspicious_labels
from nephros.reporting.run.finetuning import MAX_SUSPICIOUS, review_finetuning
from nephros.reporting.run.headline import headlines
from nephros.reporting.run.page import write_report
from nephros.reporting.run.run_contents import load_run
from nephros.runs import RunFolder
from nephros.workflows.finetune import finetune
from tests.conftest import square_images, squares_dataset

N_WRONG = 30


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Return squares of three classes, with wrong labels for the first images, that names tell apart."""
    clean = squares_dataset(n=240, classes=3)
    labels = clean.train.labels.copy()
    labels[:N_WRONG] = (labels[:N_WRONG] + 1) % 3
    names = np.array([f"a folder/<{i}>.png" for i in range(len(labels))])
    return dataclasses.replace(clean, train=Split(clean.train.images, labels, None, names))


@pytest.fixture(scope="module")
def run(
    run_folder: RunFolder, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory, reports_without_figures: None
) -> RunFolder:
    return finetune(
        dataset, init=run_folder.root, methods="head", folds=3, out=tmp_path_factory.mktemp("finetuned") / "run"
    ).run


@pytest.mark.slow
@pytest.mark.figures
def test_the_page_shows_methods_classes_and_suspicious_images(run: RunFolder, dataset: Dataset) -> None:
    page = nephros.report(run.root).read_text(encoding="utf-8")  # its data is not stored, so that no image can be shown
    assert 'id="finetuning"' in page
    assert "head (kept)" in page
    assert 'id="suspicious"' in page
    assert "training image 0" in page
    page = write_report(run, dataset).read_text(encoding="utf-8")
    gallery = page[page.index('<ul class="suspicious">') :]
    gallery = gallery[: gallery.index("</ul>")]
    assert len(re.findall(r'<img src="data:image/png', gallery)) == MAX_SUSPICIOUS
    assert "a folder/&lt;" in gallery
    assert "a folder/<" not in page


def test_cross_validation_comes_first_where_it_has_more_images_than_validation(run: RunFolder) -> None:
    contents = load_run(run)
    first, second = headlines(contents)
    assert (first.where, first.n_images) == ("in cross-validation", 240)
    assert second.where == "on validation"
    assert second.n_images < 240
    held_out = read_held_out(run)
    assert held_out is not None
    assert first.accuracy == pytest.approx((held_out.probabilities.argmax(axis=1) == held_out.labels).mean())
    larger = dataclasses.replace(contents.evaluations["val"].metrics, n=241)
    evaluation = dataclasses.replace(contents.evaluations["val"], metrics=larger)
    contents = dataclasses.replace(contents, evaluations={**contents.evaluations, "val": evaluation})
    assert [headline.where for headline in headlines(contents)] == ["on validation", "in cross-validation"]
    page = nephros.report(run.root).read_text(encoding="utf-8")
    assert "accuracy in <b>cross-validation</b>, 240 images" in page


def test_the_review_is_what_cross_validation_says(run: RunFolder, dataset: Dataset) -> None:
    contents = load_run(run)
    review = review_finetuning(contents, dataset)
    assert review is not None
    assert (review.n_images, review.folds) == (240, "3-fold cross-validation")
    assert review.n_suspicious >= N_WRONG * 0.8
    assert len(review.suspicious) == len(review.tiles) == min(MAX_SUSPICIOUS, review.n_suspicious)
    assert [row.low for row in review.recalls] == sorted(row.low for row in review.recalls)
    assert review.learning_curve.count(" with ") == 3
    assert review.choice == ""
    assert all("labeled" in tile.alt and "a folder/" in tile.alt for tile in review.tiles)
    without_images = review_finetuning(contents, None)
    assert without_images is not None
    assert (without_images.tiles, without_images.n_suspicious) == ([], review.n_suspicious)
    others = dataclasses.replace(dataset, train=Split(*square_images(240, 3, seed=9)))
    assert review_finetuning(contents, others) == without_images


def test_a_run_of_an_earlier_version_has_no_learning_curve(run: RunFolder, dataset: Dataset) -> None:
    complete = run.info()
    record = dict(complete.finetuning or {})
    del record["learning_curve"]
    run.write_info(dataclasses.replace(complete, finetuning=record))  # type: ignore[arg-type]
    try:
        review = review_finetuning(load_run(run), dataset)
        assert review is not None
        assert review.learning_curve == ""
    finally:
        run.write_info(complete)


def test_other_runs_have_no_review(run_folder: RunFolder) -> None:
    assert review_finetuning(load_run(run_folder), None) is None


def test_most_wrong_labels_are_found(run: RunFolder, dataset: Dataset) -> None:
    held_out = read_held_out(run)
    assert held_out is not None
    rows = suspicious_labels(held_out.probabilities, held_out.labels, dataset.class_names, dataset.train.names)
    assert sum(row.index < N_WRONG for row in rows) >= 0.8 * N_WRONG
