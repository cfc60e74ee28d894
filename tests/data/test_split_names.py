"""Names that stand for splits, and those that look like it."""

from __future__ import annotations

import pytest

from nephros.data.split_names import DuplicateSplitError, find_splits, is_split_word


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("Train", "Val", "Test"), "Train Val Test"),
        (("TRAIN", "VALIDATION", "TEST"), "TRAIN VALIDATION TEST"),
        (("training", "validation", "testing"), "training validation testing"),
        (("train", "valid", "test"), "train valid test"),
        (("train", "dev", "test"), "train dev test"),
        (("trainSet", "testSet"), "trainSet - testSet"),
        (("train_set", "val-set", "test set"), "train_set val-set test set"),
        (("train2017", "val2017"), "train2017 val2017 -"),
        (("1_train", "2_val", "3_test"), "1_train 2_val 3_test"),
        (("cells_train", "cells_test", "notes"), "cells_train - cells_test"),
        (("train", "holdout"), "train - holdout"),
        (("train", "Hold-Out", "test"), "train Hold-Out test"),
        (("train", "val", "held_out"), "train val held_out"),
        (("train", "eval"), "train - eval"),
        (("train", "val", "test", "test2"), "train val test"),
        (("train", "val", "dev", "test", "holdout"), "train val test"),
        (("train", "ring"), "train - -"),
        (("val", "test"), "- val test"),
    ],
)
def test_splits_are_found_by_their_names(names: tuple[str, ...], splits: str) -> None:
    by_split = find_splits(names)
    expected = [name.replace("_", " ") for name in splits.replace("test set", "test_set").split()]
    assert [by_split.get(split, "-").replace("_", " ") for split in ("train", "val", "test")] == expected


@pytest.mark.parametrize(
    "names",
    [("test", "control"), ("dev", "prod"), ("testis", "vale"), ("test cell", "train ring"), ("trainer", "tester"), ()],
)
def test_classes_are_not_taken_for_splits(names: tuple[str, ...]) -> None:
    assert find_splits(names) == {}


@pytest.mark.parametrize(
    "names", [("train_1", "train_2", "test"), ("Train", "train", "test"), ("a_train", "a_test", "b_train", "b_test")]
)
def test_two_names_for_one_split_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(DuplicateSplitError):
        find_splits(names)


def test_a_split_word_stands_alone() -> None:
    assert all(map(is_split_word, ("TRAIN", "Validation", "held-out")))
    assert not any(map(is_split_word, ("train_1", "3", "", "cells train")))
