"""Evaluating a run from Python: invalid arguments. What it stores is tested with training, in test_train.py."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from PIL import Image

import nephros
from nephros.data.load import describe
from nephros.errors import FileError, InvalidArgument
from tests.conftest import squares_dataset
from tests.workflows.test_train import QUICK

pytestmark = pytest.mark.usefixtures("reports_without_figures")


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(InvalidArgument) as exc_info:
        nephros.evaluate("runs/a", "tset")
    assert (exc_info.value.parameter, exc_info.value.value) == ("split", "tset")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError) as exc_info:
        nephros.evaluate(tmp_path)
    assert exc_info.value.path == tmp_path


def test_data_given_in_python_must_be_given_again(tmp_path: Path) -> None:
    dataset = squares_dataset(n=80)
    run = nephros.train(QUICK, dataset, out=tmp_path / "run")
    with pytest.raises(InvalidArgument) as exc_info:
        nephros.evaluate(run.root)
    assert exc_info.value.parameter == "data"
    assert nephros.evaluate(run.root, "val", dataset).accuracy == nephros.Evaluation.from_run(run, "val").accuracy


def test_classes_of_other_data_are_matched_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = squares_dataset(n=80)
    run = nephros.train(QUICK, dataset, out=tmp_path / "run")
    train, val, test = (dataclasses.replace(split, labels=3 - split.labels) for _, split in dataset.splits())
    names = dataset.class_names[::-1]
    reordered = dataclasses.replace(dataset, train=train, val=val, test=test, class_names=names)
    before = nephros.evaluate(run.root, "val", dataset)
    after = nephros.evaluate(run.root, "val", reordered)
    assert (after.labels == before.labels).all()
    assert after.accuracy == before.accuracy
    caplog.clear()
    renamed = dataclasses.replace(reordered, class_names=("another", *names[1:]))
    shared = nephros.evaluate(run.root, "val", renamed)
    assert (shared.labels == before.labels[before.labels != 3]).all()
    assert "another" in caplog.text
    assert run.file("val", "metrics.json").exists()


def test_skipped_files_are_named_in_training_evaluation_and_the_summary(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cells"
    train = squares_dataset(n=80, classes=2).train
    for index, (image, label) in enumerate(zip(train.images, train.labels, strict=True)):
        (folder / f"kind {label}" / "patient").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"kind {label}" / "patient" / f"{index:03}.png")
        (folder / f"kind {label}" / f"{index:03}.bmp").write_bytes(b"BM")
    dataset = nephros.load_dataset(folder)
    run = nephros.train(QUICK, folder, out=tmp_path / "run")
    trained = caplog.text
    caplog.clear()
    nephros.evaluate(run.root)
    evaluated = caplog.text
    for text in (trained, evaluated, "\n".join(describe(dataset).warnings), "\n".join(run.info().warnings)):
        assert "80 .bmp" in text
        assert "80 of 80 images are in subfolders" in text
