"""Whether a network's outputs are those that its model card promises: names, shapes, types and values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.volumes import n_planes
from nephros.inference.model_card import ModelCard

Outputs = dict[str, NDArray[np.float32]]
_MAX_SUM_ERROR = 1e-3
"""Largest difference of a cell's probabilities, summed, from 1."""


def shape_fault(outputs: Outputs, card: ModelCard, n_cells: int) -> str:
    """Return in which way the outputs for `n_cells` cells can't be those of the card's model, as a clause; "" if they can."""
    n_classes = len(card["class_names"])
    expected: dict[str, tuple[int | None, ...]] = {
        "probabilities": (n_cells, n_classes),
        "features": (n_cells, None),
        "class_activation_maps": (n_cells, n_classes, None, None),
        "feature_distance": (n_cells,),
    }
    if "probabilities" not in outputs:
        return "it returns no probabilities"
    for name, output in outputs.items():
        shape = expected.get(name, (n_cells, *output.shape[1:]))
        fits = len(shape) == output.ndim and all(
            size in (None, actual) for size, actual in zip(shape, output.shape, strict=True)
        )
        if not fits or output.dtype.kind != "f":
            return f"it returns {name} of {output.dtype} {output.shape} for {n_cells} cells and {n_classes} classes"
    return ""


def opening_fault(outputs: Outputs, card: ModelCard, n_cells: int) -> str:
    """Return what else about the outputs of a model that is being opened contradicts its card, as a clause; "" if nothing does.

    The outputs must be finite and have no `shape_fault`.
    """
    interface: dict[str, Any] = card.get("interface", {})
    input_spec = card["input"]
    actual = {
        "inputs": {"cells": ["n", n_planes(input_spec), input_spec["height"], input_spec["width"]]},
        "outputs": {name: ["n", *output.shape[1:]] for name, output in outputs.items()},
    }
    for key, values in interface.items():
        if values != actual.get(key):
            return f"its {key} are {actual.get(key)}, and its card says {values}"
    detector = card["ood_detector"]
    if detector is not None and ("feature_distance" in outputs) != (detector["feature_distance"] is not None):
        return "only one of the two has a feature distance"
    probabilities = outputs["probabilities"].astype(np.float64)
    if probabilities.min() < 0 or np.abs(probabilities.sum(axis=1) - 1).max() > _MAX_SUM_ERROR:
        return f"its probabilities for {n_cells} blank cells are below 0 or don't sum to 1"
    return ""
