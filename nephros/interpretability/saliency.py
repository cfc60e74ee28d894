"""Saliency maps: where in a cell the evidence for a class lies, by class activation or by occlusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nephros.array_types import Float32Array
from nephros.inference.prediction_batch import PredictionBatch

PATCH_FRACTION = 1 / 4
"""Side of the occluding patch as a fraction of the image's shorter side; it moves in steps of half its side."""
MAX_MAP_SIDE = 64
"""Longest side of a saliency map; larger images get a smaller map of the same aspect ratio."""

PredictFn = Callable[[NDArray[np.uint8]], PredictionBatch]


@dataclass(frozen=True)
class SaliencyMaps:
    """Saliency maps of n cells, and how they were made."""

    values: Float32Array
    """(n, h, w): 0 without evidence for the class, 1 at its maximum; all 0 if there is no evidence anywhere."""
    method: str
    """``class activation`` or ``occlusion``."""


def saliency_maps(
    cells: NDArray[np.uint8], predictions: PredictionBatch, labels: NDArray[Any], predict_fn: PredictFn
) -> SaliencyMaps:
    """Return a map per cell of the evidence for the class in `labels` (n,).

    A network that ends in global average pooling provides class-activation maps at no cost (Zhou et al., CVPR 2016; with such
    a head Grad-CAM is the same). For any other network, `predict_fn` predicts copies of the cell in which a patch is filled
    with its median, and the map is the resulting drop of the probability (occlusion: Zeiler and Fergus, ECCV 2014).

    Args:
        cells: (n, h, w) or (n, h, w, c) uint8.
        predictions: for these cells.
        labels: (n,), the classes to explain.
        predict_fn: the model; not called if there are class-activation maps.
    """
    size = _map_size(cells.shape[1], cells.shape[2])
    if predictions.class_activation_maps is not None:
        class_maps = predictions.class_activation_maps[np.arange(len(cells)), labels]
        return SaliencyMaps(_resize_and_normalize(class_maps, size), "class activation")
    occlusion_maps = [
        _occlusion_map(cell, float(p[label]), int(label), predict_fn)
        for cell, p, label in zip(cells, predictions.probabilities, labels, strict=True)
    ]
    class_maps = np.stack(occlusion_maps) if occlusion_maps else np.empty((0, 1, 1), dtype=np.float32)
    return SaliencyMaps(_resize_and_normalize(class_maps, size), "occlusion")


def _map_size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, MAX_MAP_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _resize_and_normalize(maps: Float32Array, size: tuple[int, int]) -> Float32Array:
    """Clip (n, h', w') maps at 0, enlarge them bilinearly to `size`, and divide each by its maximum."""
    height, width = size
    resized_maps = np.zeros((len(maps), height, width), dtype=np.float32)
    for i, raw_map in enumerate(np.maximum(maps, 0)):
        resized = Image.fromarray(np.ascontiguousarray(raw_map, dtype=np.float32)).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        peak = float(np.asarray(resized).max())
        if np.isfinite(peak) and peak > 0:
            resized_maps[i] = np.asarray(resized) / peak
    return resized_maps


def _occlusion_map(cell: NDArray[np.uint8], probability: float, label: int, predict_fn: PredictFn) -> Float32Array:
    """Return the mean drop of the label's probability at each half-patch, over the four patches that cover it."""
    height, width = cell.shape[:2]
    step = max(1, round(min(height, width) * PATCH_FRACTION / 2))
    tops, lefts = range(-step, height, step), range(-step, width, step)  # the first and last reach half outside
    occluded = np.repeat(cell[None], len(tops) * len(lefts), axis=0)
    median = np.median(cell, axis=(0, 1)).astype(np.uint8)
    for i, (top, left) in enumerate((top, left) for top in tops for left in lefts):
        occluded[i, max(0, top) : top + 2 * step, max(0, left) : left + 2 * step] = median
    drops = (probability - predict_fn(occluded).probabilities[:, label]).reshape(len(tops), len(lefts))
    return np.asarray((drops[:-1, :-1] + drops[1:, :-1] + drops[:-1, 1:] + drops[1:, 1:]) / 4, dtype=np.float32)
