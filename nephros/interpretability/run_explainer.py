"""Reasons for a run's own mistakes, from its weights and its training cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nephros.data.dataset import Dataset
from nephros.errors import NephrosError
from nephros.interpretability.reasons import CellExplanation, Explainer, SimilarCell
from nephros.runs import RunFolder

N_SIMILAR_CELLS = 2
_MAX_MULTIPLY_ADDS = 1.5e11
"""Multiply-adds that looking for similar cells may take; some seconds."""
_MIN_REFERENCE_CELLS, _MAX_REFERENCE_CELLS = 500, 5000


def build_run_explainer(run: RunFolder, dataset: Dataset) -> Explainer | None:
    """Return what explains cells by the network of a finished run and the train split of its data.

    None where the run has no weights yet, or a model without a linear last layer, as classical baselines.
    """
    from nephros.exporters.inference_module import InferenceModule
    from nephros.exporters.packaging import run_module
    from nephros.inference.predictor import PredictionBatch
    from nephros.interpretability.saliency import saliency_maps
    from nephros.interpretability.similar_cells import sample_reference_index
    from nephros.models.serialization import load_model

    weights = run.file("weights.safetensors")
    if not weights.is_file():
        return None
    try:
        module = InferenceModule(load_model(weights)[0])
    except NephrosError:
        return None

    def predict_batch(cells: NDArray[np.uint8]) -> PredictionBatch:
        outputs = run_module(module, cells)
        not_ood = np.zeros(len(cells), dtype=np.bool_)
        return PredictionBatch(
            outputs["probabilities"],
            outputs["features"],
            outputs.get("class_activation_maps"),
            not_ood,
            ("",) * len(cells),
        )

    max_cells = int(
        min(_MAX_REFERENCE_CELLS, max(_MIN_REFERENCE_CELLS, _MAX_MULTIPLY_ADDS / max(1, run.info().multiply_adds)))
    )
    reference = sample_reference_index(lambda cells: run_module(module, cells)["features"], dataset, max_cells, 0, True)

    def explain(cells: NDArray[np.uint8], labels: NDArray[np.int64]) -> list[CellExplanation]:
        predictions = predict_batch(cells)
        assert predictions.features is not None
        maps = saliency_maps(cells, predictions, labels, predict_batch)
        indices, similarity = reference.nearest(predictions.features, N_SIMILAR_CELLS)
        return [
            CellExplanation(
                values,
                maps.method,
                tuple(
                    SimilarCell(reference.images[i], int(reference.labels[i]), float(s))
                    for i, s in zip(*neighbors, strict=True)
                ),
            )
            for values, *neighbors in zip(maps.values, indices, similarity, strict=True)
        ]

    return explain
