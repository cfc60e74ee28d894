"""Learning nearest neighbours: there is nothing to fit, so that only the choice of features, distance and number remains."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nephros.data.dataset import Split
from nephros.models.classical import NearestNeighbours, blank, project
from nephros.recipe_parts import Classic
from nephros.training.classical.features import flat, projection
from nephros.training.classical.search_results import Combination, Learnt

QUERIES = 512
"""Images whose neighbours are looked for at once."""


def neighbour_models(
    settings: Classic, train: Split, val: Split, classes: int, device: torch.device, say: Callable[[str], None]
) -> Iterator[Learnt]:
    """Yield a model for each combination of features, distance and number of neighbours, on the device."""
    most = max(settings.neighbours)
    pixels = flat(train.images)
    queries = torch.from_numpy(flat(val.images))
    for kind in settings.features:
        made = projection(kind, pixels, settings.components)
        for distance in settings.distance:
            tensors = made | _bank(distance, pixels, train, made) | _frame(train.labels, classes)
            model = NearestNeighbours(tensors).to(device)
            say(f"looking for {most} neighbours of {len(val):,} validation images by {kind}, {distance}")
            found = torch.cat(
                [model.neighbours(model.features(some.to(device)), most) for some in torch.split(queries, QUERIES)]
            )
            for number in settings.neighbours:
                one = NearestNeighbours(dict(model.named_buffers()) | {"count": torch.tensor(number, device=device)})
                scores = one.spread_out(one.shares(found[:, :number]))
                yield Learnt(Combination(kind, distance, str(number)), one, scores)


def _bank(distance: str, pixels: NDArray[np.float32], train: Split, made: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the stored features, bytes where they are pixels, and how their products with a query become distances."""
    features = project(torch.from_numpy(pixels), made)
    unit = 1.0 if made else 255.0
    squares = features.square().sum(dim=1)
    if distance == "euclidean":
        offset, factor = squares, torch.full_like(squares, 2 / unit)
    else:
        lengths = squares.sqrt()
        # A black image has no direction: it is as far from all as can be without being opposite.
        offset, factor = torch.zeros_like(squares), torch.where(lengths > 0, 1 / (unit * lengths), 0.0)
    bank = features if made else torch.from_numpy(np.round(pixels * 255).astype(np.uint8))
    return {"bank": bank, "offset": offset, "factor": factor, "answers": torch.tensor(train.labels)}


def _frame(labels: NDArray[np.int64], classes: int) -> dict[str, Tensor]:
    """Return the tensors that need no look at the images."""
    present, counts = np.unique(labels, return_counts=True)
    return blank(present, classes) | {
        "prior": torch.tensor(counts / counts.sum(), dtype=torch.float32),
        "count": torch.tensor(1),
    }
