"""Test-time augmentation around an exported network of one view: its predictions averaged over shifts or turns of each cell."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nephros.data.images.tta_views import DEFAULT_TTA_VIEWS, view_parameters
from nephros.evaluation.calibration import apply_temperature
from nephros.inference.model_card import ModelCard
from nephros.inference.onnx_session import ForwardFn

View = tuple[int, int, int]
"""Orientation, pixels to the right and pixels down, as in `view_parameters`."""


def tta_forward_fn(forward_fn: ForwardFn, tta_views: int, inner_temperature: float, temperature: float) -> ForwardFn:
    """Return a network whose outputs are means over `tta_views` views of each cell.

    Probabilities are averaged before calibration and then calibrated with `temperature`: `inner_temperature`, which
    `forward_fn` applies to each view, is undone first. Features and maps (turned back) are plain means. The feature distance is
    that of the cell itself, the first view, so that the same cells are out of distribution with and without augmentation.
    """
    views = view_parameters(tta_views)

    def forward(cells: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        sums: dict[str, NDArray[np.float64]] = {}
        for view in views:
            for name, output in forward_fn(apply_view(view, cells)).items():
                if name == "feature_distance" and view != views[0]:
                    continue
                values = output.astype(np.float64)
                if name == "probabilities":
                    values = apply_temperature(values, 1 / inner_temperature)
                elif name == "class_activation_maps":
                    values = undo_view(view, values)
                sums[name] = sums[name] + values if name in sums else values
        means = {name: total / (1 if name == "feature_distance" else len(views)) for name, total in sums.items()}
        means["probabilities"] = apply_temperature(means["probabilities"], temperature)
        return {name: mean.astype(np.float32) for name, mean in means.items()}

    return forward


def apply_view(view: View, cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (n, h, w) or (n, h, w, c) cells, flipped and turned, then shifted; pixels from outside are black."""
    orientation, right, down = view
    if orientation:
        cells = np.rot90(cells[:, :, ::-1] if orientation > 3 else cells, orientation % 4, (1, 2))
    if not (right or down):
        return cells
    height, width = cells.shape[1:3]
    shifted = np.zeros_like(cells)
    shifted[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = cells[
        :, max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
    ]
    return shifted


def undo_view(view: View, maps: NDArray[Any]) -> NDArray[Any]:
    """Return (n, classes, h, w) maps without the view's turn and flip; a shift is far below their resolution and stays."""
    orientation = view[0]
    upright = np.rot90(maps, -(orientation % 4), (2, 3)) if orientation else maps
    return upright[..., ::-1] if orientation > 3 else upright


def tta_card(card: ModelCard) -> ModelCard:
    """Return the card of a network of one view as it predicts with test-time augmentation.

    Its figures, temperature and quantiles are the reading ``tta``; thresholds stay the same. A card without that reading keeps
    that of one view, which then holds approximately.
    """
    reading = card.get("tta")
    tta_views = reading["tta_views"] if reading else DEFAULT_TTA_VIEWS
    figures: dict[str, Any] = {key: value for key, value in (reading or {}).items() if key != "tta_views"}
    network = {**card["network"], "tta_views": tta_views}
    return cast(
        ModelCard, {**{key: value for key, value in card.items() if key != "tta"}, **figures, "network": network}
    )
