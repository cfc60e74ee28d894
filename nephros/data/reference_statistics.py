"""What the pictures that models here are trained on look like, and whether others look like them.

The figures are those of the train split of TissueMNIST (165,380 cells, an own split); benchmarks/training_range.py prints them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nephros.data.statistics import pixel_statistics

PIXEL_MEAN, PIXEL_STD = 0.1020, 0.1000
"""Of all pixels, of 1."""
MEDIAN_AREA = 0.1594
"""Median over cells of `nucleus_area_fraction`."""
CELL_MEAN_RANGE = (0.0258, 0.2678)
"""0.5th and 99.5th percentile over cells of a picture's mean brightness, of 1."""
CELL_AREA_RANGE = (0.0332, 0.5344)
"""0.5th and 99.5th percentile over cells of `nucleus_area_fraction`."""

MIN_DIAMETER_RATIO, MAX_DIAMETER_RATIO = 0.68, 1.3
"""Diameter over that of the training data: class medians lie between 0.73 and 1.14 of it, so these need another cause."""
MAX_OUTLIER_FRACTION = 0.1
"""Share of cells outside a range of 99 in 100 that is worth a word."""
_MAX_CELLS = 20_000
"""Cells looked at; of more, every second, third, ..."""
_BATCH_SIZE = 2048


def nucleus_area_fraction(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how large the nucleus in the middle is, as a share of the picture: (n, h, w) uint8 -> (n,).

    The connected piece at the middle that is brighter than half way from the picture's dark (10th percentile) to its
    middle's bright (90th percentile). Enlarging TissueMNIST's pictures 1.25 times gives 1.25 times its diameter.
    """
    from scipy import ndimage

    _, height, width = images.shape
    connectivity = np.zeros((3, 3, 3), dtype=np.int64)
    connectivity[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    areas = []
    for start in range(0, len(images), _BATCH_SIZE):
        batch = images[start : start + _BATCH_SIZE].astype(np.float32)
        middle = batch[:, height // 2 - 3 : height // 2 + 3, width // 2 - 3 : width // 2 + 3]
        dark, bright = np.percentile(batch, 10, axis=(1, 2)), np.percentile(middle, 90, axis=(1, 2))
        components, n = ndimage.label(batch > ((dark + bright) / 2)[:, None, None], structure=connectivity)
        sizes = np.bincount(components.ravel(), minlength=n + 1)
        sizes[0] = 0
        center = components[:, height // 2 - 2 : height // 2 + 2, width // 2 - 2 : width // 2 + 2]
        areas.append(sizes[center].max(axis=(1, 2)) / (height * width))
    return np.concatenate(areas)


def shift_warnings(images: NDArray[np.uint8]) -> list[str]:
    """Return a sentence for each way in which pictures, (n, h, w) uint8, are unlike the training data; none if alike."""
    if len(images) == 0:
        return []
    images = images[:: -(-len(images) // _MAX_CELLS)]
    areas, means = nucleus_area_fraction(images), images.mean(axis=(1, 2)) / 255
    mean, std = pixel_statistics(images)
    warnings = []
    ratio = float(np.sqrt(np.median(areas) / MEDIAN_AREA))
    if not MIN_DIAMETER_RATIO <= ratio <= MAX_DIAMETER_RATIO:
        size_text = f"{ratio:.1f} times larger" if ratio > 1 else f"{1 / max(ratio, 0.01):.1f} times smaller"
        warnings.append(
            f"These nuclei are {size_text} across than those that the models were trained on: check that they are cut out and "
            "scaled as those were (--voxel-size and mask of `nephros data prepare`)."
        )
    for name, value, expected in (("brightness", mean, PIXEL_MEAN), ("contrast", std, PIXEL_STD)):
        if not 1 / 1.5 <= value / expected <= 1.5:
            statistic = "mean" if name == "brightness" else "standard deviation"
            warnings.append(
                f"The pixels' {name} ({statistic} {value:.3f} of 1) is far from the training data's {expected:.3f}: "
                "check that white means white (--black-level and --white-level of `nephros data prepare`)."
            )
    for feature, values, (low, high) in (("brightness", means, CELL_MEAN_RANGE), ("size", areas, CELL_AREA_RANGE)):
        outlier_fraction = float(np.mean((values < low) | (values > high)))
        if outlier_fraction > MAX_OUTLIER_FRACTION:
            warnings.append(
                f"{100 * outlier_fraction:.0f} % of the nuclei have a {feature} that fewer than 1 in 100 training cells have; "
                "expect wrong answers there."
            )
    return warnings
