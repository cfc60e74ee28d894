"""Whether data can serve a classical baseline, asked before anything is written."""

from __future__ import annotations

import numpy as np

from nephros.data.dataset import Dataset
from nephros.errors import NephrosError
from nephros.recipe import Recipe


def check_classical(recipe: Recipe, dataset: Dataset) -> None:
    """Raise UserError, naming the flag, when the train split is too small or too uniform for the recipe's lists."""
    config, train = recipe.classical, dataset.train
    n, n_pixels = len(train), int(np.prod(train.images.shape[1:]))
    network = recipe.model.network
    limits = [("n_components", config.n_components, min(n, n_pixels), "pca" in config.features)]
    limits.append(("n_neighbors", max(config.n_neighbors), n, network == "knn"))
    limits.append(("n_landmarks", config.n_landmarks, n, network == "svm-rbf"))
    for name, value, maximum, applies in limits:
        if applies and value > maximum:
            raise NephrosError(
                f"--classical.{name} has {value}, but {n:,} training images of {n_pixels:,} values allow {maximum:,} at most: "
                "choose fewer."
            )
    if network != "knn":
        if len(np.unique(train.labels)) < 2:
            raise NephrosError(
                "A support vector machine needs training images of at least two classes, and there is one."
            )
        if (train.images == train.images.reshape(-1)[0]).all():
            raise NephrosError("All pixels of the training images are equal: there is nothing to learn from.")
