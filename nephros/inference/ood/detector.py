"""The out-of-distribution detector: whether an image looks like the cells that a model was trained on, and if not, why.

An image is out of distribution if one of three checks fails, each fitted to the training cells:

- ranges: brightness, contrast and sharpness lie within those of nearly all training cells.
- structure: the Mahalanobis distance of 21 statistics of its pixels from the training cells'. Photographs at the brightness
  of cells pass every single range, and a network may take them for cells. But a cropped nucleus has a bright center, a
  dark rim and little else, a combination that photographs seldom show.
- feature distance: the Mahalanobis distance of the network's features from the nearest class mean.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from nephros.reading import MalformedContent

RANGE_PERCENTILES = (0.1, 99.9)
"""Percentiles of the training cells that bound each range; the upper one also bounds the feature distance."""
STRUCTURE_PERCENTILE = 99.5
"""Percentile of the validation cells' structure distances above which an image is out of distribution."""
N_RINGS, INTENSITY_QUANTILES = 5, (0.05, 0.25, 0.5, 0.75, 0.95)
N_STRUCTURE_STATISTICS = 11 + N_RINGS + len(INTENSITY_QUANTILES)
IMAGE_STATISTICS = {
    "brightness": ("mean of the pixels, 0 to 255", "too dark", "too bright"),
    "contrast": ("standard deviation of the pixels", "too little contrast", "too much contrast"),
    "sharpness": ("variance of the Laplacian of the pixels", "too smooth", "too sharp or noisy"),
}
"""Name -> definition, reason for a value below the range, reason for a value above it."""
STRUCTURE_REASON = "atypical image structure"
STRUCTURE_DESCRIPTION = (
    "Mahalanobis distance from the training cells in statistics of the pixels: brightness, contrast, sharpness and its ratio "
    "to the contrast, horizontal to vertical differences, skewness, kurtosis, extremes, quantiles, means in five concentric "
    "rings, and the offset of the light from the center"
)
FEATURE_DISTANCE_REASON = "features far from every training class"
_CHUNK = 256
"""Images that are measured at a time, so that they stay in the processor's cache."""


class StatisticRange(TypedDict):
    """The range of one of `IMAGE_STATISTICS` among training cells."""

    description: str
    low: float
    high: float


class StructureReference(TypedDict):
    """Mean (21,) and covariance (21, 21) of the training cells' structure descriptors."""

    description: str
    mean: list[float]
    covariance: list[list[float]]
    percentile: float
    """Percentile of the validation cells' distances that sets the threshold."""
    threshold: NotRequired[float]


class FeatureDistanceThreshold(TypedDict):
    """The largest feature distance of a cell in distribution."""

    description: str
    threshold: float


class OODDetector(TypedDict):
    """Everything that an image is compared with, as plain JSON values: the ``ood_detector`` of a model card."""

    range_percentiles: list[float]
    ranges: dict[str, StatisticRange]
    structure: StructureReference | None
    feature_distance: FeatureDistanceThreshold | None
    """None for a network without that output."""
    flagged_fraction: NotRequired[dict[str, float]]
    """Fraction flagged among validation cells and each kind of negative control."""


def fit_statistic_ranges(cells: NDArray[np.uint8]) -> dict[str, StatisticRange]:
    """Return the range of each of `IMAGE_STATISTICS` among (n, h, w) or (n, h, w, c) training cells."""
    low, high = np.percentile(image_statistics(cells).astype(np.float64), RANGE_PERCENTILES, axis=0)
    return {
        name: {"description": description, "low": float(low[i]), "high": float(high[i])}
        for i, (name, (description, _, _)) in enumerate(IMAGE_STATISTICS.items())
    }


def fit_structure(cells: NDArray[np.uint8]) -> StructureReference:
    """Return mean and covariance of the descriptors of (n, h, w) or (n, h, w, c) training cells, without a threshold."""
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


def find_ood_reasons(
    detector: OODDetector | None, cells: NDArray[np.uint8], feature_distance: NDArray[Any] | None
) -> tuple[tuple[str, ...], ...]:
    """Return for each of n cells in which ways it is out of distribution; empty tuples for cells in distribution.

    Args:
        detector: a card's ``ood_detector``; None, where it could not be fitted, finds nothing.
        cells: (n, h, w) or (n, h, w, c).
        feature_distance: (n,) from the network, or None if it has none.
    """
    reasons_by_cell: list[list[str]] = [[] for _ in cells]
    if detector is None:
        return ((),) * len(cells)
    values = image_statistics(cells)
    for column, (name, (_, low_reason, high_reason)) in enumerate(IMAGE_STATISTICS.items()):
        low, high = detector["ranges"][name]["low"], detector["ranges"][name]["high"]
        for out_of_range, reason in ((values[:, column] < low, low_reason), (values[:, column] > high, high_reason)):
            for i in np.flatnonzero(out_of_range):
                numbers = [_format_statistic(value) for value in (values[i, column], low, high)]
                reasons_by_cell[i].append(
                    f"{reason} ({name} {numbers[0]}, training cells {numbers[1]} to {numbers[2]})"
                )
    distances: list[tuple[str, float, NDArray[Any]]] = []
    if (structure := detector["structure"]) is not None:
        distances.append((STRUCTURE_REASON, structure["threshold"], structure_distances(structure, cells, values)))
    if detector["feature_distance"] is not None and feature_distance is not None:
        distances.append((FEATURE_DISTANCE_REASON, detector["feature_distance"]["threshold"], feature_distance))
    for reason, threshold, cell_distances in distances:
        for i in np.flatnonzero(~(cell_distances <= threshold)):  # NaN too is out of distribution
            reasons_by_cell[i].append(f"{reason} (distance {cell_distances[i]:.3g}, typical up to {threshold:.3g})")
    return tuple(map(tuple, reasons_by_cell))


def ood_scores(
    detector: OODDetector | None, cells: NDArray[np.uint8], feature_distance: NDArray[Any] | None
) -> NDArray[np.float32]:
    """Return (n,) scores of how unusual cells are, above 1 where `find_ood_reasons` finds a reason; 0 without a detector.

    The score is the largest over the checks: a distance divided by its threshold, and for a range the distance from its middle
    divided by half its width. It is at most 1e6, which also stands for a distance that is not a number.
    """
    if detector is None:
        return np.zeros(len(cells), np.float32)
    statistics = image_statistics(cells)
    values = statistics.astype(np.float64)
    scores = []
    for column, name in enumerate(IMAGE_STATISTICS):
        low, high = detector["ranges"][name]["low"], detector["ranges"][name]["high"]
        scores.append(np.abs(values[:, column] - (low + high) / 2) / max((high - low) / 2, 1e-9))
    if (structure := detector["structure"]) is not None:
        scores.append(structure_distances(structure, cells, statistics) / max(structure["threshold"], 1e-9))
    if detector["feature_distance"] is not None and feature_distance is not None:
        scores.append(feature_distance / max(detector["feature_distance"]["threshold"], 1e-9))
    score = np.max(np.where(np.isnan(scores), np.inf, scores), axis=0)
    return np.asarray(np.minimum(score, 1e6), np.float32)


def _format_statistic(value: float) -> str:
    """Return a number with three digits, or all those before the point: 0.123, 12.3, 12,345."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def check_detector(detector: OODDetector) -> None:
    """Raise MalformedContent for a detector that no fit returns: it would fail, or flag the wrong cells without a word."""
    ranges, structure, distance = detector["ranges"], detector["structure"], detector["feature_distance"]
    if set(ranges) != set(IMAGE_STATISTICS):
        raise MalformedContent(f"'ood_detector.ranges' is not of {', '.join(IMAGE_STATISTICS)}")
    if wrong := [name for name, bounds in ranges.items() if bounds["low"] > bounds["high"]]:
        raise MalformedContent(f"'ood_detector.ranges.{wrong[0]}' is empty")
    thresholds = [] if distance is None else [distance["threshold"]]
    if structure is not None:
        lengths = {len(structure["mean"]), len(structure["covariance"]), *map(len, structure["covariance"])}
        if lengths != {N_STRUCTURE_STATISTICS} or "threshold" not in structure:
            raise MalformedContent(
                f"'ood_detector.structure' is not of {N_STRUCTURE_STATISTICS} statistics and a threshold"
            )
        thresholds.append(structure["threshold"])
    if any(threshold < 0 for threshold in thresholds):
        raise MalformedContent("a threshold of 'ood_detector' is below 0")


def image_statistics(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (n, 3) brightness, contrast and sharpness of (n, h, w) or (n, h, w, c) images, channels averaged.

    The Laplacian is the sum of the four neighbors minus four times the pixel, without the border; images narrower than
    three pixels have a sharpness of 0.
    """
    chunks = [
        _grayscale_statistics(_mean_over_channels(cells[start : start + _CHUNK]))
        for start in range(0, len(cells), _CHUNK)
    ]
    return np.concatenate(chunks) if chunks else np.empty((0, len(IMAGE_STATISTICS)), dtype=np.float32)


def structure_descriptors(
    cells: NDArray[np.uint8], statistics: NDArray[np.float32] | None = None
) -> NDArray[np.float64]:
    """Return (n, 21) statistics of (n, h, w) or (n, h, w, c) images, channels averaged; zeros for sides below 3 pixels.

    `statistics` are their `image_statistics`, which are measured where they are not given.
    """
    statistics = image_statistics(cells) if statistics is None else statistics
    slices = [slice(start, start + _CHUNK) for start in range(0, len(cells), _CHUNK)]
    chunks = [_structure_descriptors(cells[part], statistics[part]) for part in slices]
    return np.concatenate(chunks) if chunks else np.empty((0, N_STRUCTURE_STATISTICS))


def structure_distances(
    structure: StructureReference, cells: NDArray[np.uint8], statistics: NDArray[np.float32] | None = None
) -> NDArray[np.float64]:
    """Return the (n,) Mahalanobis distances of images from the cells that `fit_structure` was given.

    `statistics` as in `structure_descriptors`.
    """
    descriptors, mean = structure_descriptors(cells, statistics), np.array(structure["mean"])
    whitening = whitening_matrix(np.array(structure["covariance"]))
    distances = np.empty(len(descriptors))
    # In chunks, which one thread multiplies. For more, OpenBLAS wakes all of its threads, and they spin for long afterwards.
    for start in range(0, len(descriptors), _CHUNK):
        part = slice(start, start + _CHUNK)
        distances[part] = np.sqrt(np.square((descriptors[part] - mean) @ whitening).sum(axis=1))
    return distances


def whitening_matrix(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (d, d) matrix W for which |x @ W| is the Mahalanobis length of x under a (d, d) covariance."""
    # With the Cholesky factorization C = L L', x' C^-1 x = |L^-1 x|^2.
    whitening: NDArray[np.float64] = np.linalg.inv(np.linalg.cholesky(covariance)).T
    return whitening


def _mean_over_channels(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (n, h, w) from (n, h, w) or (n, h, w, c) images."""
    x = cells.astype(np.float32)
    return x.mean(axis=3) if x.ndim == 4 else x


def _grayscale_statistics(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the `image_statistics` of (n, h, w) images."""
    laplacian = (
        images[:, :-2, 1:-1]
        + images[:, 2:, 1:-1]
        + images[:, 1:-1, :-2]
        + images[:, 1:-1, 2:]
        - 4 * images[:, 1:-1, 1:-1]
    )
    sharpness = laplacian.var(axis=(1, 2)) if laplacian.size else np.zeros(len(images), dtype=np.float32)
    return np.stack([images.mean(axis=(1, 2)), images.std(axis=(1, 2)), sharpness], axis=1)


def _structure_descriptors(cells: NDArray[np.uint8], statistics: NDArray[np.float32]) -> NDArray[np.float64]:
    images = _mean_over_channels(cells)
    n, height, width = images.shape
    if min(height, width) < 3:
        return np.zeros((n, N_STRUCTURE_STATISTICS))
    mean, std, sharpness = statistics.T
    std = std + 0.1
    z = (images - mean[:, None, None]) / std[:, None, None]
    squares = z * z
    mean_dx, mean_dy = np.abs(np.diff(images, axis=2)).mean((1, 2)), np.abs(np.diff(images, axis=1)).mean((1, 2))
    grid_y, grid_x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    radius = np.hypot(grid_y, grid_x)
    rings = [(radius >= r / N_RINGS) & (radius < (r + 1) / N_RINGS) for r in range(N_RINGS)]
    # Of bytes, numpy's stable sort counts each value, which on any processor is faster than to compare them.
    pixels = images if cells.ndim == 4 else cells
    kind: Literal["stable"] | None = None if cells.ndim == 4 else "stable"
    sorted_pixels = np.sort(pixels.reshape(n, -1), axis=1, kind=kind).astype(np.float32, copy=False)
    columns = [
        np.log1p(mean), np.log1p(std), np.log1p(sharpness), np.log(sharpness / std**2 + 1e-3),
        np.log((mean_dx + 0.1) / (mean_dy + 0.1)), (squares * z).mean((1, 2)), np.log(np.square(squares).mean((1, 2)) + 0.1),
        images.min((1, 2)) / (mean + 1), np.log(np.abs(z).max((1, 2)) + 0.1),
        np.abs((z * grid_x).mean((1, 2))), np.abs((z * grid_y).mean((1, 2))),
        *(sorted_pixels[:, round(q * (sorted_pixels.shape[1] - 1))] / (mean + 1) for q in INTENSITY_QUANTILES),
        *(z[:, ring].mean(1) if ring.any() else np.zeros(n) for ring in rings),
    ]  # fmt: skip
    return np.stack(columns, axis=1).astype(np.float64)
