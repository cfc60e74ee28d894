"""Turning convolutions for answering alone: each with the normalisation after it folded in, its filters still stored once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nephros.models.dihedral import N_ORIENTATIONS, D4BatchNorm, D4Conv, expand_filters


class FoldedConv(nn.Module):
    """A D4Conv and the D4Norm after it, in evaluation, as one: (n, inputs * 8, h, w) -> (n, fields * 8, h', w').

    The eight channels of a field share one scale and one shift, so both fold into the filter that is stored once. A runtime
    that folds constants turns it into its orientations when it starts; the file stays an eighth as large.
    """

    index: Tensor

    def __init__(self, conv: D4Conv, norm: D4BatchNorm) -> None:
        super().__init__()
        self.filter_shape, self.stride, self.padding = conv.filter_shape, conv.stride, conv.padding
        mean, var = (statistic.view(-1, N_ORIENTATIONS)[:, 0] for statistic in norm.eval_statistics())
        scale = norm.weight / torch.sqrt(var + norm.eps)
        self.weight = nn.Parameter((conv.weight * scale[:, None, None, None]).detach())
        self.bias = nn.Parameter((norm.bias - mean * scale).detach())
        self.register_buffer("index", conv.index, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the maps."""
        filters = expand_filters(self.weight, self.filter_shape, self.index).to(memory_format=torch.channels_last)
        bias = self.bias[:, None].expand(-1, N_ORIENTATIONS).reshape(-1)
        return F.conv2d(x, filters, bias, stride=self.stride, padding=self.padding)


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Replace each D4Conv and the D4Norm that follows it in a Sequential, in place, by a FoldedConv; return the network."""
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for i in range(len(module) - 1):
            conv, norm = module[i], module[i + 1]
            if isinstance(conv, D4Conv) and isinstance(norm, D4BatchNorm):
                module[i], module[i + 1] = FoldedConv(conv, norm), nn.Identity()
    return network
