"""Probabilities from scores: one scale and one shift a class, fitted on validation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT_PENALTY = 1e-6
"""Pulls the shift of a class that validation lacks towards 0; of no account for the others."""


def fit_vector_scaling(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return (classes,) scale and shift by which softmax(scale x scores + shift) has the least mean cross-entropy.

    `scores` are (n, classes), `labels` (n,) int64. This is vector scaling (Guo et al., On calibration of modern neural
    networks, ICML 2017), which is Platt's with one slope a class; a convex problem, solved by L-BFGS in float64.
    """
    scores = scores.double()
    std = scores.std(dim=0, correction=0).clamp_min(1e-12)
    scores = scores / std  # so that a step is as good for small scores as for large ones
    scale = torch.ones(scores.shape[1], dtype=torch.float64, device=scores.device, requires_grad=True)
    shift = torch.zeros_like(scale, requires_grad=True)
    optimizer = torch.optim.LBFGS([scale, shift], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(scale * scores + shift, labels) + SHIFT_PENALTY * shift.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return (scale.detach() / std).float(), shift.detach().float()
