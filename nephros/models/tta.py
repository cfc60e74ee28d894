"""The views of an image over which an answer is averaged: one-pixel shifts, flips and quarter-turns.

Our networks halve an image's side by taking every other position, so that even a shift by a pixel shows them the same cell
anew.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TTAView(NamedTuple):
    """What is done to an image, in this order."""

    quarter_turns: int
    """Quarter-turns."""
    flip: bool
    shift_right: int
    """Pixels, and black comes in from outside; left where negative."""
    shift_down: int

    def apply(self, x: Tensor) -> Tensor:
        """Return (n, c, h, w) images so seen."""
        x = torch.rot90(x, self.quarter_turns, (2, 3)) if self.quarter_turns else x
        x = x.flip(3) if self.flip else x
        shift = (self.shift_right, -self.shift_right, self.shift_down, -self.shift_down)
        return F.pad(x, shift) if any(shift) else x

    def invert(self, maps: Tensor) -> Tensor:
        """Return (n, c, h, w) maps of such a view turned back; a shift is far below their resolution and stays."""
        maps = maps.flip(3) if self.flip else maps
        return torch.rot90(maps, -self.quarter_turns, (2, 3)) if self.quarter_turns else maps


def make_tta_views(tta_views: int) -> list[TTAView]:
    """Return so many of them, as a recipe's `views` has it."""
    shifts = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)] if tta_views in (5, 40) else [(0, 0)]
    orientations = (
        [(quarter_turns, flip) for flip in (False, True) for quarter_turns in range(4)]
        if includes_rotations(tta_views)
        else [(0, False)]
    )
    return [TTAView(quarter_turns, flip, *shift) for shift in shifts for quarter_turns, flip in orientations]


def includes_rotations(tta_views: int) -> bool:
    """Return whether quarter-turns are among so many views, for which images must be square."""
    return tta_views in (8, 40)


def ensemble_logits(logits: list[Tensor]) -> Tensor:
    """Return (n, classes) logits of the mean of the probabilities that each of some (n, classes) logits stands for."""
    return torch.stack([torch.log_softmax(view_logits, dim=1) for view_logits in logits]).logsumexp(0)


class TTAClassifier(nn.Module):
    """A classifier asked about so many views of each image: (n, c, h, w) in 0..255 -> logits of the mean probabilities.

    Black is 0 there, so a shift brings in what lies around the cells.
    """

    def __init__(self, classifier: nn.Module, tta_views: int) -> None:
        super().__init__()
        self.classifier, self.views = classifier, make_tta_views(tta_views)

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits; those of the classifier itself where there is one view."""
        view_logits = [self.classifier(view.apply(images_nchw)) for view in self.views]
        return ensemble_logits(view_logits) if len(view_logits) > 1 else view_logits[0]
