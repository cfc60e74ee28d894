"""The project that the benchmarks of labeling work on: so many different cells, whose classes are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.project import Project
from nephros.data.dataset import Dataset
from nephros.data.load import find_local_file, load_dataset
from nephros.data.synthetic import make_synthetic


def load_cells(data: str) -> Dataset:
    """Return TissueMNIST if it is there and `data` is ``auto``, else synthetic cells."""
    is_real = data == "auto" and find_local_file("tissuemnist") is not None
    return load_dataset("tissuemnist") if is_real else make_synthetic(3000, 600, 8, seed=5)


def make_project(folder: Path, dataset: Dataset, n_cells: int) -> tuple[Project, NDArray[np.int64]]:
    """Make a project in an empty folder, with all classes and no label; return it, and the true class of each cell."""
    n_train = len(dataset.train)
    images = np.resize(dataset.train.images, (n_cells, *dataset.train.images.shape[1:]))
    images[:, 0, 0] += (np.arange(n_cells) // n_train).astype(np.uint8)  # a cell is not added twice
    np.savez(folder / "cells.npz", images=images)
    project = Project.create(folder / "project")
    project.add_cells(folder / "cells.npz")
    for name in dataset.class_names:
        project.labels.add_class(name)
    return project, np.resize(dataset.train.labels, n_cells)[: project.n_cells]
