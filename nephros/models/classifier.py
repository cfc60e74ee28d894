"""A network together with the normalization of its inputs, so that weights and preprocessing stay together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Classifier(nn.Module):
    """Maps images as stored to class scores.

    `forward` takes (n, c, h, w) images, uint8 or float, in 0..255, and returns (n, classes) float logits. The mean and
    standard deviation of each channel (of pixels divided by 255) are buffers, saved and loaded with the weights.
    """

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def normalize(self, images_nchw: Tensor) -> Tensor:
        """Return (n, c, h, w) float images: (pixel / 255 - mean) / std per channel."""
        # batch_norm with fixed statistics does this in one pass over memory.
        return F.batch_norm(images_nchw.to(self.mean.dtype), 255 * self.mean, (255 * self.std).square(), eps=0.0)

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits of (n, c, h, w) images in 0..255."""
        logits: Tensor = self.network(self.normalize(images_nchw))
        return logits
