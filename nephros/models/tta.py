"""The views of an image over which an answer is averaged: one-pixel shifts, flips and quarter-turns.

Our networks halve an image's side by taking every other position, so that even a shift by a pixel shows them the same cell
anew.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class View(NamedTuple):
    """What is done to an image, in this order."""

    turns: int
    """Quarter-turns."""
    flip: bool
    right: int
    """Pixels, and black comes in from outside; left where negative."""
    down: int

    def of(self, x: Tensor) -> Tensor:
        """Return (n, c, h, w) images so seen."""
        x = torch.rot90(x, self.turns, (2, 3)) if self.turns else x
        x = x.flip(3) if self.flip else x
        shift = (self.right, -self.right, self.down, -self.down)
        return F.pad(x, shift) if any(shift) else x

    def undone(self, maps: Tensor) -> Tensor:
        """Return (n, c, h, w) maps of such a view turned back; a shift is far below their resolution and stays."""
        maps = maps.flip(3) if self.flip else maps
        return torch.rot90(maps, -self.turns, (2, 3)) if self.turns else maps


def views(count: int) -> list[View]:
    """Return so many of them, as a recipe's `views` has it."""
    shifts = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)] if count in (5, 40) else [(0, 0)]
    turned = [(turns, flip) for flip in (False, True) for turns in range(4)] if turning(count) else [(0, False)]
    return [View(turns, flip, *shift) for shift in shifts for turns, flip in turned]


def turning(count: int) -> bool:
    """Return whether quarter-turns are among so many views, for which images must be square."""
    return count in (8, 40)


def mean_of_logits(logits: list[Tensor]) -> Tensor:
    """Return (n, classes) logits of the mean of the probabilities that each of some (n, classes) logits stands for."""
    return torch.stack([torch.log_softmax(one, dim=1) for one in logits]).logsumexp(0)


class Averaged(nn.Module):
    """A classifier asked about so many views of each image: (n, c, h, w) in 0..255 -> logits of the mean probabilities.

    Black is 0 there, so a shift brings in what lies around the cells.
    """

    def __init__(self, classifier: nn.Module, count: int) -> None:
        super().__init__()
        self.classifier, self.views = classifier, views(count)

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits; those of the classifier itself where there is one view."""
        seen = [self.classifier(view.of(images_nchw)) for view in self.views]
        return mean_of_logits(seen) if len(seen) > 1 else seen[0]
