"""Explanations of a run's predictions, for its report: saliency maps and similar training cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nephros.data.dataset import Dataset
from nephros.data.volumes import IndexedImages, SlicesTiles, tile_heatmap
from nephros.errors import NephrosError
from nephros.runs import RunFolder

N_SIMILAR_CELLS = 2
_MAX_MULTIPLY_ADDS = 1.5e11
"""Budget for the features of the reference cells; some seconds."""
_MIN_REFERENCE_CELLS, _MAX_REFERENCE_CELLS = 500, 5000


@dataclass(frozen=True)
class SimilarCell:
    """A training cell whose features are close to those of the explained cell."""

    image: NDArray[np.uint8]
    """(h, w) or (h, w, 3)."""
    label: int
    similarity: float
    """1 for the same direction of the features, 0 for unrelated ones."""


@dataclass(frozen=True)
class CellExplanation:
    """Why the network predicts one class for one cell."""

    saliency: NDArray[np.float32]
    """(h, w) from 0 to 1: evidence for that class by position."""
    method: str
    """``class activation`` or ``occlusion``."""
    similar_cells: tuple[SimilarCell, ...]
    """The most similar first."""


Explainer = Callable[[NDArray[np.uint8], NDArray[np.int64]], list[CellExplanation]]
"""(n, h, w) or (n, h, w, 3) uint8 cells, and the predicted classes (n,) -> an explanation of each."""


def build_run_explainer(run: RunFolder, dataset: Dataset) -> Explainer | None:
    """Return an explainer for the network of a finished run; similar cells come from the train split of its `dataset`.

    None if the run has no weights yet, or a model without a linear last layer, such as a classical baseline.
    """
    from nephros.evaluation.scoring import load_run_model
    from nephros.exporters.inference_module import InferenceModule
    from nephros.exporters.packaging import run_module
    from nephros.inference.prediction_batch import PredictionBatch
    from nephros.interpretability.saliency import saliency_maps
    from nephros.interpretability.similar_cells import sample_reference_index

    if not run.file("weights.safetensors").is_file():
        return None
    try:
        module = InferenceModule(load_run_model(run))
    except NephrosError:
        return None

    def predict_batch(cells: NDArray[np.uint8]) -> PredictionBatch:
        outputs = run_module(module, cells)
        return PredictionBatch(
            outputs["probabilities"],
            outputs["features"],
            outputs.get("class_activation_maps"),
            np.zeros(len(cells), dtype=np.bool_),
            ((),) * len(cells),
        )

    affordable_cells = int(_MAX_MULTIPLY_ADDS / max(1, run.info().multiply_adds))
    max_cells = min(_MAX_REFERENCE_CELLS, max(_MIN_REFERENCE_CELLS, affordable_cells))
    reference = sample_reference_index(
        lambda cells: run_module(module, cells)["features"], dataset, max_cells, trained_on=True
    )

    displayed: IndexedImages = SlicesTiles(reference.images) if dataset.is_volumetric else reference.images

    def explain(cells: NDArray[np.uint8], labels: NDArray[np.int64]) -> list[CellExplanation]:
        predictions = predict_batch(cells)
        assert predictions.features is not None
        maps = saliency_maps(cells, predictions, labels, predict_batch)
        indices, similarities = reference.nearest(predictions.features, N_SIMILAR_CELLS)
        return [
            CellExplanation(
                tile_heatmap(values) if dataset.is_volumetric else values,
                maps.method,
                tuple(
                    SimilarCell(displayed[i], int(reference.labels[i]), float(similarity))
                    for i, similarity in zip(*neighbors, strict=True)
                ),
            )
            for values, *neighbors in zip(maps.values, indices, similarities, strict=True)
        ]

    return explain
