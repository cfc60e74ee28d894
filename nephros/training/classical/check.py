"""Whether data can serve a classical baseline, asked before anything is written."""

from __future__ import annotations

import numpy as np

from nephros.data.dataset import Dataset
from nephros.errors import UserError
from nephros.recipe import Recipe


def check_classical(recipe: Recipe, dataset: Dataset) -> None:
    """Raise UserError, naming the flag, when the train split is too small or too uniform for the recipe's lists."""
    classic, train = recipe.classic, dataset.train
    n, values = len(train), int(np.prod(train.images.shape[1:]))
    network = recipe.model.network
    sizes = [("components", classic.components, min(n, values), "pca" in classic.features)]
    sizes.append(("neighbours", max(classic.neighbours), n, network == "knn"))
    sizes.append(("landmarks", classic.landmarks, n, network == "svm-rbf"))
    for name, wanted, most, counts in sizes:
        if counts and wanted > most:
            raise UserError(
                f"--classic.{name} has {wanted}, but {n:,} training images of {values:,} values allow {most:,} at most: "
                "choose fewer."
            )
    if network != "knn":
        if len(np.unique(train.labels)) < 2:
            raise UserError("A support vector machine needs training images of at least two classes, and there is one.")
        if (train.images == train.images.reshape(-1)[0]).all():
            raise UserError("All pixels of the training images are equal: there is nothing to learn from.")
