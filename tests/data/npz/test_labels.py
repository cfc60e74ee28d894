"""Labels of npz files: one-hot rows, names, truth values, and numbers that begin elsewhere than at 0."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.data.npz.opening import open_npz
from nephros.errors import FileError

SIZES = {"train": 12, "val": 6, "test": 6}
Encoder = Callable[[NDArray[np.int64]], NDArray[Any]]


def write(path: Path, encode: Encoder, **others: Any) -> Path:
    arrays: dict[str, Any] = {}
    for split, n in SIZES.items():
        arrays[f"{split}_images"] = np.zeros((n, 5, 5), np.uint8)
        arrays[f"{split}_labels"] = encode(np.arange(n) % 3)
    np.savez(path, **arrays, **others)
    return path


def one_hot(labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.eye(3, dtype=np.uint8)[labels]


UMLAUT = "Zellkörper"


@pytest.mark.parametrize(
    ("encode", "class_names"),
    [
        (lambda y: y[:, None], ("class 0", "class 1", "class 2")),
        (lambda y: y[:, None, None], ("class 0", "class 1", "class 2")),
        (lambda y: y.astype(np.float32), ("class 0", "class 1", "class 2")),
        (one_hot, ("class 0", "class 1", "class 2")),
        (lambda y: one_hot(y).astype(float), ("class 0", "class 1", "class 2")),
        (lambda y: one_hot(y) > 0, ("class 0", "class 1", "class 2")),
        (lambda y: y + 1, ("class 1", "class 2", "class 3")),
        (lambda y: (y + 1.0)[:, None], ("class 1", "class 2", "class 3")),
        (lambda y: np.array(["bar", "disc", "ring"])[y], ("bar", "disc", "ring")),
        (lambda y: np.array(["bar", "disc", "ring "])[y][:, None], ("bar", "disc", "ring")),
        (lambda y: np.array(["2", "9", "10"])[y], ("2", "9", "10")),
        (lambda y: np.array([UMLAUT.encode(), b"a", b"bar"])[y], (UMLAUT, "a", "bar")),
        (lambda y: np.array([UMLAUT.encode("latin-1"), b"a", b"bar"])[y], (UMLAUT, "a", "bar")),
    ],
)
def test_labels_of_other_kinds_are_read(tmp_path: Path, encode: Encoder, class_names: tuple[str, ...]) -> None:
    dataset = open_npz(write(tmp_path / "a.npz", encode))
    for name, split in dataset.splits():
        assert split.labels.tolist() == (np.arange(SIZES[name]) % 3).tolist()
        assert split.labels.dtype == np.int64
    assert dataset.class_names == class_names


@pytest.mark.parametrize(
    ("encode", "class_names"),
    [(lambda y: y > 0, ("False", "True")), (lambda y: np.where(y > 0, 1, -1), ("class -1", "class 1"))],
)
def test_labels_of_two_values_are_read(tmp_path: Path, encode: Encoder, class_names: tuple[str, ...]) -> None:
    dataset = open_npz(write(tmp_path / "a.npz", encode))
    assert dataset.train.labels.tolist() == [0, 1, 1] * 4
    assert dataset.class_names == class_names
    assert open_npz(write(tmp_path / "a.npz", encode, class_names=np.array(["no", "yes"]))).class_names == ("no", "yes")


def test_what_was_not_plain_is_noted(tmp_path: Path) -> None:
    for encode, note in ((one_hot, "one-hot labels of 3 classes"), (lambda y: y + 1, "counted from 1")):
        assert note in open_npz(write(tmp_path / "a.npz", encode)).provenance.detail
    assert open_npz(write(tmp_path / "a.npz", lambda y: y)).provenance.detail == ""


@pytest.mark.parametrize(
    "names",
    [
        np.array([UMLAUT.encode(), b"b", b"c"]),
        np.array([UMLAUT.encode("latin-1"), b"b", b"c"]),
        np.array([UMLAUT, "b", "c"]),
        np.array([[UMLAUT], ["b"], ["c"]]),
    ],
)
@pytest.mark.parametrize("array", ["class_names", "label_names", "target_names", "classes"])
def test_class_names_may_be_bytes(tmp_path: Path, names: NDArray[Any], array: str) -> None:
    assert open_npz(write(tmp_path / "a.npz", lambda y: y, **{array: names})).class_names == (UMLAUT, "b", "c")


def test_class_names_decide_the_order_and_the_first_label(tmp_path: Path) -> None:
    names = np.array(["ring", "disc", "bar"])
    for encode in (lambda y: names[y], lambda y: y + 1, lambda y: y.astype(str)):
        dataset = open_npz(write(tmp_path / "a.npz", encode, class_names=names))
        assert dataset.class_names == ("ring", "disc", "bar")
        assert dataset.train.labels[:3].tolist() == [0, 1, 2]
    with pytest.raises(FileError, match="background is missing from train"):
        open_npz(write(tmp_path / "a.npz", lambda y: y + 1, class_names=np.array(["background", "a", "b", "c"])))


def test_a_subset_of_medmnist_is_not_taken_to_count_from_one(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="missing from train"):
        open_npz(write(tmp_path / "tissuemnist.npz", lambda y: y + 1))


def soft(labels: NDArray[np.int64]) -> NDArray[Any]:
    return 0.7 * one_hot(labels) + 0.1


def in_val(bad: Any) -> Encoder:
    """Return an encoder that spoils the labels of one split."""
    return lambda y: y if len(y) > 6 else bad(y)


@pytest.mark.parametrize(
    ("encode", "cause"),
    [
        (lambda y: np.maximum(one_hot(y), one_hot((y + 1) % 3)), "several labels"),
        (lambda y: one_hot(y) * (y > 0)[:, None], r"4 of 12 rows"),
        (lambda y: one_hot(y) * 2, "not exactly one"),
        (soft, "probabilities"),
        (lambda y: y + 0.25, "0.25"),
        (lambda y: np.where(y == 2, np.nan, y), "NaN"),
        (lambda y: np.where(y == 2, np.inf, y), "infinite"),
        (lambda y: np.where(y == 2, -1, y), "-1.*without a label"),
        (lambda y: y.astype(complex), "complex"),
        (lambda y: np.array(["a", "b", "c"], dtype=object)[y], "pickled.*text"),
        (in_val(lambda y: np.array(["a", "b", "c"])[y]), "val_labels is text.*train_labels is numbers"),
        (in_val(lambda y: y + 5), "class 3 is missing from train"),
        (lambda y: y[:, None].repeat(2, axis=1).astype(str), "one label per image"),
        (lambda y: np.array(["", "NA", "nan"])[y], "without any label"),
        (lambda y: np.full(len(y), 2**63, dtype=np.uint64) + y.astype(np.uint64), "label 9223372036854775"),
        (lambda y: y * 1e300, "1e\\+300|2e\\+300"),
        (lambda y: y.astype(np.longdouble) * np.longdouble("1e4000"), "infinite|label"),
    ],
)
def test_labels_that_can_not_be_learned_are_refused(tmp_path: Path, encode: Encoder, cause: str) -> None:
    path = write(tmp_path / "a.npz", encode)
    with pytest.raises((FileError, ValueError), match=cause) as caught:
        open_npz(path)
    assert isinstance(caught.value, FileError)
    assert str(path) in str(caught.value)


def test_names_that_differ_between_labels_and_class_names_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", lambda y: np.array(["a", "b", "x"])[y], class_names=np.array(["a", "b", "c"]))
    with pytest.raises(FileError, match=r"'x'.*class_names"):
        open_npz(path)


@pytest.mark.parametrize("missing", ["NA", "", "nan"])
def test_images_without_a_label_are_left_out_and_kept_aside(tmp_path: Path, missing: str) -> None:
    dataset = open_npz(write(tmp_path / "a.npz", lambda labels: np.array([missing, "a", "b"])[labels]))
    assert dataset.class_names == ("a", "b")
    assert "without a label" in dataset.provenance.detail
    assert all(len(split) for _, split in dataset.splits())
    names = np.array(["NA", "a", "b"])  # sodium, say
    assert open_npz(write(tmp_path / "b.npz", lambda labels: names[labels], class_names=names)).n_classes == 3
