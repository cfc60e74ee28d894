"""Features of the classical baselines: pixels, or their principal components."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_EXACT_PCA_DIM = 4096
"""Largest number of pixel values per image for which the full covariance matrix is computed."""


def flatten_pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (n, d) float32 pixels in 0..1 of (n, h, w) grayscale or (n, h, w, 3) color images, channel by channel."""
    channels_first = np.moveaxis(images, -1, 1) if images.ndim == 4 else images
    return channels_first.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def fit_projection(kind: str, pixels: NDArray[np.float32], n_components: int) -> dict[str, Tensor]:
    """Return the tensors `center` and `basis` with which `project_features` makes features of a kind; none for pixels.

    For pca, the principal components of the (n, d) training pixels: exact, from their covariance, up to MAX_EXACT_PCA_DIM
    values per image, and beyond by a randomized method (Halko et al. 2011) with a fixed seed.
    """
    if kind == "pixels":
        return {}
    from sklearn.decomposition import PCA

    solver = "covariance_eigh" if pixels.shape[1] <= MAX_EXACT_PCA_DIM else "randomized"
    pca = PCA(n_components, svd_solver=solver, random_state=0).fit(pixels)
    return {
        "center": torch.tensor(pca.mean_, dtype=torch.float32),
        "basis": torch.tensor(pca.components_.T, dtype=torch.float32).contiguous(),
    }


def standardize(projection_tensors: dict[str, Tensor], pixels: NDArray[np.float32]) -> dict[str, Tensor]:
    """Return a projection to centered features with a mean variance of 1: one `feature_scale` for all keeps their relations."""
    center = torch.tensor(pixels.mean(axis=0, dtype=np.float64), dtype=torch.float32)
    features = torch.from_numpy(pixels) - center
    features = features @ projection_tensors["basis"] if "basis" in projection_tensors else features
    return projection_tensors | {"center": center, "feature_scale": features.square().mean().sqrt()}
