"""Statistics of batch normalization, measured on given images rather than averaged over training steps."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from nephros.models.dihedral import D4BatchNorm, mean_over_orientations


def batch_norms(model: nn.Module) -> list[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]:
    """Return the model's batch normalizations, in the order in which they are named."""
    return [
        module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    ]


@torch.no_grad()
def estimate_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the statistics of the batch normalizations that are in training mode by their means over `batches`.

    `batches` are (n, c, h, w) images, about equally many in each; all ranks of a distributed run call this together. All
    other layers act as in evaluation. With few steps in an epoch, the running averages lag behind the weights (Wu and
    Johnson, Rethinking "batch" in BatchNorm, 2021, whose precise statistics these are).
    """
    norms = [norm for norm in batch_norms(model) if norm.training]
    was_training, momenta = model.training, [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.train()
    for i, images in enumerate(batches):
        for norm in norms:
            norm.momentum = 1 / (i + 1)  # so that the running average is the mean over the batches so far
        model(images)
    model.train(was_training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


@torch.no_grad()
def recenter_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the statistics of every batch normalization to those of its inputs, and scale and shift so that nothing changes.

    `batches` are (n, c, h, w) images. In evaluation mode the model computes what it did before, and in training mode, where
    the statistics are the batch's, nearly the same: training continues from the function that the weights had.
    """
    norms = batch_norms(model)
    moments = [_Moments() for _ in norms]
    hooks = [norm.register_forward_pre_hook(layer.add) for norm, layer in zip(norms, moments, strict=True)]
    was_training = model.training
    model.eval()
    for images in batches:
        model(images)
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    for norm, layer in zip(norms, moments, strict=True):
        _recenter(norm, *layer.mean_and_variance())


def _recenter(norm: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, mean: Tensor, var: Tensor) -> None:
    """Give a layer the statistics (c,) float64 without changing what it computes in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None

    def per_weight(channels: Tensor) -> Tensor:
        # The eight channels of a field share scale and shift, and are evaluated with their mean statistics.
        return mean_over_orientations(channels.view(1, -1))[0] if isinstance(norm, D4BatchNorm) else channels

    old_mean, old_var = per_weight(norm.running_mean.double()), per_weight(norm.running_var.double())
    scale = norm.weight.double() / torch.sqrt(old_var + norm.eps)
    norm.bias.copy_(norm.bias.double() + (per_weight(mean) - old_mean) * scale)
    norm.weight.copy_(scale * torch.sqrt(per_weight(var) + norm.eps))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)


class _Moments:
    """Sums of x and of x squared per channel, over every input of a layer."""

    def __init__(self) -> None:
        self.n = 0
        self.sums = torch.zeros(())

    def add(self, _layer: nn.Module, inputs: tuple[Tensor]) -> None:
        """Add (n, c) or (n, c, h, w) features; a hook before a layer's forward."""
        x = inputs[0].double()
        dims = [0, *range(2, x.ndim)]
        self.sums = self.sums + torch.stack([x.sum(dims), x.square().sum(dims)])
        self.n += x.numel() // x.shape[1]

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """Return the (c,) float64 mean and variance."""
        mean, mean_square = self.sums / self.n
        return mean, (mean_square - mean.square()).clamp_min(0)
