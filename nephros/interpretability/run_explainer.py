"""Reasons for a run's own mistakes, from its weights and its training cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nephros.data.dataset import Dataset
from nephros.errors import UserError
from nephros.interpretability.reasons import Explain, Reason, Similar
from nephros.runs import RunFolder

SIMILAR = 2
_COST = 1.5e11
"""Multiply-adds that looking for similar cells may take; some seconds."""
_FEWEST, _MOST = 500, 5000


def explainer(run: RunFolder, dataset: Dataset) -> Explain | None:
    """Return what explains cells by the network of a finished run and the train split of its data.

    None where the run has no weights yet, or a model without a linear last layer, as classical baselines.
    """
    from nephros.exporters.inference_module import Packaged
    from nephros.exporters.packaging import run_module
    from nephros.inference.predictor import Answers
    from nephros.interpretability.saliency import heat_maps
    from nephros.interpretability.similar_cells import drawn
    from nephros.models.serialization import load_model

    weights = run.file("weights.safetensors")
    if not weights.is_file():
        return None
    try:
        module = Packaged(load_model(weights)[0])
    except UserError:
        return None

    def answer(cells: NDArray[np.uint8]) -> Answers:
        found = run_module(module, cells)
        none = np.zeros(len(cells), dtype=np.bool_)
        return Answers(found["probabilities"], found["features"], found.get("maps"), none, ("",) * len(cells))

    most = int(min(_MOST, max(_FEWEST, _COST / max(1, run.info().multiply_adds))))
    known = drawn(lambda cells: run_module(module, cells)["features"], dataset, most, 0, True)

    def explain(cells: NDArray[np.uint8], labels: NDArray[np.int64]) -> list[Reason]:
        answers = answer(cells)
        assert answers.features is not None
        maps = heat_maps(cells, answers, labels, answer)
        near, similarity = known.nearest(answers.features, SIMILAR)
        return [
            Reason(
                values,
                maps.method,
                tuple(Similar(known.images[i], int(known.labels[i]), float(s)) for i, s in zip(*pair, strict=True)),
            )
            for values, *pair in zip(maps.values, near, similarity, strict=True)
        ]

    return explain
