"""k-nearest neighbors: nothing is fitted, so that the search is over features, distance and number of neighbors alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nephros.data.split import Split
from nephros.models.classical import KNNClassifier, project_features, uncalibrated_tensors
from nephros.recipe import Recipe
from nephros.training.classical.features import fit_projection, flatten_pixels
from nephros.training.classical.search_results import FittedModel, Hyperparameters

QUERY_BATCH_SIZE = 512
"""Number of images whose neighbors are searched for at once."""

logger = logging.getLogger(__name__)


def fit_knn_models(
    recipe: Recipe, train: Split, val: Split, n_classes: int, device: torch.device
) -> Iterator[FittedModel]:
    """Yield a model on the device for each combination of features, distance and number of neighbors."""
    max_neighbors = max(recipe.knn.n_neighbors)
    pixels = flatten_pixels(train.images)
    val_pixels = torch.from_numpy(flatten_pixels(val.images))
    for kind in recipe.classical.features:
        projection_tensors = fit_projection(kind, pixels, recipe.classical.n_components)
        for distance in recipe.knn.distance:
            tensors = (
                projection_tensors
                | _index_tensors(distance, pixels, train, projection_tensors)
                | _class_tensors(train.labels, n_classes)
            )
            model = KNNClassifier(tensors).to(device)
            logger.info(
                f"searching for the {max_neighbors} nearest neighbors of {len(val):,} validation images: {kind}, {distance}"
            )
            neighbor_indices = torch.cat(
                [
                    model.kneighbors(model.extract_features(chunk.to(device)), max_neighbors)
                    for chunk in torch.split(val_pixels, QUERY_BATCH_SIZE)
                ]
            )
            for n_neighbors in recipe.knn.n_neighbors:
                buffers = {"n_neighbors": torch.tensor(n_neighbors, device=device)}
                knn = KNNClassifier(dict(model.named_buffers()) | buffers)
                scores = knn.expand_to_all_classes(knn.log_vote_fractions(neighbor_indices[:, :n_neighbors]))
                yield FittedModel(Hyperparameters(kind, distance, str(n_neighbors)), knn, scores)


def _index_tensors(
    distance: str, pixels: NDArray[np.float32], train: Split, projection_tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the stored features (uint8 where they are pixels), and offset and factor that make distances of dot products."""
    features = project_features(torch.from_numpy(pixels), projection_tensors)
    pixel_scale = 1.0 if projection_tensors else 255.0
    squared_norms = features.square().sum(dim=1)
    if distance == "euclidean":
        offset, factor = squared_norms, torch.full_like(squared_norms, 2 / pixel_scale)
    else:
        norms = squared_norms.sqrt()
        # A black image has no direction: its cosine with every query is taken as 0.
        offset, factor = torch.zeros_like(squared_norms), torch.where(norms > 0, 1 / (pixel_scale * norms), 0.0)
    train_features = features if projection_tensors else torch.from_numpy(np.round(pixels * 255).astype(np.uint8))
    return {
        "train_features": train_features,
        "distance_offset": offset,
        "distance_factor": factor,
        "train_labels": torch.tensor(train.labels),
    }


def _class_tensors(labels: NDArray[np.int64], n_classes: int) -> dict[str, Tensor]:
    """Return the tensors that depend on the labels alone."""
    present, counts = np.unique(labels, return_counts=True)
    return uncalibrated_tensors(present, n_classes) | {
        "class_prior": torch.tensor(counts / counts.sum(), dtype=torch.float32),
        "n_neighbors": torch.tensor(1),
    }
