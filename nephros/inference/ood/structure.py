"""How a picture is built, in a few statistics of its pixels, and how far those lie from the training cells'.

Photographs brought to the brightness of cells pass every single measure, and a network may take them for cells. But a
cut-out nucleus has a bright middle, a dark rim and few other things, and photographs seldom have all of that at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.inference.ood.image_statistics import grayscale_statistics, mean_over_channels

STRUCTURE_PERCENTILE = 99.5
"""Of validation cells' distances, beyond which a picture is unfamiliar."""
N_RINGS, INTENSITY_QUANTILES = 5, (0.05, 0.25, 0.5, 0.75, 0.95)
STRUCTURE_DESCRIPTION = (
    "Mahalanobis distance from the training cells of statistics of the pixels: brightness, contrast, sharpness and its share of "
    "the contrast, horizontal over vertical differences, skewness, kurtosis, extremes, quantiles, means in five rings around "
    "the middle, and how far light lies off the middle"
)
_DESCRIPTOR_CHUNK = 4096


def structure_descriptors(cells: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (n, 21) statistics of (n, h, w) or (n, h, w, c) pictures, colours averaged; zeros for sides below 3 pixels."""
    chunks = [
        _structure_descriptors(cells[start : start + _DESCRIPTOR_CHUNK])
        for start in range(0, len(cells), _DESCRIPTOR_CHUNK)
    ]
    return np.concatenate(chunks) if chunks else np.empty((0, 11 + N_RINGS + len(INTENSITY_QUANTILES)))


def _structure_descriptors(cells: NDArray[np.uint8]) -> NDArray[np.float64]:
    images = mean_over_channels(cells)
    n, height, width = images.shape
    if min(height, width) < 3:
        return np.zeros((n, 11 + N_RINGS + len(INTENSITY_QUANTILES)))
    mean, std, sharpness = grayscale_statistics(images).T
    std = std + 0.1
    z = (images - mean[:, None, None]) / std[:, None, None]
    squares = z * z
    mean_dx, mean_dy = np.abs(np.diff(images, axis=2)).mean((1, 2)), np.abs(np.diff(images, axis=1)).mean((1, 2))
    grid_y, grid_x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    radius = np.hypot(grid_y, grid_x)
    rings = [(radius >= r / N_RINGS) & (radius < (r + 1) / N_RINGS) for r in range(N_RINGS)]
    sorted_pixels = np.sort(images.reshape(n, -1), axis=1)
    columns = [
        np.log1p(mean), np.log1p(std), np.log1p(sharpness), np.log(sharpness / std**2 + 1e-3),
        np.log((mean_dx + 0.1) / (mean_dy + 0.1)), (squares * z).mean((1, 2)), np.log(np.square(squares).mean((1, 2)) + 0.1),
        images.min((1, 2)) / (mean + 1), np.log(np.abs(z).max((1, 2)) + 0.1),
        np.abs((z * grid_x).mean((1, 2))), np.abs((z * grid_y).mean((1, 2))),
        *(sorted_pixels[:, round(q * (sorted_pixels.shape[1] - 1))] / (mean + 1) for q in INTENSITY_QUANTILES),
        *(z[:, ring].mean(1) if ring.any() else np.zeros(n) for ring in rings),
    ]  # fmt: skip
    return np.stack(columns, axis=1).astype(np.float64)


def fit_structure(cells: NDArray[np.uint8]) -> dict[str, Any]:
    """Return, for a card, what `distances` needs: mean and covariance of the statistics of training cells."""
    descriptors = structure_descriptors(cells)
    mean = descriptors.mean(axis=0)
    covariance = np.atleast_2d(np.cov(descriptors, rowvar=False, bias=True))
    covariance += 1e-6 * max(1.0, float(np.trace(covariance))) * np.eye(len(mean))
    return {
        "description": STRUCTURE_DESCRIPTION,
        "mean": mean.tolist(),
        "covariance": covariance.tolist(),
        "percentile": STRUCTURE_PERCENTILE,
    }


def structure_distances(structure: dict[str, Any], cells: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (n,) Mahalanobis distances of pictures from the cells that `fit_structure` was given."""
    cholesky_factor = np.linalg.cholesky(np.array(structure["covariance"]))
    whitened = np.linalg.solve(cholesky_factor, (structure_descriptors(cells) - np.array(structure["mean"])).T)
    distances: NDArray[np.float64] = np.sqrt(np.square(whitened).sum(axis=0))
    return distances
