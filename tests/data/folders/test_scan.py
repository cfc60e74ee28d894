"""Folders of images: where classes, splits and groups lie, what is skipped, and which layouts are refused."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from nephros.data.dataset import Dataset
from nephros.data.folders.opening import open_folder
from nephros.errors import FileError
from tests.data.folders.test_opening import assert_rejected, fill_folder, save_image

CLASSES = ("disc", "ring")


def fill_layout(root: Path, layout: str, groups: Iterable[str], n: int = 4) -> Path:
    """Write `n` images per class and group to where `layout` says, each with a unique gray value."""
    value = 0
    for name in CLASSES:
        for group in groups:
            for index in range(n):
                value += 1
                save_image(root / layout.format(cls=name, group=group) / f"{index}.png", value=value)
    return root


def splits_of_groups(dataset: Dataset, n_groups: int, n: int = 4) -> list[set[str]]:
    """Return for each group of `fill_layout` the splits that its images are in."""
    splits: list[set[str]] = [set() for _ in range(n_groups)]
    for name, split in dataset.splits():
        for value in split.images[:, 0, 0].tolist():
            splits[(value - 1) // n % n_groups].add(name)
    return splits


@pytest.mark.parametrize(
    "names",
    [
        ("0", "1", "2", "10"),
        ("grade 2", "grade 10"),
        ("-1", "0.25", "0.5", "2"),
        ("a", "a1", "a2", "a10", "b"),
        ("1 x", "2", "x"),
    ],
)
def test_numbers_in_class_names_sort_by_value(tmp_path: Path, names: tuple[str, ...]) -> None:
    dataset = open_folder(fill_folder(tmp_path / "cells", dict.fromkeys(names[::-1], 3)))
    assert dataset.class_names == names


def test_splits_by_folder_are_kept(tmp_path: Path) -> None:
    for split, counts in {"train": {"a": 4, "b": 2}, "val": {"a": 1, "b": 1}, "test": {"a": 2}}.items():
        fill_folder(tmp_path / split, counts)
    dataset = open_folder(tmp_path)
    assert dataset.class_names == ("a", "b")
    assert [split.class_counts(2).tolist() for _, split in dataset.splits()] == [[4, 2], [1, 1], [2, 0]]
    assert dataset.provenance.detail == "split by its folders train, val and test"
    assert len(dataset.warnings) == 1
    assert "test has no image of b" in dataset.warnings[0]


def test_other_files_are_ignored(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 3, "__MACOSX": 3, ".hidden": 3})
    for stray in (".DS_Store", "notes.txt", "a/.DS_Store", "a/._000.png", "a/notes.txt", "b/Thumbs.db"):
        (tmp_path / stray).write_bytes(b"stray")
    assert open_folder(tmp_path).class_names == ("a", "b")


def test_images_in_subfolders_of_a_class_are_read(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 3, "b/patient 1": 4, "b/patient 2/left": 5, "b/.trash": 2})
    (tmp_path / "b" / "loop").symlink_to(tmp_path / "b", target_is_directory=True)
    dataset = open_folder(tmp_path)
    assert np.sum([split.class_counts(2) for _, split in dataset.splits()], axis=0).tolist() == [3, 12]
    nested, skipped = dataset.warnings
    assert "9 of 15 images" in nested
    assert "b/patient 1" in nested
    assert "1 hidden" in skipped
    assert "1 by links" in skipped


def test_subfolders_are_read_where_folders_give_the_split(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        fill_folder(tmp_path / split, {"a": 1, "b/patient": 2})
    dataset = open_folder(tmp_path)
    assert [split.class_counts(2).tolist() for _, split in dataset.splits()] == [[1, 2]] * 3
    assert "6 of 9 images" in dataset.warnings[0]


def test_skipped_files_are_counted_by_kind(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 3})
    save_image(tmp_path / "loose.png")
    for name in ("a/1.bmp", "a/2.BMP", "a/3.webp", "b/4.jfif", "b/.DS_Store", "labels.csv", "b/noise"):
        (tmp_path / name).write_bytes(b"other")
    (warning,) = open_folder(tmp_path).warnings
    for count in (
        "2 .bmp",
        "1 .webp",
        "1 .jfif",
        "1 hidden",
        "1 .csv",
        "1 without a suffix",
        "1 .png outside",
        "8 in all",
    ):
        assert count in warning


def test_what_lies_beside_the_splits_is_counted(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        fill_folder(tmp_path / split, {"a": 1, "b": 1})
    fill_folder(tmp_path / "more", {"a": 9})
    save_image(tmp_path / "train" / "loose.tif")
    (warning,) = open_folder(tmp_path).warnings
    assert "folder more" in warning
    assert "1 .tif outside" in warning


def test_a_class_without_readable_images_names_its_other_files(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 1})
    (tmp_path / "b" / "1.bmp").write_bytes(b"BM")
    assert_rejected(tmp_path, "has 1 image", "1 .bmp")


def test_folders_with_too_few_classes_or_images_are_refused(tmp_path: Path) -> None:
    assert_rejected(tmp_path / "missing", "is not a folder")
    save_image(tmp_path / "loose.png")
    assert_rejected(tmp_path, "no class folders", "one subfolder per class")
    fill_folder(tmp_path, {"a": 3})
    assert_rejected(tmp_path, "one class only")
    fill_folder(tmp_path, {"b": 2})
    assert_rejected(tmp_path, str(tmp_path / "b"), "has 2 images", "at least 3")


@pytest.mark.parametrize(
    "names",
    [
        ("Train", "Val", "Test"),
        ("TRAINING", "Validation", "testing"),
        ("train", "valid", "test"),
        ("train", "dev", "holdout"),
        ("1_train", "2_val", "3_test"),
        ("cells_train", "cells_val", "cells_test"),
        ("train2017", "val2017", "test2017"),
    ],
)
def test_splits_under_other_names_are_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name, n in zip(names, (4, 2, 3), strict=True):
        fill_folder(tmp_path / name, {"a": n, "b": n})
    dataset = open_folder(tmp_path)
    assert dataset.class_names == ("a", "b")
    assert [len(split) for _, split in dataset.splits()] == [8, 4, 6]
    assert all(name in dataset.provenance.detail for name in names)


@pytest.mark.parametrize(
    ("names", "sizes"),
    [
        (("train", "Testing"), [28, 4, 8]),
        (("training", "valid"), [28, 8, 8]),
        (("train",), [28, 4, 8]),
        (("train", "holdout"), [28, 4, 8]),
    ],
)
def test_missing_splits_are_drawn_from_train(tmp_path: Path, names: tuple[str, ...], sizes: list[int]) -> None:
    n_train = {"Testing": 16, "holdout": 16, "valid": 18, "train": 20}[names[-1]]
    for name, n in zip(names, (n_train, 4), strict=False):
        fill_folder(tmp_path / name, {"a": n, "b": n})
    dataset = open_folder(tmp_path, seed=3)
    assert [len(split) for _, split in dataset.splits()] == sizes
    assert all(split.class_counts(2).min() == split.class_counts(2).max() for _, split in dataset.splits())
    assert "drawn from train" in dataset.provenance.detail
    assert "seed 3" in dataset.provenance.detail
    other = open_folder(tmp_path, seed=4)
    assert not np.array_equal(other.train.images, dataset.train.images)
    if "Testing" in names:
        assert np.array_equal(other.test.images, dataset.test.images)


def test_splits_that_can_not_be_told_are_refused(tmp_path: Path) -> None:
    for number, names in enumerate((("val", "test"), ("train", "training"), ("train_1", "train_2", "test"))):
        root = tmp_path / str(number)
        for name in names:
            fill_folder(root / name, {"a": 3, "b": 3})
        assert_rejected(root, *names[:2], "train, val and test")


def test_splits_without_images_or_classes_are_refused(tmp_path: Path) -> None:
    fill_folder(tmp_path / "train", {"a": 2})
    fill_folder(tmp_path / "test", {"a": 2, "b": 1})
    (tmp_path / "val").mkdir()
    assert_rejected(tmp_path, f"{tmp_path / 'test' / 'b'} is a class folder", "training images")
    fill_folder(tmp_path / "train", {"b": 2})
    assert_rejected(tmp_path, f"{tmp_path / 'val'} has no images")
    save_image(tmp_path / "flat" / "train" / "1.png")
    save_image(tmp_path / "flat" / "test" / "2.png")
    assert_rejected(tmp_path / "flat", "no class folders", "2 images")


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    assert open_folder(fill_folder(tmp_path / "a", {"train": 3, "bus": 3})).class_names == ("bus", "train")
    assert open_folder(fill_folder(tmp_path / "b", {"test": 3, "control": 3})).class_names == ("control", "test")


def test_folders_for_splits_in_each_class_are_splits(tmp_path: Path) -> None:
    for split, n in (("Train", 4), ("Test", 2), ("val", 1)):
        fill_layout(tmp_path, f"{{cls}}/{split}", [""], n)
    dataset = open_folder(tmp_path)
    assert dataset.class_names == CLASSES
    assert [split.class_counts(2).tolist() for _, split in dataset.splits()] == [[4, 4], [1, 1], [2, 2]]
    save_image(tmp_path / "ring" / "loose.png")
    with pytest.raises(FileError) as caught:
        open_folder(tmp_path)
    assert caught.value.path == tmp_path / "ring" / "loose.png"


@pytest.mark.parametrize("layout", ["{cls}/{group}", "{cls}/{group}/left", "{cls}/images/{group}"])
def test_images_of_one_subfolder_stay_in_one_split(tmp_path: Path, layout: str) -> None:
    dataset = open_folder(fill_layout(tmp_path, layout, [f"patient {i}" for i in range(10)]))
    assert [len(splits) for splits in splits_of_groups(dataset, 10)] == [1] * 10
    assert [len(split) for _, split in dataset.splits()] == [56, 8, 16]
    assert dataset.provenance.n_groups == 10
    assert "10 groups (the subfolders of class folders)" in dataset.provenance.detail
    assert "`groups`" in dataset.warnings[0]
    ungrouped = open_folder(tmp_path, groups="none")
    assert ungrouped.provenance.n_groups is None
    assert max(len(splits) for splits in splits_of_groups(ungrouped, 10)) > 1
    assert "by image" in ungrouped.warnings[0]


@pytest.mark.parametrize(
    "group", ["patient {}", "P{:02}", "slide_{}", "donor-{}", "{}345", "Mouse {}a", "fold{}", "Batch_{}", "id00{}"]
)
def test_folders_named_like_patients_are_groups_of_the_classes_in_them(tmp_path: Path, group: str) -> None:
    names = [group.format(number) for number in range(1, 6)]
    dataset = open_folder(fill_layout(tmp_path, "{group}/{cls}", names))
    assert dataset.class_names == CLASSES
    assert [len(splits) for splits in splits_of_groups(dataset, 5)] == [1] * 5
    assert "`groups`" in dataset.warnings[0]


def test_groups_decides_between_patients_and_classes_on_top(tmp_path: Path) -> None:
    fill_layout(tmp_path, "{group}/{cls}", ["Anna", "Bert", "Cleo", "Dora"])
    with pytest.raises(FileError, match="`groups`"):
        open_folder(tmp_path)  # four classes, of two groups
    assert open_folder(tmp_path, groups="folders").class_names == CLASSES
    assert open_folder(tmp_path, groups="none").class_names == ("Anna", "Bert", "Cleo", "Dora")
    fill_layout(tmp_path / "stages", "{group}/{cls}", ["case 1", "case 2"])
    fill_layout(tmp_path / "stages", "{group}/third", ["case 1", "case 2"])
    assert open_folder(tmp_path / "stages", groups="subfolders").class_names == ("case 1", "case 2")


def test_folders_that_tell_nothing_apart_are_no_groups(tmp_path: Path) -> None:
    for number, layout in enumerate(("{cls}/images", "{cls}/PNG", "{cls}/all cells")):
        dataset = open_folder(fill_layout(tmp_path / str(number), layout, [""], 10))
        assert dataset.provenance.detail == "split 7:1:2 by class with seed 0"
        assert [len(split) for _, split in dataset.splits()] == [14, 2, 4]


def test_too_few_groups_are_refused_unless_they_are_none(tmp_path: Path) -> None:
    for number, (layout, groups) in enumerate(
        [("{cls}/{group}", ["P1", "P2"]), ("{cls}/{cls} {group}", ["1"]), ("{cls}/{group}", ["raw", "augmented"])]
    ):
        root = fill_layout(tmp_path / str(number), layout, groups, 6)
        assert_rejected(root, "2 groups", "at least 3 groups", "`groups`")
        assert sum(len(split) for _, split in open_folder(root, groups="none").splits()) == 12 * len(groups)


def test_a_patient_in_two_split_folders_is_named(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        fill_layout(tmp_path / split, "{cls}/{group}", ["P1", f"P1{split}"])
    warnings = open_folder(tmp_path).warnings
    assert any("1 of 4 groups" in warning and "P1 in train, val and test" in warning for warning in warnings)


def test_names_that_are_no_text_are_read_or_refused(tmp_path: Path) -> None:
    fill_layout(tmp_path / "a", "{cls}/{group}", [f"P\udcfe{i}" for i in range(4)])
    dataset = open_folder(tmp_path / "a")
    assert dataset.provenance.n_groups == 4
    assert all(warning.encode() for warning in dataset.warnings)
    for root in (
        fill_folder(tmp_path / "b\udcff", {"a": 3, "b": 3}),
        fill_folder(tmp_path / "c", {"a": 3, "b\udcff": 3}),
    ):
        with pytest.raises(FileError):
            open_folder(root)


def test_one_folder_around_the_classes_is_named(tmp_path: Path) -> None:
    fill_layout(tmp_path, "cells/{cls}", [""])
    assert_rejected(tmp_path, "one class only", f"give {tmp_path / 'cells'}")
    fill_layout(tmp_path / "pairs", "images", [""])
    fill_layout(tmp_path / "pairs", "masks", [""])
    assert_rejected(tmp_path / "pairs", "images and masks", "not classes")


def test_folds_that_are_data_sets_of_their_own_are_refused(tmp_path: Path) -> None:
    for splits in (("train",), ("train", "test")):
        root = tmp_path / "-".join(splits)
        for fold in ("fold_1", "fold_2"):
            for split in splits:
                fill_layout(root / fold / split, "{cls}", [""])
        assert_rejected(root, "fold_1 and fold_2", "give the path")
        assert open_folder(root / "fold_1").class_names == CLASSES


@pytest.mark.parametrize(
    ("in_train", "in_test", "is_noted"),
    [
        ("Disc", "disc", True),
        ("disc cell", "disc_cell", True),
        ("disc", "disc ", True),
        ("3", "class 03", True),
        (unicodedata.normalize("NFC", "Zellkörper"), unicodedata.normalize("NFD", "Zellkörper"), False),
    ],
)
def test_a_class_may_be_spelled_differently_in_train_and_test(
    tmp_path: Path, in_train: str, in_test: str, is_noted: bool
) -> None:
    fill_folder(tmp_path / "train", {in_train: 8, "ring": 8})
    fill_folder(tmp_path / "test", {in_test: 4, "ring": 3})
    dataset = open_folder(tmp_path)
    assert set(dataset.class_names) == {in_train, "ring"}
    label = dataset.class_names.index(in_train)
    assert dataset.test.class_counts(2)[label] == 4
    assert any("spelled differently" in warning for warning in dataset.warnings) == is_noted


def test_patients_may_spell_classes_differently(tmp_path: Path) -> None:
    for number in range(6):
        fill_folder(tmp_path / f"P0{number}", {"Disc" if number % 2 else "disc": 3, "ring": 3})
    dataset = open_folder(tmp_path)
    assert dataset.class_names == ("disc", "ring")
    assert dataset.provenance.n_groups == 6


def test_classes_that_differ_in_case_are_named(tmp_path: Path) -> None:
    dataset = open_folder(fill_folder(tmp_path, {"Disc": 4, "disc": 4}))
    assert dataset.n_classes == 2
    assert any("Disc and disc" in warning for warning in dataset.warnings)


def test_patients_in_the_names_of_files_are_named_and_kept_together(tmp_path: Path) -> None:
    for value, (name, patient, cell) in enumerate((k, p, c) for k in CLASSES for p in range(6) for c in range(3)):
        save_image(tmp_path / name / f"{name}_P{patient:02}_cell{cell}.png", value=value)
    dataset = open_folder(tmp_path)
    assert dataset.provenance.n_groups is None
    assert any("`groups`" in warning and "p00" in warning for warning in dataset.warnings)
    assert not any("`groups`" in warning for warning in open_folder(tmp_path, groups="none").warnings)
    grouped = open_folder(tmp_path, groups="names")
    assert grouped.provenance.n_groups == 6
    assert "the names of the files" in grouped.provenance.detail
    splits_of: dict[int, set[str]] = {}
    for split_name, split in grouped.splits():
        for value in split.images[:, 0, 0].tolist():
            splits_of.setdefault(value // 3 % 6, set()).add(split_name)
    assert [len(names) for names in splits_of.values()] == [1] * 6
    with pytest.raises(FileError, match="`groups`"):
        open_folder(fill_folder(tmp_path / "plain", {"a": 4, "b": 4}), groups="names")


def test_classes_named_like_patients_are_named(tmp_path: Path) -> None:
    assert any("P01" in w for w in open_folder(fill_folder(tmp_path / "a", {"P01": 4, "P02": 4})).warnings)
    assert not open_folder(fill_folder(tmp_path / "b", {"001": 4, "002": 4})).warnings
