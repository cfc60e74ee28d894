"""Classes of other data are matched with a model's by name, whatever their order and number."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nephros.data.dataset import Dataset
from nephros.errors import IncompatibleError
from nephros.evaluation.scoring import align_classes
from tests.conftest import squares_dataset

MODEL = ("ring", "disc", "bar")
UNNAMED = ("class 0", "class 1", "class 2")


def with_names(*names: str) -> Dataset:
    return dataclasses.replace(squares_dataset(n=120, classes=len(names)), class_names=names)


def named_labels(dataset: Dataset) -> list[str]:
    return [dataset.class_names[label] for label in dataset.val.labels]


def test_the_same_classes_change_nothing() -> None:
    dataset = with_names(*MODEL)
    assert align_classes(dataset, MODEL, "run") is dataset


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("bar", "disc", "ring"), MODEL),
        (("Bar", "disc ", "RING"), MODEL),
        (("thick_limb", "cafe\u0301"), ("caf\u00e9", "thick limb")),
        (("2", "0", "1"), UNNAMED),
        (("class 1", "class 0", "class 2"), UNNAMED),
    ],
)
def test_names_in_another_order_or_spelling_are_matched(names: tuple[str, ...], classes: tuple[str, ...]) -> None:
    dataset = with_names(*names)
    aligned = align_classes(dataset, classes, "run")
    assert aligned.class_names == classes
    assert aligned.warnings == ()
    assert np.array_equal(aligned.val.images, dataset.val.images)
    pairs = set(zip(named_labels(dataset), named_labels(aligned), strict=True))
    assert len(pairs) == len(names)
    assert all(new[-1] == old.strip().lower()[-1] or new == "caf\u00e9" for old, new in pairs)


def test_images_of_unknown_classes_are_left_out_with_a_warning() -> None:
    dataset = with_names("bar", "solid disc", "ring")
    aligned = align_classes(dataset, MODEL, "run")
    known = dataset.val.labels != 1
    assert named_labels(aligned) == [name for name in named_labels(dataset) if name != "solid disc"]
    assert np.array_equal(aligned.val.images, dataset.val.images[known])
    unknown, absent = aligned.warnings
    assert "solid disc" in unknown
    assert f"{np.sum(~known)} in val" in unknown
    assert "disc" in absent
    assert "only the 2 classes" in aligned.provenance.detail


@pytest.mark.parametrize(
    ("names", "n_warnings"),
    [(("bar", "ring"), 1), (("bar", "blob", "ring", "disc"), 1), (("disc", "x", "bar", "y"), 2)],
)
def test_the_shared_classes_of_fewer_or_more_are_scored(names: tuple[str, ...], n_warnings: int) -> None:
    dataset = with_names(*names)
    aligned = align_classes(dataset, MODEL, "run")
    assert named_labels(aligned) == [name for name in named_labels(dataset) if name in MODEL]
    assert len(aligned.warnings) == n_warnings


@pytest.mark.parametrize(("names", "classes"), [(UNNAMED, MODEL), (MODEL, UNNAMED), (("1", "2", "3"), UNNAMED)])
def test_classes_without_names_are_matched_by_number_with_a_warning(
    names: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    dataset = with_names(*names)
    aligned = align_classes(dataset, classes, "run")
    assert np.array_equal(aligned.val.labels, dataset.val.labels)
    assert len(aligned.warnings) == 1


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("ring", "x", "y"), MODEL),
        (("podocyte", "tubule"), MODEL),
        (("class 0", "class 1"), MODEL),
        (("class 0", "class 1"), UNNAMED),
        (("ring", "Ring", "bar"), MODEL),
    ],
)
def test_classes_that_cannot_be_matched_are_refused(names: tuple[str, ...], classes: tuple[str, ...]) -> None:
    with pytest.raises(IncompatibleError):
        align_classes(with_names(*names), classes, "run")
