"""A small project of synthetic nuclei, whose classes are known, and its model."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.model import AnnotationModel
from nephros.annotation.project import Project
from nephros.data.synthetic import make_synthetic

CLASSES = (0, 1, 4)
"""Synthetic nuclei of these classes look most different."""
LIMIT_S = 600.0


def nuclei(n: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return (n, 28, 28) synthetic nuclei of three classes, and their classes from 0."""
    train = make_synthetic(4 * n + 60, 8, 8, seed=seed).train
    rows = np.flatnonzero(np.isin(train.labels, CLASSES))[:n]
    assert len(rows) == n
    return train.images[rows], np.searchsorted(CLASSES, train.labels[rows])


def make_project(root: Path, images: NDArray[np.uint8], n_classes: int = 3) -> Project:
    """Return a project of these cells, with classes and without labels."""
    project = Project.create(root / "kidney")
    np.savez(root / "cells.npz", images=images)
    assert project.add_cells(root / "cells.npz").n_added == len(images)
    for i in range(n_classes):
        project.labels.add_class(f"class {i}")
    return project


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for background threads; a limit that no machine reaches makes a test fail that would wait forever."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)


def wait_for_model(model: AnnotationModel, n_labels: int) -> None:
    """Wait until the model knows all cells, so many labels, and their cross-validation."""
    wait_until(
        lambda: (
            len(model.state.space) == model.state.n_cells == model.status().n_cells
            and model.state.n_labels == n_labels
            and (model.state.head is None or model.state.has_current_review)
        )
    )
