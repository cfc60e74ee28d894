"""How a picture is built, in a few statistics of its pixels, and how far those lie from the training cells'.

Photographs brought to the brightness of cells pass every single measure, and a network may take them for cells. But a
cut-out nucleus has a bright middle, a dark rim and few other things, and photographs seldom have all of that at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.inference.ood.image_statistics import grey, measured

PERCENTILE = 99.5
"""Of validation cells' distances, beyond which a picture is unfamiliar."""
RINGS, QUANTILES = 5, (0.05, 0.25, 0.5, 0.75, 0.95)
WHAT = (
    "Mahalanobis distance from the training cells of statistics of the pixels: brightness, contrast, sharpness and its share of "
    "the contrast, horizontal over vertical differences, skewness, kurtosis, extremes, quantiles, means in five rings around "
    "the middle, and how far light lies off the middle"
)
_ROWS = 4096


def statistics(cells: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (n, 21) statistics of (n, h, w) or (n, h, w, c) pictures, colours averaged; zeros for sides below 3 pixels."""
    parts = [_statistics(cells[start : start + _ROWS]) for start in range(0, len(cells), _ROWS)]
    return np.concatenate(parts) if parts else np.empty((0, 11 + RINGS + len(QUANTILES)))


def _statistics(cells: NDArray[np.uint8]) -> NDArray[np.float64]:
    x = grey(cells)
    n, height, width = x.shape
    if min(height, width) < 3:
        return np.zeros((n, 11 + RINGS + len(QUANTILES)))
    mean, deviation, edges = measured(x).T
    deviation = deviation + 0.1
    z = (x - mean[:, None, None]) / deviation[:, None, None]
    squares = z * z
    across, down = np.abs(np.diff(x, axis=2)).mean((1, 2)), np.abs(np.diff(x, axis=1)).mean((1, 2))
    z_down, z_across = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    radius = np.hypot(z_down, z_across)
    rings = [(radius >= r / RINGS) & (radius < (r + 1) / RINGS) for r in range(RINGS)]
    ordered = np.sort(x.reshape(n, -1), axis=1)
    columns = [
        np.log1p(mean), np.log1p(deviation), np.log1p(edges), np.log(edges / deviation**2 + 1e-3),
        np.log((across + 0.1) / (down + 0.1)), (squares * z).mean((1, 2)), np.log(np.square(squares).mean((1, 2)) + 0.1),
        x.min((1, 2)) / (mean + 1), np.log(np.abs(z).max((1, 2)) + 0.1),
        np.abs((z * z_across).mean((1, 2))), np.abs((z * z_down).mean((1, 2))),
        *(ordered[:, round(q * (ordered.shape[1] - 1))] / (mean + 1) for q in QUANTILES),
        *(z[:, ring].mean(1) if ring.any() else np.zeros(n) for ring in rings),
    ]  # fmt: skip
    return np.stack(columns, axis=1).astype(np.float64)


def fit_structure(cells: NDArray[np.uint8]) -> dict[str, Any]:
    """Return, for a card, what `distances` needs: mean and covariance of the statistics of training cells."""
    found = statistics(cells)
    mean = found.mean(axis=0)
    covariance = np.atleast_2d(np.cov(found, rowvar=False, bias=True))
    covariance += 1e-6 * max(1.0, float(np.trace(covariance))) * np.eye(len(mean))
    return {"what": WHAT, "mean": mean.tolist(), "covariance": covariance.tolist(), "percentile": PERCENTILE}


def distances(about: dict[str, Any], cells: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (n,) Mahalanobis distances of pictures from the cells that `fit_structure` was given."""
    root = np.linalg.cholesky(np.array(about["covariance"]))
    offsets = np.linalg.solve(root, (statistics(cells) - np.array(about["mean"])).T)
    lengths: NDArray[np.float64] = np.sqrt(np.square(offsets).sum(axis=0))
    return lengths
