"""Test-time augmentation (TTA): predictions averaged over views of an image, its one-pixel shifts, flips and quarter-turns.

The networks halve an image's side with strided convolutions, so that even a shift by one pixel gives another sample of it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nephros.data.images.tta_views import view_parameters
from nephros.models.dihedral import d4_inverse, d4_transform


class TTAView(NamedTuple):
    """Transform of an image: an element of D4, then a shift."""

    orientation: int
    """Element of D4 as in `d4_transform`: a flip if above 3, then quarter-turns; 0 changes nothing."""
    shift_right: int
    """Pixels; negative shifts go left. Pixels from outside are black."""
    shift_down: int

    def apply(self, x: Tensor) -> Tensor:
        """Return the transformed (n, c, h, w) images."""
        x = d4_transform(self.orientation, x) if self.orientation else x
        shift = (self.shift_right, -self.shift_right, self.shift_down, -self.shift_down)
        return F.pad(x, shift) if any(shift) else x

    def invert(self, maps: Tensor) -> Tensor:
        """Undo flip and rotation of (n, c, h, w) feature maps; a shift is far below their resolution and stays."""
        return d4_transform(d4_inverse(self.orientation), maps) if self.orientation else maps


def make_tta_views(tta_views: int) -> list[TTAView]:
    """Return the views of a recipe's `tta_views`: 1, 5, 8 or 40."""
    return [TTAView(*parameters) for parameters in view_parameters(tta_views)]


def ensemble_logits(logits: list[Tensor]) -> Tensor:
    """Return (n, classes) logits of the mean probabilities (up to a constant) of several (n, classes) logits."""
    return torch.stack([torch.log_softmax(view_logits, dim=1) for view_logits in logits]).logsumexp(0)


class TTAClassifier(nn.Module):
    """Maps (n, c, h, w) images in 0..255 to logits of the mean probabilities of a classifier over `tta_views` views.

    Shifts fill with 0, the black background of the cells.
    """

    def __init__(self, classifier: nn.Module, tta_views: int) -> None:
        super().__init__()
        self.classifier, self.views = classifier, make_tta_views(tta_views)
        self.training = classifier.training  # so that whoever restores this module's mode restores the classifier's

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits; with one view they are the classifier's own."""
        view_logits = [self.classifier(view.apply(images_nchw)) for view in self.views]
        return ensemble_logits(view_logits) if len(view_logits) > 1 else view_logits[0]
