"""Labels as files: what other programs, and nephros itself, read in them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nephros.annotation.export import LABEL_COLUMNS, export_labels, shortest_paths, write_training_data
from nephros.annotation.project import Project
from nephros.data.load import load_dataset
from nephros.data.npz.opening import open_npz
from nephros.errors import IncompleteError, UnknownName
from tests.conftest import square_images

NAMES = ["=cmd()", "<b>-tubule", "@x"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    images, labels = square_images(30, 3, 0)
    np.savez(tmp_path / "a.npz", images=images)
    project = Project.create(tmp_path / "kidney")
    project.add_cells(tmp_path / "a.npz")
    for name in [NAMES[0], "empty", *NAMES[1:]]:
        project.labels.add_class(name)
    project.labels.apply([(cell, [0, 2, 3][labels[cell]]) for cell in range(24)], "ann")
    project.labels.apply([(0, None), (1, 2)], "=bob")
    return project


def test_csv_has_the_latest_labels(project: Project, tmp_path: Path) -> None:
    assert export_labels(project, "csv", tmp_path / "labels.csv") == 23
    rows = list(csv.DictReader((tmp_path / "labels.csv").read_text(encoding="utf-8").splitlines()))
    assert tuple(rows[0]) == LABEL_COLUMNS
    assert [int(row["cell"]) for row in rows] == list(range(1, 24))
    assert (rows[0]["class"], rows[0]["annotator"], rows[0]["file"]) == (NAMES[1], "'=bob", "a.npz")
    assert {row["class"] for row in rows} == {"'=cmd()", NAMES[1], "'@x"}  # no spreadsheet takes them for formulas
    assert export_labels(project, "csv", buffer := io.BytesIO(), annotator="=bob") == 1
    assert len(buffer.getvalue().splitlines()) == 2


def test_csv_without_labels_has_the_columns(project: Project, tmp_path: Path) -> None:
    project.labels.apply([(cell, None) for cell in range(30)], "ann")
    assert export_labels(project, "csv", tmp_path / "labels.csv") == 0
    assert (tmp_path / "labels.csv").read_text(encoding="utf-8") == ",".join(LABEL_COLUMNS) + "\n"


def test_paths_are_as_short_as_they_can_be() -> None:
    files = ["/data/a/x.npz", "/data/b/x.npz", "/data/y.npz", "x.npz", "/y/a/x.npz"]
    assert shortest_paths(files) == {
        "/data/a/x.npz": "data/a/x.npz",
        "/data/b/x.npz": "b/x.npz",
        "/data/y.npz": "y.npz",
        "x.npz": "x.npz",
        "/y/a/x.npz": "y/a/x.npz",
    }


def test_npz_is_a_data_set_of_the_labeled_cells(project: Project, tmp_path: Path) -> None:
    export_labels(project, "npz", tmp_path / "labels.npz")
    with np.load(tmp_path / "labels.npz") as file:
        assert (file["train_images"].shape, file["train_labels"].shape) == ((23, 28, 28), (23, 1))
        assert file["class_names"].tolist() == NAMES
        assert np.array_equal(project.images(file["train_cells"]), file["train_images"])
        assert file["train_labels"][0, 0] == 1
    dataset = open_npz(tmp_path / "labels.npz")
    assert sum(len(split) for _, split in dataset.splits()) == 23
    assert dataset.class_names == tuple(NAMES)
    assert dataset.warnings == ()


def test_training_data_keep_the_cells_without_a_label(project: Project, tmp_path: Path) -> None:
    write_training_data(project, tmp_path / "data.npz")
    dataset = load_dataset(tmp_path / "data.npz")
    assert dataset.class_names == tuple(NAMES)
    assert sum(len(split) for _, split in dataset.splits()) == 23
    assert dataset.unlabeled is not None
    assert np.array_equal(dataset.unlabeled, project.images([0, *range(24, 30)]))
    assert dataset.input_conversion == project.info.conversion
    for _, split in dataset.splits():
        assert split.names is not None
        cells = [int(str(name).removeprefix("a.npz, image ")) for name in split.names]
        assert np.array_equal(split.images, project.images(cells))


def test_training_data_name_the_files_of_single_cells(project: Project, tmp_path: Path) -> None:
    images, _ = square_images(3, 3, 1)
    Image.fromarray(images[0]).save(tmp_path / "b.png")
    np.savez(tmp_path / "c.npz", train_images=images[1:2], test_images=images[2:])
    project.add_cells([tmp_path / "b.png", tmp_path / "c.npz"])
    write_training_data(project, tmp_path / "data.npz")
    with np.load(tmp_path / "data.npz") as file:
        assert file["names"][30:].tolist() == ["b.png", "c.npz, train image 0", "c.npz, test image 0"]


def test_what_cannot_be_exported(project: Project, tmp_path: Path) -> None:
    with pytest.raises(UnknownName):
        export_labels(project, "xlsx", tmp_path / "labels.xlsx")  # type: ignore[arg-type]
    with pytest.raises(UnknownName):
        export_labels(project, "csv", tmp_path / "labels.csv", annotator="bob")
    project.labels.apply([(cell, None) for cell in range(30)], "ann")
    for label_format in ("geojson", "npz"):
        with pytest.raises(IncompleteError):
            export_labels(project, label_format, tmp_path / "labels")
    with pytest.raises(IncompleteError):
        write_training_data(project, tmp_path / "data.npz")
    assert not list(tmp_path.glob("labels*"))
