"""Npz files whose arrays are called otherwise than MedMNIST's, or lack splits, and files with groups."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nephros.data.dataset import Dataset
from nephros.data.load import load_dataset
from nephros.data.npz import arrays as npz_arrays
from nephros.data.npz.opening import open_npz
from nephros.data.npz.stream import ImageArray, open_image_arrays
from nephros.errors import FileError, InvalidArgument

N = 60
LABELS = np.arange(N) % 3
IMAGES = (np.arange(N)[:, None, None] + np.zeros((6, 5))).astype(np.uint8)
"""Each image is one gray value, its own number."""
Arrays = dict[str, Any]


def write(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def rows(dataset: Dataset) -> list[list[int]]:
    """Return the numbers of the images in each split."""
    return [split.images[:, 0, 0].tolist() for _, split in dataset.splits()]


def assert_all_images_are_there(dataset: Dataset) -> None:
    assert sorted(row for part in rows(dataset) for row in part) == list(range(N))
    for _, split in dataset.splits():
        assert (split.labels == split.images[:, 0, 0] % 3).all()


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("{}_imgs", "{}_targets"),
        ("x_{}", "y_{}"),
        ("X_{}", "Y_{}"),
        ("{}_x", "{}_y"),
        ("{}X", "{}y"),
        ("{}_data", "{}_labels"),
        ("images_{}", "labels_{}"),
        ("{} images", "{}-target"),
    ],
)
@pytest.mark.parametrize(
    "splits", [("train", "val", "test"), ("training", "validation", "testing"), ("Train", "dev", "holdout")]
)
def test_other_names_of_splits_images_and_labels_are_read(
    tmp_path: Path, images: str, labels: str, splits: tuple[str, ...]
) -> None:
    ranges = [slice(0, 36), slice(36, 45), slice(45, 60)]
    arrays: Arrays = {images.format(name): IMAGES[part] for name, part in zip(splits, ranges, strict=True)}
    arrays |= {labels.format(name): LABELS[part] for name, part in zip(splits, ranges, strict=True)}
    dataset = open_npz(write(tmp_path / "a.npz", **arrays))
    assert rows(dataset) == [list(range(part.start, part.stop)) for part in ranges]
    assert_all_images_are_there(dataset)
    assert dataset.warnings == ()


@pytest.mark.parametrize(
    "names",
    [("images", "labels"), ("X", "y"), ("data", "target"), ("arr_0", "arr_1"), ("cells", "types"), ("Images", "Label")],
)
def test_a_file_without_splits_is_split_by_the_rule_that_it_states(tmp_path: Path, names: tuple[str, str]) -> None:
    path = write(tmp_path / "a.npz", **dict(zip(names, (IMAGES, LABELS), strict=True)), ids=np.arange(N))
    if names[0] in ("arr_0", "cells"):
        path = write(tmp_path / "a.npz", **dict(zip(names, (IMAGES, LABELS), strict=True)))
    dataset = load_dataset(path, seed=3)
    assert_all_images_are_there(dataset)
    assert [split.class_counts(3).tolist() for _, split in dataset.splits()] == [[14] * 3, [2] * 3, [4] * 3]
    assert dataset.provenance.detail.startswith("split 7:1:2 by class with seed 3")
    assert rows(load_dataset(path, seed=3)) == rows(dataset)
    assert rows(load_dataset(path, seed=4)) != rows(dataset)


@pytest.mark.parametrize(("given", "drawn"), [("test", "val"), ("val", "test")])
def test_a_missing_split_is_drawn_from_train(tmp_path: Path, given: str, drawn: str) -> None:
    arrays = {"x_train": IMAGES[:45], "y_train": LABELS[:45], f"x_{given}": IMAGES[45:], f"y_{given}": LABELS[45:]}
    dataset = open_npz(write(tmp_path / "keras.npz", **arrays), seed=1)
    assert_all_images_are_there(dataset)
    assert dataset.split(given).images[:, 0, 0].tolist() == list(range(45, 60))
    assert len(dataset.split(drawn)) == {"val": 6, "test": 9}[drawn]
    assert f"{drawn} drawn from train" in dataset.provenance.detail
    assert "seed 1" in dataset.provenance.detail


def test_an_array_of_words_gives_the_splits(tmp_path: Path) -> None:
    words = np.array(["TRAIN", "Validation", "test"])[np.arange(N) // 3 % 3]
    dataset = open_npz(write(tmp_path / "a.npz", images=IMAGES, labels=LABELS, split=words))
    assert_all_images_are_there(dataset)
    assert rows(dataset) == [np.flatnonzero(np.arange(N) // 3 % 3 == split).tolist() for split in range(3)]
    for values in (np.arange(N) % 3, words.astype("S"), words[:5], np.full(N, "fold")):
        path = write(tmp_path / "b.npz", images=IMAGES, labels=LABELS, split=values)
        if values.dtype.kind == "S":
            assert rows(open_npz(path)) == rows(dataset)
        else:
            with pytest.raises(FileError, match="split"):
                open_npz(path)


@pytest.mark.parametrize("name", ["groups", "patient", "patient_id", "Slides"])
@pytest.mark.parametrize("kind", ["number", "text", "bytes", "column"])
def test_images_of_a_group_stay_in_one_split(tmp_path: Path, name: str, kind: str) -> None:
    numbers = np.arange(N) // 6
    values = {"number": numbers, "text": np.char.add("P", numbers.astype(str)), "column": numbers[:, None]}
    values["bytes"] = values["text"].astype("S")
    path = write(tmp_path / "a.npz", images=IMAGES, labels=LABELS, **{name: values[kind]})
    dataset = open_npz(path)
    assert_all_images_are_there(dataset)
    assert sorted(group for part in rows(dataset) for group in {row // 6 for row in part}) == list(range(10))
    assert dataset.provenance.n_groups == 10
    assert "10 groups" in dataset.provenance.detail
    assert open_npz(path, groups="none").provenance.n_groups is None
    with pytest.raises(InvalidArgument) as caught:
        load_dataset(path, groups="folders")
    assert caught.value.parameter == "groups"
    assert f"one of auto, none, {name} for a.npz" in str(caught.value)


def test_groups_per_split_are_kept_together_and_compared(tmp_path: Path) -> None:
    arrays = {"x_train": IMAGES[:45], "y_train": LABELS[:45], "x_test": IMAGES[45:], "y_test": LABELS[45:]}
    groups = {"train_groups": np.arange(45) // 5, "test_groups": np.array([0] * 3 + [20] * 12)}
    dataset = open_npz(write(tmp_path / "a.npz", **arrays, **groups))
    assert len({row // 5 for row in rows(dataset)[1]} & {row // 5 for row in rows(dataset)[0]}) == 0
    (warning,) = dataset.warnings
    assert "1 of 10 groups" in warning


def test_groups_and_splits_may_take_as_much_memory_as_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz_arrays, "MAX_NAMES_BYTES", 1000)
    monkeypatch.setenv("NEPHROS_CACHE", str(tmp_path / "cache"))
    groups = np.array([f"P{number // 6}/{'x' * 72}.tif" for number in range(N)])
    splits = np.array(["train"] * 40 + ["val"] * 10 + ["test"] * 10)
    for number, arrays in enumerate([{"groups": groups}, {"split": splits}]):
        path = write(tmp_path / f"{number}.npz", images=IMAGES, labels=LABELS, **arrays)
        assert_all_images_are_there(open_npz(path))
        with pytest.raises(FileError, match="half of the free memory"):
            open_npz(path, max_memory=2000)


def test_too_few_groups_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", images=IMAGES, labels=LABELS, groups=np.arange(N) // 30)
    with pytest.raises(FileError, match=r"2 groups.*`groups`"):
        open_npz(path)
    with pytest.raises(FileError, match="groups"):
        open_npz(write(tmp_path / "b.npz", images=IMAGES, labels=LABELS, groups=np.arange(5)))


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (("x_train", "y_train", "x_test"), "test_labels"),
        (("x_test", "y_test"), "train_images"),
        (("images",), "labels"),
        (("arr_0", "arr_1", "arr_2", "arr_3"), "images"),
        (("weights", "bias"), "images"),
    ],
)
def test_arrays_that_can_not_be_told_are_refused_with_their_names(
    tmp_path: Path, names: tuple[str, ...], missing: str
) -> None:
    arrays = {name: LABELS if name[0] == "y" or name in ("arr_1", "arr_3", "bias") else IMAGES for name in names}
    if "weights" in names:
        arrays["weights"] = LABELS
    with pytest.raises(FileError, match=f"has no {missing};") as caught:
        open_npz(write(tmp_path / "a.npz", **arrays))
    assert ", ".join(names) in str(caught.value)


def test_an_archive_of_other_files_is_named_for_what_it_is(tmp_path: Path) -> None:
    for name in ("cells.zip", "cells.npz"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("disc/1.png", b"x")
        with pytest.raises(FileError, match=r"zip archive .* disc/1\.png.*unpack"):
            load_dataset(tmp_path / name)


def test_large_images_are_split_without_being_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz_arrays, "CHUNK_BYTES", 200)
    floats = (IMAGES / 255).astype(np.float32)[:, None]
    for images in (IMAGES, floats, np.asfortranarray(IMAGES)):
        path = write(tmp_path / "a.npz", images=images, labels=LABELS)
        expected, mapped = open_npz(path), open_npz(path, max_memory=0)
        for name, split in mapped.splits():
            assert isinstance(split.images, np.memmap)
            assert np.array_equal(split.images, expected.split(name).images)
            assert np.array_equal(split.labels, expected.split(name).labels)
        assert rows(open_npz(path, max_memory=0, seed=1)) == rows(open_npz(path, seed=1)) != rows(mapped)


def test_prediction_reads_the_same_arrays(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", x_train=IMAGES, y_train=LABELS, x_test=np.repeat(IMAGES[:, None], 3, axis=1))
    first, second = open_image_arrays(path)
    assert isinstance(first, ImageArray)
    assert isinstance(second, ImageArray)
    assert [array.split for array in (first, second)] == ["train", "test"]
    assert np.array_equal(np.concatenate(list(first.iter_batches())), IMAGES)
    assert np.concatenate(list(second.iter_batches())).shape == (N, 6, 5, 3)
    (only,) = open_image_arrays(write(tmp_path / "b.npz", arr_0=(IMAGES / 255).astype(np.float32)))
    assert isinstance(only, ImageArray)
    assert next(only.iter_batches()).dtype == np.float32


@pytest.mark.parametrize("name", ["mouse", "slide_ids", "Patient No", "fold", "donor_id", "train_patient_ids"])
def test_groups_have_the_names_that_columns_have(tmp_path: Path, name: str) -> None:
    prefix = "train_" if name.startswith("train_") else ""
    arrays = {f"{prefix}images": IMAGES, f"{prefix}labels": LABELS, name: np.arange(N) // 6}
    dataset = open_npz(write(tmp_path / "a.npz", **arrays))
    assert dataset.provenance.n_groups == 10
    assert name in dataset.provenance.detail


def test_arrays_of_truth_values_give_the_splits(tmp_path: Path) -> None:
    order = np.arange(N)
    cases: dict[str, tuple[dict[str, Any], list[int]]] = {
        "is_train": ({"is_train": order < 40}, [0, 0, 2]),
        "is_valid": ({"is_valid": (order >= 40).astype(np.uint8)}, [0, 0, 1]),
        "both": ({"is_val": order // 3 % 3 == 1, "is_test": order // 3 % 3 == 2}, [0, 1, 2]),
    }
    for flags, splits in cases.values():
        dataset = open_npz(write(tmp_path / "a.npz", images=IMAGES, labels=LABELS, **flags))
        members = rows(dataset)
        for split in {1, 2} & set(splits):
            flag = np.asarray(
                flags.get("is_val", flags.get("is_valid")) if split == 1 else flags.get("is_test", order >= 40)
            )
            assert sorted(members[split]) == np.flatnonzero(flag).tolist()
        assert next(iter(flags)) in dataset.provenance.detail
    for wrong in (
        {"is_train": order < 40, "is_test": order < 50},
        {"is_train": order[:9] < 4},
        {"is_train": order / 7},
    ):
        with pytest.raises(FileError, match=r"is_train|splits"):
            open_npz(write(tmp_path / "a.npz", images=IMAGES, labels=LABELS, **wrong))
