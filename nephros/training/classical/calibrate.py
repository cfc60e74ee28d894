"""Probabilities from scores: one scale and one shift a class, fitted on validation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RESTRAINT = 1e-4
"""Pulls the shift of a class that validation lacks towards 0; of no account for the others."""


def vector_scaling(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return (classes,) scale and shift by which softmax(scale x scores + shift) has the least mean cross-entropy.

    `scores` are (n, classes), `labels` (n,) int64. This is vector scaling (Guo et al., On calibration of modern neural
    networks, ICML 2017), which is Platt's with one slope a class; a convex problem, solved by L-BFGS in float64.
    """
    scores = scores.double()
    scale = torch.ones(scores.shape[1], dtype=torch.float64, device=scores.device, requires_grad=True)
    shift = torch.zeros_like(scale, requires_grad=True)
    solver = torch.optim.LBFGS([scale, shift], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        restraint = RESTRAINT * ((scale - 1).square().sum() + shift.square().sum())
        total = F.cross_entropy(scale * scores + shift, labels) + restraint
        total.backward()  # type: ignore[no-untyped-call]
        return total

    solver.step(loss)  # type: ignore[no-untyped-call]
    return scale.detach().float(), shift.detach().float()
