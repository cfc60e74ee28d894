"""Where in a cell the answer came from: class-activation maps, or what covering a part of the picture does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nephros.inference.predictor import Answers

PATCH = 1 / 4
"""Side of the patch that covers a part of the picture, as a share of the shorter side; it moves by half of itself."""
MOST_SIDE = 64
"""Of a heat map; larger pictures get a smaller map of the same shape."""

Floats = NDArray[np.float32]
Answer = Callable[[NDArray[np.uint8]], Answers]


@dataclass(frozen=True)
class HeatMaps:
    """(n, h, w) float32: 0 where nothing speaks for the class, 1 where most does; all 0 where nothing does anywhere."""

    values: Floats
    method: str
    """``class activation`` or ``occlusion``."""


def heat_maps(cells: NDArray[np.uint8], answers: Answers, labels: NDArray[Any], answer: Answer) -> HeatMaps:
    """Return a map a cell, of why it could be of the class in `labels` (n,).

    A network that ends in a mean over positions gives class-activation maps for nothing (Zhou et al., CVPR 2016; with such
    a head Grad-CAM is the same). Any other is asked again, with `answer`, about pictures a part of which is covered with
    their own median (occlusion: Zeiler and Fergus, ECCV 2014); what counts is how far the probability falls.
    """
    size = _map_size(cells.shape[1], cells.shape[2])
    if answers.maps is not None:
        chosen = answers.maps[np.arange(len(cells)), labels]
        return HeatMaps(_scaled(chosen, size), "class activation")
    found = [
        _occlusion(cell, float(p[label]), int(label), answer)
        for cell, p, label in zip(cells, answers.probabilities, labels, strict=True)
    ]
    chosen = np.stack(found) if found else np.empty((0, 1, 1), dtype=np.float32)
    return HeatMaps(_scaled(chosen, size), "occlusion")


def _map_size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, MOST_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _scaled(maps: Floats, size: tuple[int, int]) -> Floats:
    """Cut (n, h', w') maps at 0, enlarge them smoothly to `size`, and divide each by its highest value."""
    height, width = size
    whole = np.zeros((len(maps), height, width), dtype=np.float32)
    for i, one in enumerate(np.maximum(maps, 0)):
        resized = Image.fromarray(np.ascontiguousarray(one, dtype=np.float32)).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        highest = float(np.asarray(resized).max())
        if np.isfinite(highest) and highest > 0:
            whole[i] = np.asarray(resized) / highest
    return whole


def _occlusion(cell: NDArray[np.uint8], p: float, label: int, answer: Answer) -> Floats:
    """Return (rows, columns) mean falls of the label's probability at each half-patch, over the four patches that cover it."""
    height, width = cell.shape[:2]
    step = max(1, round(min(height, width) * PATCH / 2))
    tops, lefts = range(-step, height, step), range(-step, width, step)  # the first and last stand half outside
    covered = np.repeat(cell[None], len(tops) * len(lefts), axis=0)
    median = np.median(cell, axis=(0, 1)).astype(np.uint8)
    for i, (top, left) in enumerate((top, left) for top in tops for left in lefts):
        covered[i, max(0, top) : top + 2 * step, max(0, left) : left + 2 * step] = median
    falls = (p - answer(covered).probabilities[:, label]).reshape(len(tops), len(lefts))
    return np.asarray((falls[:-1, :-1] + falls[1:, :-1] + falls[:-1, 1:] + falls[1:, 1:]) / 4, dtype=np.float32)
