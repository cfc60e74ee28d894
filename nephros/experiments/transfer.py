"""The transfer experiment: classes that a source never saw are learned from few labels, by one method beside another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.data.dataset import Dataset
from nephros.data.split import Split
from nephros.data.subset import stratified_indices, stratified_subset

LABELS_PER_CLASS = (10, 20, 50, 100, 200, 500)
N_DRAWS = 5
"""Times that labels are drawn for each number of them."""
MAX_HELD_OUT_CELLS = 3000
MIN_HELD_OUT_CELLS = 300
"""Below that, half of train is held out too: on the 78 validation images of BreastMNIST, a standard error is 5 points."""
MAX_UNLABELED = 4000
"""Images of the same classes that self-training gets without their labels."""
SOURCE_RECIPES = ("nephros-fast", "nephros")
FAR_SOURCES = ("nephros-fast", "nephros-distilled")
"""Bundled models that the far tasks, whose images are not cells, start from."""
KNOWING_SOURCE = "nephros-fast"
"""Bundled model for the tasks whose classes it has learned before, from all labels."""


@dataclass(frozen=True)
class TransferTask:
    """Classes to learn from few labels, and what the weights were trained on."""

    key: str
    data: str
    """Name of the data set that holds the classes."""
    classes: tuple[int, ...]
    """Labels to learn; empty for all."""
    source: str
    """A recipe, trained on the data's other classes, or the name of a bundled model."""
    knows_classes: bool = False
    """Whether the source has learned the classes before."""

    @property
    def command(self) -> str:
        """The command that carries it out."""
        return f"nephros reproduce transfer --only {self.key}"

    @property
    def trains_its_source(self) -> bool:
        """Whether the source is trained for the task, on the classes that are left."""
        return bool(self.classes) and not self.knows_classes


def transfer_tasks() -> list[TransferTask]:
    """Return the tasks: two choices of three classes of TissueMNIST for each source recipe and for a source that knows them, and
    two far data sets for each of theirs.
    """
    # The three rarest kinds of cells (glomerular endothelium, leukocytes, podocytes), and three frequent ones.
    choices = {"rare": (2, 4, 5), "frequent": (0, 3, 6)}
    near = [
        TransferTask(f"{name}-{source}", "tissuemnist", classes, source)
        for source in SOURCE_RECIPES
        for name, classes in choices.items()
    ]
    far = [
        TransferTask(f"{name.removesuffix('mnist')}-{source}", name, (), source)
        for source in FAR_SOURCES
        for name in ("breastmnist", "pneumoniamnist")
    ]
    known = [
        TransferTask(f"known-{name}-{KNOWING_SOURCE}", "tissuemnist", classes, KNOWING_SOURCE, knows_classes=True)
        for name, classes in choices.items()
    ]
    return near + far + known


@dataclass(frozen=True)
class TransferRow:
    """Accuracy of one method, on one draw of labels."""

    task: str
    labels_per_class: int
    draw: int
    method: str
    accuracy: float
    """On the held-out cells."""
    macro_f1: float
    seconds: float
    detail: str = ""
    """Of a method, its accuracy in cross-validation among the labels; of `finetune`, the method that it chose."""

    @property
    def cell(self) -> tuple[str, int, int]:
        """Task, labels per class and draw, whose methods are compared with one another."""
        return self.task, self.labels_per_class, self.draw


def keep_classes(split: Split, classes: Sequence[int]) -> Split:
    """Return the images of `classes`, renumbered in that order."""
    new_labels = np.full(int(split.labels.max(initial=0)) + 1, -1)
    present = [label for label in classes if label < len(new_labels)]
    new_labels[present] = [classes.index(label) for label in present]
    labels = new_labels[split.labels]
    rows = np.flatnonzero(labels >= 0)
    return Split(split.images[rows], labels[rows].astype(np.int64))


def source_dataset(dataset: Dataset, left_out: Sequence[int]) -> Dataset:
    """Return `dataset` without the classes `left_out`, for the source."""
    classes = [label for label in range(dataset.n_classes) if label not in left_out]
    names = ", ".join(dataset.class_names[label] for label in left_out)
    detail = "; ".join(part for part in (dataset.provenance.detail, f"without {names}") if part)
    return dataclasses.replace(
        dataset,
        train=keep_classes(dataset.train, classes),
        val=keep_classes(dataset.val, classes),
        test=keep_classes(dataset.test, classes),
        class_names=tuple(dataset.class_names[label] for label in classes),
        provenance=dataclasses.replace(dataset.provenance, detail=detail),
    )


def task_splits(task: TransferTask, dataset: Dataset) -> tuple[Split, Split, tuple[str, ...]]:
    """Return the images that labels are drawn from, the held-out ones, and the class names.

    Labels come from train and the held-out images from validation (and, where it is small, from half of train), so that the
    experiment leaves the test split unread.
    """
    classes = task.classes or tuple(range(dataset.n_classes))
    pool, held_out = keep_classes(dataset.train, classes), keep_classes(dataset.val, classes)
    if len(held_out) < MIN_HELD_OUT_CELLS:
        rows = stratified_indices(pool.labels, len(pool) // 2, seed=0)
        others = pool[np.setdiff1d(np.arange(len(pool)), rows)]
        held_out = Split(
            np.concatenate([held_out.images, others.images]), np.concatenate([held_out.labels, others.labels])
        )
        pool = pool[rows]
    if len(held_out) > MAX_HELD_OUT_CELLS:
        held_out = stratified_subset(held_out, MAX_HELD_OUT_CELLS, seed=0)
    return pool, held_out, tuple(dataset.class_names[label] for label in classes)


def draw_labels(pool: Split, labels_per_class: int, draw: int) -> NDArray[np.int64] | None:
    """Return the indices (n,) of as many images of each class; None where a class has fewer."""
    rng = np.random.default_rng((draw, labels_per_class))
    indices = [np.flatnonzero(pool.labels == label) for label in np.unique(pool.labels)]
    if min(map(len, indices)) < labels_per_class:
        return None
    return np.sort(np.concatenate([rng.choice(rows, labels_per_class, replace=False) for rows in indices]))


def without_labels(pool: Split, drawn: NDArray[np.int64], draw: int) -> NDArray[np.uint8]:
    """Return up to MAX_UNLABELED other images of the pool, whose labels no method sees."""
    others = np.setdiff1d(np.arange(len(pool)), drawn)
    rng = np.random.default_rng((draw, len(drawn)))
    rows = np.sort(rng.choice(others, min(len(others), MAX_UNLABELED), replace=False))
    images: NDArray[np.uint8] = pool.images[rows]
    return images
