"""A project folder: made, opened, filled from files, and refused in one sentence where it is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nephros.annotation.project import Project
from nephros.errors import FileError, InvalidArgument, LockedError
from tests.conftest import square_images, squares_dataset, write_npz


def _npz(path: Path, n: int = 12, seed: int = 0) -> Path:
    np.savez(path, images=square_images(n, 3, seed)[0])
    return path


def test_cells_of_an_npz_file(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "kidney")
    file = write_npz(tmp_path / "squares.npz", dataset := squares_dataset(n=24))
    added = project.add_cells(file)
    assert (added.n_added, added.n_present, added.errors) == (24 + 6 + 6, 0, ())
    assert (project.n_cells, project.image_shape, project.name) == (36, (1, 28, 28), "kidney")
    assert np.array_equal(project.images([0, 25, 35]), np.concatenate(
        [dataset.train.images[:1], dataset.val.images[1:2], dataset.test.images[5:]]
    ))  # fmt: skip
    assert project.table.splits[::12] == ("train", "train", "val")
    assert project.location(3) is None
    labels = project.labels
    labels.add_class("tubule")
    labels.apply([(35, 0)], "ann")
    with pytest.raises(InvalidArgument):
        labels.apply([(36, 0)], "ann")
    with pytest.raises(InvalidArgument):
        project.images([36])
    project.close()
    again = Project.open(tmp_path / "kidney")
    assert again.n_cells == 36
    assert again.labels.current().tolist() == [-1] * 35 + [0]
    assert isinstance(again.images(), np.memmap)


def test_cells_are_added_once(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "kidney")
    file = _npz(tmp_path / "a.npz")
    assert project.add_cells(file).n_added == 12
    assert (added := project.add_cells(file)).n_added == 0
    assert added.n_present == 12
    images = np.concatenate([square_images(12, 3, 0)[0], square_images(3, 3, 9)[0]])
    np.savez(file, images=images)
    assert (added := project.add_cells(file)).n_added == 3
    assert (added.n_present, project.n_cells) == (12, 15)
    assert np.array_equal(project.images(), images)
    assert project.add_cells(_npz(tmp_path / "b.npz")).n_added == 12  # the same cells, of another file


def test_projects_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    first, second = Project.create(tmp_path / "a" / "kidney"), Project.create(tmp_path / "b" / "kidney")
    assert first.id != second.id
    first.add_cells(_npz(tmp_path / "a.npz"))
    assert Project.open(first.root).id == first.id
    info = json.loads((first.root / "project.json").read_text())
    del info["id"]  # as earlier versions wrote it
    (first.root / "project.json").write_text(json.dumps(info))
    assert Project.open(first.root).id == info["created"]


def test_labels_stay_with_their_cells_when_cells_are_added(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "kidney")
    project.add_cells(_npz(tmp_path / "a.npz"))
    project.labels.add_class("tubule")
    project.labels.apply([(11, 0)], "ann")
    before = project.images([11])
    project.add_cells(_npz(tmp_path / "b.npz", seed=1))
    assert project.labels.current().tolist() == [-1] * 11 + [0] + [-1] * 12
    assert np.array_equal(project.images([11]), before)


def test_files_that_cannot_be_read_are_reported_and_the_others_added(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "kidney")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    added = project.add_cells([tmp_path / "broken.png", _npz(tmp_path / "a.npz"), tmp_path / "missing.tif"])
    assert added.n_added == 12
    assert len(added.errors) == 2
    assert "broken.png" in added.errors[0]
    with pytest.raises(FileError, match=r"broken\.png"):
        project.add_cells(tmp_path / "broken.png")
    with pytest.raises(FileError) as caught:
        project.add_cells(tmp_path / "broken.png", copy=True)
    assert "broken.png" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert project.n_cells == 12


def test_folders_with_other_files_do_not_become_projects(tmp_path: Path) -> None:
    _npz(tmp_path / "a.npz")
    for make in (Project.create, Project.create_or_open):
        with pytest.raises(FileError, match=r"a\.npz"):
            make(tmp_path)
    with pytest.raises(FileError):
        Project.create(tmp_path / "a.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    project = Project.create_or_open(tmp_path / "new" / "kidney", name="Kidney 4")
    with pytest.raises(FileError):
        Project.create(project.root)
    assert Project.create_or_open(project.root).name == "Kidney 4"
    with pytest.raises(InvalidArgument):
        Project.create_or_open(project.root, model=tmp_path / "other.onnx")


def test_a_creation_that_was_killed_is_finished(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "kidney")
    project.labels.add_class("tubule")
    project.close()
    (tmp_path / "kidney" / "project.json").unlink()
    with pytest.raises(FileError, match="holds labels"):
        Project.create(tmp_path / "kidney")
    Project.create(tmp_path / "other").close()
    (tmp_path / "other" / "project.json").unlink()
    assert Project.create(tmp_path / "other").n_cells == 0


def test_one_server_for_a_project(tmp_path: Path) -> None:
    project, other = Project.create(tmp_path / "kidney"), Project.open(tmp_path / "kidney")
    with project.lock():
        with pytest.raises(LockedError), other.lock():
            pass
        with pytest.raises(LockedError):
            other.add_cells(_npz(tmp_path / "a.npz"))
        project.add_cells(tmp_path / "a.npz")  # whoever serves it, may
    with other.lock():
        pass


def _edit(**values: object):  # type: ignore[no-untyped-def]
    def edit(root: Path) -> None:
        info = json.loads((root / "project.json").read_text()) | values
        (root / "project.json").write_text(json.dumps(info))

    return edit


def _write(name: str, content: bytes):  # type: ignore[no-untyped-def]
    return lambda root: (root / name).write_bytes(content)


def _cut(name: str, keep: float):  # type: ignore[no-untyped-def]
    def cut(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(len(content) * keep)])

    return cut


@pytest.mark.parametrize(
    "damage",
    [
        _edit(format="nephros-project-2"),
        _edit(format="other"),
        _edit(image_shape=[1, 14, 56]),
        _edit(image_shape=[2, 28, 28]),
        _edit(n_cells=13),
        _edit(n_cells=-1),
        _edit(n_cells="12"),
        _edit(unknown=1),
        _edit(conversion={"resize": "other"}),
        _write("project.json", b"{"),
        _write("project.json", b"[]"),
        _write("project.json", b"\xff\xfe"),
        _write("cells.npy", b""),
        _write("cells.npy", b"\x93NUMPY"),
        _cut("cells.npy", 0.5),
        _cut("cells.csv", 0.5),
        _write("cells.csv", b""),
        _write("cells.csv", b"a,b\n1,2\n" * 12),
        _write("labels.sqlite", b"x" * 5000),
        lambda root: np.save(root / "cells.npy", np.zeros((12, 28, 28), np.float32)),
        lambda root: (root / "cells.npy").unlink(),
        lambda root: (root / "cells.csv").unlink(),
        lambda root: (root / "labels.sqlite").unlink(),
    ],
)
def test_damaged_projects_are_refused_in_one_sentence(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    project = Project.create(tmp_path / "kidney")
    project.add_cells(_npz(tmp_path / "a.npz"))
    project.close()
    damage(project.root)
    with pytest.raises(FileError) as caught:
        Project.open(project.root)
    assert "\n" not in str(caught.value)
    assert str(project.root) in str(caught.value)


def test_an_addition_that_was_cut_off_is_forgotten(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "kidney")
    project.add_cells(_npz(tmp_path / "a.npz"))
    info = (project.root / "project.json").read_bytes()
    project.add_cells(_npz(tmp_path / "b.npz", seed=1))
    (project.root / "project.json").write_bytes(info)  # as a kill just before the last file leaves it
    again = Project.open(project.root)
    assert again.n_cells == len(again.images()) == len(again.table) == 12
    assert again.add_cells(_npz(tmp_path / "c.npz", 5, seed=2)).n_added == 5
    assert Project.open(project.root).table.files[12:] == (str(tmp_path / "c.npz"),) * 5


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 81])
def test_names_of_projects(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgument):
        Project.create(tmp_path / "kidney", name=name)
    assert not (tmp_path / "kidney").exists()
