"""What the pictures that models here are trained on look like, and whether others look like them.

The figures are those of the train split of TissueMNIST (165,380 cells, an own split); benchmarks/training_range.py prints them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nephros.data.statistics import pixel_statistics

PIXEL_MEAN, PIXEL_STD = 0.1020, 0.1000
"""Of all pixels, of 1."""
AREA = 0.1594
"""Median over cells of `bright_area`."""
CELL_MEAN = (0.0258, 0.2678)
"""0.5th and 99.5th percentile over cells of a picture's mean brightness, of 1."""
CELL_AREA = (0.0332, 0.5344)
"""0.5th and 99.5th percentile over cells of `bright_area`."""

SMALLER, LARGER = 0.68, 1.3
"""Diameter over that of the training data: class medians lie between 0.73 and 1.14 of it, so these need another cause."""
MANY = 0.1
"""Share of cells outside a range of 99 in 100 that is worth a word."""
_ENOUGH = 20_000
"""Cells looked at; of more, every second, third, ..."""
_BATCH = 2048


def bright_area(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return how large the nucleus in the middle is, as a share of the picture: (n, h, w) uint8 -> (n,).

    The connected piece at the middle that is brighter than half way from the picture's dark (10th percentile) to its
    middle's bright (90th percentile). Enlarging TissueMNIST's pictures 1.25 times gives 1.25 times its diameter.
    """
    from scipy import ndimage

    _, height, width = images.shape
    four = np.zeros((3, 3, 3), dtype=np.int64)
    four[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    found = []
    for start in range(0, len(images), _BATCH):
        part = images[start : start + _BATCH].astype(np.float32)
        middle = part[:, height // 2 - 3 : height // 2 + 3, width // 2 - 3 : width // 2 + 3]
        dark, bright = np.percentile(part, 10, axis=(1, 2)), np.percentile(middle, 90, axis=(1, 2))
        pieces, n = ndimage.label(part > ((dark + bright) / 2)[:, None, None], structure=four)
        sizes = np.bincount(pieces.ravel(), minlength=n + 1)
        sizes[0] = 0
        centre = pieces[:, height // 2 - 2 : height // 2 + 2, width // 2 - 2 : width // 2 + 2]
        found.append(sizes[centre].max(axis=(1, 2)) / (height * width))
    return np.concatenate(found)


def outside(images: NDArray[np.uint8]) -> list[str]:
    """Return a sentence for each way in which pictures, (n, h, w) uint8, are unlike the training data; none if alike."""
    if len(images) == 0:
        return []
    images = images[:: -(-len(images) // _ENOUGH)]
    areas, means = bright_area(images), images.mean(axis=(1, 2)) / 255
    mean, std = pixel_statistics(images)
    found = []
    ratio = float(np.sqrt(np.median(areas) / AREA))
    if not SMALLER <= ratio <= LARGER:
        times = f"{ratio:.1f} times larger" if ratio > 1 else f"{1 / max(ratio, 0.01):.1f} times smaller"
        found.append(
            f"These nuclei are {times} across than those that the models were trained on: check that they are cut out and "
            "scaled as those were (--voxel-size and mask of `nephros data prepare`)."
        )
    for name, value, usual in (("brightness", mean, PIXEL_MEAN), ("contrast", std, PIXEL_STD)):
        if not 1 / 1.5 <= value / usual <= 1.5:
            word = "mean" if name == "brightness" else "standard deviation"
            found.append(
                f"The pixels' {name} ({word} {value:.3f} of 1) is far from the training data's {usual:.3f}: "
                "check that white means white (--black and --white of `nephros data prepare`)."
            )
    for what, values, (low, high) in (("brightness", means, CELL_MEAN), ("size", areas, CELL_AREA)):
        share = float(np.mean((values < low) | (values > high)))
        if share > MANY:
            found.append(
                f"{100 * share:.0f} % of the nuclei have a {what} that fewer than 1 in 100 training cells have; "
                "expect wrong answers there."
            )
    return found
