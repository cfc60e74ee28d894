"""Images beside a table of labels: how rows find their files, and MedMNIST's folder of PNG files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nephros.data.dataset import Dataset
from nephros.data.folders.opening import open_folder
from nephros.data.load import load_dataset
from nephros.data.medmnist import MEDMNIST
from nephros.data.npz.opening import open_npz
from nephros.errors import FileError
from tests.data.folders.test_opening import save_image

N = 10
"""Images per class."""


def save_images(root: Path, names: str = "{cls}{i}.png") -> list[tuple[str, str, int]]:
    """Save `N` images of each of two classes, and return file, class and number of each."""
    rows = []
    for c, cls in enumerate(("disc", "ring")):
        for i in range(N):
            name = names.format(cls=cls, i=i)
            save_image(root / name, value=1 + N * c + i)
            rows.append((name, cls, i))
    return rows


def write_table(path: Path, rows: Iterable[Iterable[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")
    return path


def assert_classes(dataset: Dataset) -> None:
    assert dataset.class_names == ("disc", "ring")
    assert sum(len(split) for _, split in dataset.splits()) == 2 * N
    for _, split in dataset.splits():
        assert ((split.images[:, 0, 0] > N) == split.labels).all()


@pytest.mark.parametrize(
    ("image_names", "written"),
    [
        ("{cls}{i}.png", "{cls}{i}.png"),
        ("images/{cls}{i}.png", "{cls}{i}.png"),
        ("images/{cls}{i}.png", "images/{cls}{i}.png"),
        ("images/{cls}{i}.tif", "{cls}{i}"),
        ("{cls}{i}.PNG", "{cls}{i}.png"),
        ("images/{cls}{i}.png", "{cls}{i}.tif"),
        ("images/{cls}{i}.png", "C:\\Users\\me\\images\\{cls}{i}.png"),
        ("images/{cls}/{i}.png", "/data/images/{cls}/{i}.png"),
        ("images/{cls}{i}.png", "./images/{cls}{i}.png"),
    ],
)
@pytest.mark.parametrize("place", ["inside", "beside", "table"])
def test_rows_find_their_images(tmp_path: Path, image_names: str, written: str, place: str) -> None:
    root = tmp_path / "cells"
    rows = [(written.format(cls=cls, i=i), cls) for _, cls, i in save_images(root, image_names)]
    table = write_table(
        tmp_path / "cells.csv" if place == "beside" else root / "labels.csv", [("file", "label"), *rows]
    )
    dataset = open_folder(table if place == "table" else root)
    assert_classes(dataset)
    assert "split 7:1:2 by class with seed 0" in dataset.provenance.detail
    assert table.name in dataset.provenance.detail
    assert dataset.warnings == ()


def test_a_table_gives_splits_and_groups(tmp_path: Path) -> None:
    rows = save_images(tmp_path)
    splits = ("Train", "Train", "Validation", "Test")
    write_table(
        tmp_path / "t.csv", [("file", "label", "split"), *((file, cls, splits[i % 4]) for file, cls, i in rows)]
    )
    dataset = open_folder(tmp_path)
    assert_classes(dataset)
    assert [len(split) for _, split in dataset.splits()] == [12, 4, 4]
    write_table(
        tmp_path / "t.csv", [("file", "label", "patient"), *((file, cls, f"p{i % 5}") for file, cls, i in rows)]
    )
    for groups, n_groups in (("auto", 5), ("none", None)):
        dataset = open_folder(tmp_path, groups=groups)
        assert dataset.provenance.n_groups == n_groups
        patients = [set(((split.images[:, 0, 0].astype(int) - 1) % 5).tolist()) for _, split in dataset.splits()]
        assert (sum(map(len, patients)) == 5) == (groups == "auto")


def test_a_table_per_split_gives_the_splits(tmp_path: Path) -> None:
    rows = save_images(tmp_path / "one")
    for s, split in enumerate(("train", "val", "test")):
        write_table(tmp_path / "one" / f"{split}.csv", [("file", "label"), *(r[:2] for r in rows if r[2] % 3 == s)])
    for split in ("train", "valid", "test"):
        names = save_images(tmp_path / "two" / split)
        write_table(
            tmp_path / "two" / split / "_classes.csv",
            [("filename", "disc", "ring"), *((file, int(cls == "disc"), int(cls == "ring")) for file, cls, _ in names)],
        )
    assert_classes(open_folder(tmp_path / "one"))
    assert [len(split) for _, split in open_folder(tmp_path / "one").splits()] == [8, 6, 6]
    assert [len(split) for _, split in open_folder(tmp_path / "two").splits()] == [20, 20, 20]


def test_folders_for_splits_hold_where_the_table_has_none(tmp_path: Path) -> None:
    rows = save_images(tmp_path, "train/{cls}{i}.png") + save_images(tmp_path, "test/{cls}{i}.png")
    write_table(tmp_path / "labels.csv", [("file", "label"), *(row[:2] for row in rows)])
    dataset = open_folder(tmp_path)
    assert [len(split) for _, split in dataset.splits()] == [18, 2, 20]
    assert "its folders train and test" in dataset.provenance.detail


def test_what_is_not_read_is_counted(tmp_path: Path) -> None:
    rows = [row[:2] for row in save_images(tmp_path)]
    save_image(tmp_path / "extra.png")
    table = write_table(tmp_path / "t.csv", [("file", "label"), *rows, rows[3], ("extra.png", "")])
    unlabeled, repeated = open_folder(tmp_path).warnings[:2]
    assert "1 lines of t.csv have no label" in unlabeled
    assert "1 lines" in repeated
    write_table(table, [("file", "label"), *rows])
    (warning,) = open_folder(tmp_path).warnings
    assert "1 of 21 images" in warning


def test_rows_that_contradict_or_name_no_image_are_refused(tmp_path: Path) -> None:
    rows = [row[:2] for row in save_images(tmp_path)]
    save_image(tmp_path / "a" / "same.png")
    save_image(tmp_path / "b" / "same.png")
    for last, line in (
        (("gone.png", "ring"), "line 22"),
        (("same.png", "ring"), "line 22"),
        (("ring3.png", "disc"), "15 and 22"),
    ):
        table = write_table(tmp_path / "t.csv", [("file", "label"), *rows, last])
        with pytest.raises(FileError, match=line) as caught:
            open_folder(tmp_path)
        assert caught.value.path == table
    write_table(tmp_path / "t.csv", [("file", "label"), *((file, "one") for file, _ in rows)])
    with pytest.raises(FileError, match="1 class"):
        open_folder(tmp_path)
    (tmp_path / "second.csv").write_bytes((tmp_path / "t.csv").read_bytes())
    with pytest.raises(FileError, match=r"second\.csv and t\.csv.*`data`"):
        open_folder(tmp_path)


def test_class_folders_win_over_a_table_which_is_named(tmp_path: Path) -> None:
    rows = save_images(tmp_path, "{cls}/{i}.png")
    table = write_table(
        tmp_path / "patients.csv", [("file", "label", "patient"), *((f, c, f"p{i % 5}") for f, c, i in rows)]
    )
    dataset = open_folder(tmp_path)
    assert dataset.provenance.n_groups is None
    assert any("patients.csv" in warning and "instead of the folder's" in warning for warning in dataset.warnings)
    assert load_dataset(table).provenance.n_groups == 5


def test_the_digest_covers_the_table(tmp_path: Path) -> None:
    rows = [row[:2] for row in save_images(tmp_path)]
    digests = []
    for swap in (False, True):
        rows[0], rows[N] = ((rows[0][0], rows[N][1]), (rows[N][0], rows[0][1])) if swap else (rows[0], rows[N])
        write_table(tmp_path / "t.csv", [("file", "label"), *rows])
        digests.append(open_folder(tmp_path).provenance.sha256)
    assert digests[0] != digests[1]


def save_as_medmnist(folder: Path, flag: str, with_table: bool) -> dict[str, Any]:
    """Save random images as the ``medmnist`` package does, and return the arrays of its npz file."""
    rng, lines = np.random.default_rng(0), []
    arrays: dict[str, Any] = {}
    (folder / flag).mkdir(parents=True)
    for split, word, n in (("train", "TRAIN", 24), ("val", "VALIDATION", 11), ("test", "TEST", 16)):
        images = arrays[f"{split}_images"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        labels = arrays[f"{split}_labels"] = (np.arange(n) % 8)[:, None]
        for i, (image, label) in enumerate(zip(images, labels[:, 0], strict=True)):
            name = f"{split}{i}_{label}.png"
            Image.fromarray(image).save(folder / flag / name)
            lines.append(f"{word},{name},{label}\n")
    if with_table:
        (folder / f"{flag}.csv").write_text("".join(lines))
    return arrays


@pytest.mark.parametrize("with_table", [True, False])
@pytest.mark.parametrize("flag", ["tissuemnist", "tissuemnist_64"])
def test_medmnist_s_folder_holds_what_its_file_holds(tmp_path: Path, flag: str, with_table: bool) -> None:
    arrays = save_as_medmnist(tmp_path / "saved", flag, with_table)
    np.savez(tmp_path / "tissuemnist.npz", **arrays)
    expected = open_npz(tmp_path / "tissuemnist.npz")
    places = [tmp_path / "saved" / flag]
    places += [tmp_path / "saved", tmp_path / "saved" / f"{flag}.csv"] if with_table else []
    for place in places:
        dataset = load_dataset(place)
        for name, split in dataset.splits():
            assert np.array_equal(split.images, expected.split(name).images)
            assert np.array_equal(split.labels, expected.split(name).labels)
        assert dataset.class_names == MEDMNIST["tissuemnist"].class_names
        assert dataset.provenance.title == "TissueMNIST, own split"
        assert dataset.provenance.key == "tissuemnist"


def test_medmnist_s_multi_label_set_is_refused(tmp_path: Path) -> None:
    save_image(tmp_path / "chestmnist" / "train0_0_1_0.png")
    (tmp_path / "chestmnist.csv").write_text("TRAIN,train0_0_1_0.png,0,1,0\n")
    with pytest.raises(FileError, match="several labels"):
        open_folder(tmp_path / "chestmnist")
