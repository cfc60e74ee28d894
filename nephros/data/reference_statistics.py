"""Statistics of the images that the models are trained on, and warnings about images that differ from them.

The figures describe the train split of TissueMNIST (165,380 cells, an own split); `python -m benchmarks.training_range` prints
them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nephros.data.pixel_statistics import pixel_statistics

PIXEL_MEAN, PIXEL_STD = 0.1020, 0.1000
"""Of all pixels, on a scale from 0 to 1."""
MEDIAN_AREA = 0.1594
"""Median over cells of `nucleus_area_fraction`."""
CELL_MEAN_RANGE = (0.0258, 0.2678)
"""0.5th and 99.5th percentile over cells of an image's mean intensity, on a scale from 0 to 1."""
CELL_AREA_RANGE = (0.0332, 0.5344)
"""0.5th and 99.5th percentile over cells of `nucleus_area_fraction`."""

MIN_DIAMETER_RATIO, MAX_DIAMETER_RATIO = 0.68, 1.3
"""Diameter over that of the training data. Class medians lie between 0.73 and 1.14, so these limits need another cause."""
MAX_OUTLIER_FRACTION = 0.1
"""Fraction of cells outside a range of 99 in 100 above which a warning is given."""
_MAX_CELLS = 20_000
"""Cells that are measured; of more, every second, third, ... one."""
_BATCH_SIZE = 2048


def nucleus_area_fraction(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the area of the nucleus in the center of each image as a fraction of the image: (n, h, w) uint8 -> (n,) float64.

    The nucleus is the connected component at the center that is brighter than the midpoint between the image's dark level
    (10th percentile) and its center's bright level (90th percentile). Enlarging TissueMNIST's images 1.25 times increases
    its diameter 1.25 times.
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
    """Return one sentence for each way in which images, (n, h, w) uint8, differ from the training data."""
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
            f"These nuclei are {size_text} in diameter than those that the models were trained on; check that they were cropped "
            "and scaled in the same way (`voxel_size` and `mask` of `nephros.prepare(STACK)`)."
        )
    for name, value, expected in (("brightness", mean, PIXEL_MEAN), ("contrast", std, PIXEL_STD)):
        if not 1 / 1.5 <= value / expected <= 1.5:
            statistic = "mean" if name == "brightness" else "standard deviation"
            warnings.append(
                f"The {name} of the pixels ({statistic} {value:.3f} of 1) is far from the training data's {expected:.3f}; check "
                "which intensities become black and white (`white_level`; for stacks `black_level` and `white_level` of "
                "`nephros.prepare(STACK)`)."
            )
    for feature, values, (low, high) in (("brightness", means, CELL_MEAN_RANGE), ("size", areas, CELL_AREA_RANGE)):
        outlier_fraction = float(np.mean((values < low) | (values > high)))
        if outlier_fraction > MAX_OUTLIER_FRACTION:
            warnings.append(
                f"{100 * outlier_fraction:.0f}% of the nuclei have a {feature} that fewer than 1 in 100 training cells have; "
                "expect wrong predictions for them."
            )
    return warnings
