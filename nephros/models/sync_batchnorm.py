"""Batch normalization over the parts of a batch on all ranks, since torch's SyncBatchNorm refuses CPU tensors.

Mean, variance and their gradients (Ioffe and Szegedy, ICML 2015) are those of the whole batch.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nephros.distributed import DistributedContext
from nephros.models.classifier import NO_EPS


def convert_sync_batchnorm(network: nn.Module, context: DistributedContext) -> None:
    """Replace each batch normalization inside `network` by one over all ranks' images; parameters and names stay."""
    for name, layer in network.named_children():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(network, name, CPUSyncBatchNorm(layer, context))
        else:
            convert_sync_batchnorm(layer, context)


class CPUSyncBatchNorm(nn.BatchNorm2d):
    """Batch normalization with the statistics of all ranks' images.

    `forward` takes (n, c) or (n, c, h, w) features of this rank's images and returns the same shape and dtype. The layer shares
    the parameters and buffers of the layer that it replaces, and in evaluation mode it calls that layer.
    """

    def __init__(self, layer: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, context: DistributedContext) -> None:
        assert layer.affine
        assert layer.track_running_stats
        assert layer.momentum is not None
        super().__init__(layer.num_features, layer.eps, layer.momentum)
        self._parameters, self._buffers = layer._parameters, layer._buffers
        self.train(layer.training)
        self.context = context
        self._channels_per_weight = layer.num_features // layer.weight.numel()
        self._original = [layer.eval()]  # in a list, so that torch doesn't register it as a submodule

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalized (n, c) or (n, c, h, w) features."""
        if not self.training:
            evaluated: Tensor = self._original[0](input)
            return evaluated
        # Under autocast the features have 16 bits, which are too few for sums.
        x = input if input.dtype == self.weight.dtype else input.to(self.weight.dtype)
        y: Tensor = self._synced(x)
        return y.to(input.dtype)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _synced(self, x: Tensor) -> Tensor:
        mean, var, count = _global_statistics(x.detach(), self.context)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * (count / (count - 1)), self.momentum)  # unbiased, as torch keeps it
        self.num_batches_tracked.add_(1)
        weight, bias = (p.repeat_interleave(self._channels_per_weight) for p in (self.weight, self.bias))
        y: Tensor = _Normalize.apply(x, weight, bias, mean, var, count, self.eps, self.context)  # type: ignore[no-untyped-call]
        return y

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept (n, c) too, which BatchNorm2d refuses."""


def _global_statistics(x: Tensor, context: DistributedContext) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (c,), biased variance (c,) and count () of each channel over all ranks' `x`, in its dtype.

    Each rank sums the squared deviations from its own mean, and the results are merged (Chan, Golub and LeVeque, The American
    Statistician 37, 1983): with sums of squares the variance of channels far from zero would be lost to rounding.
    """
    dims = _non_channel_dims(x)
    local_mean = x.mean(dims)
    # batch_norm with fixed statistics computes x - mean several times faster than broadcasting over the last axis in memory.
    centered = F.batch_norm(x, local_mean, torch.ones_like(local_mean), eps=NO_EPS)
    squared_sums = (centered * centered).sum(dims)
    count = local_mean.new_tensor([x.numel() / len(local_mean)])
    gathered = context.all_gather(torch.cat([count, local_mean, squared_sums]).double())
    counts, means, squared_sums = gathered.split_with_sizes([1, len(local_mean), len(local_mean)], dim=1)
    n = counts.sum()
    mean = (counts * means).sum(0) / n
    var = (squared_sums + counts * (means - mean).square()).sum(0) / n
    return mean.to(x.dtype), var.to(x.dtype), n.to(x.dtype)


def _non_channel_dims(x: Tensor) -> list[int]:
    return [0, *range(2, x.ndim)]


class _Normalize(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, with the mean and variance of all ranks' x."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        n: Tensor,
        eps: float,
        context: DistributedContext,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var, n)
        ctx.eps, ctx.context = eps, context
        return F.batch_norm(x, mean, var, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of this rank's x, and its part of the gradients of weight and bias, which are summed later."""
        x, weight, mean, var, n = ctx.saved_tensors
        dims = _non_channel_dims(x)
        x_hat = F.batch_norm(x, mean, var, eps=ctx.eps)
        d_weight, d_bias = (dy * x_hat).sum(dims), dy.sum(dims)
        mean_dy_x_hat, mean_dy = (ctx.context.all_reduce(torch.stack([d_weight, d_bias])) / n).unbind()
        # dx = (dy - mean(dy) - x_hat * mean(dy * x_hat)) * weight / sqrt(var + eps)
        dx_hat = dy - F.batch_norm(x, mean, var, mean_dy_x_hat, mean_dy, eps=ctx.eps)
        dx = F.batch_norm(dx_hat, torch.zeros_like(mean), var, weight, eps=ctx.eps)
        return dx, d_weight, d_bias, None, None, None, None, None
