"""D4-equivariant layers: convolutions that commute with the eight flips and quarter-turns of a square, the group D4.

Cohen and Welling, Group Equivariant Convolutional Networks, ICML 2016 (their p4m). A feature map is a *field* of eight
channels, one per orientation: channel 8 f + g holds field f in orientation g. Transforming the input transforms every map and
permutes the eight channels of each field, so that the mean over positions and orientations is the same for all eight.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nephros.models.filter_expansion import N_ORIENTATIONS, channels_last_filters, expand_filters


def d4_transform(g: int, x: Tensor) -> Tensor:
    """Return (..., k, k) transformed by the element g of D4: flipped left-right if g > 3, then turned by g % 4 quarters."""
    return torch.rot90(x.flip(-1) if g > 3 else x, g % 4, (-2, -1))


def _cayley_table() -> list[list[int]]:
    """Return the group's multiplication table: c at [a][b] if d4_transform(c, x) = d4_transform(a, d4_transform(b, x))."""
    numbered = torch.arange(9).view(3, 3)
    transformed = [d4_transform(g, numbered) for g in range(N_ORIENTATIONS)]
    return [
        [
            next(c for c in range(N_ORIENTATIONS) if torch.equal(transformed[c], d4_transform(a, transformed[b])))
            for b in range(N_ORIENTATIONS)
        ]
        for a in range(N_ORIENTATIONS)
    ]


_CAYLEY_TABLE = _cayley_table()
_INVERSES = [row.index(0) for row in _CAYLEY_TABLE]


def d4_inverse(g: int) -> int:
    """Return the element of D4 that undoes g."""
    return _INVERSES[g]


def orientation_index(in_orientations: int, kernel_size: int) -> Tensor:
    """Return which stored tap each tap of a filter is, for each orientation of the output: (8, in_orientations * k * k)."""
    taps = torch.arange(in_orientations * kernel_size * kernel_size).view(in_orientations, kernel_size, kernel_size)
    orders = [
        [0] if in_orientations == 1 else [_CAYLEY_TABLE[inverse][h] for h in range(N_ORIENTATIONS)]
        for inverse in _INVERSES
    ]
    rows = [torch.stack([d4_transform(g, taps[h]) for h in order]).flatten() for g, order in enumerate(orders)]
    return torch.stack(rows)


class D4Conv(nn.Conv2d):
    """D4-equivariant convolution from `in_fields` to `out_fields` fields, without bias; `lifting` takes plain channels instead.

    It stores one filter per pair of fields and applies it in eight orientations, with an eighth of the parameters of an ordinary
    convolution of as many channels, at the same cost. For exact equivariance, kernel and stride must sample the image
    symmetrically: odd kernels at stride 1; at stride 2, even kernels on even sides and odd kernels on odd sides.
    """

    index: Tensor

    def __init__(
        self, in_fields: int, out_fields: int, kernel_size: int, stride: int = 1, lifting: bool = False
    ) -> None:
        in_orientations = 1 if lifting else N_ORIENTATIONS
        super().__init__(
            in_fields * in_orientations,
            out_fields * N_ORIENTATIONS,
            kernel_size,
            stride,
            (kernel_size - 1) // 2,
            bias=False,
        )
        self.filter_shape = (out_fields, in_fields, in_orientations, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(out_fields, in_fields * in_orientations, kernel_size, kernel_size))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.register_buffer("index", orientation_index(in_orientations, kernel_size), persistent=False)

    def filters(self) -> Tensor:
        """Return the ordinary filters (out_fields * 8, in_channels, k, k)."""
        return expand_filters(self.weight, self.filter_shape, self.index)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, out_fields * 8, h', w') maps of (n, in_fields * 8, h, w), or of (n, in_fields, h, w) when lifting."""
        is_trained = self.weight.requires_grad and torch.is_grad_enabled()
        if is_trained and not torch.compiler.is_compiling():
            filters = channels_last_filters(self.weight, self.filter_shape, self.index)
        else:
            # Not contiguous(), which leaves filters of one channel as they are and so gives maps in the slower layout.
            filters = self.filters().to(memory_format=torch.channels_last)
        return F.conv2d(x, filters, stride=self.stride, padding=self.padding)


class D4BatchNorm(nn.BatchNorm2d):
    """Batch normalization of fields: the eight channels of a field share scale and shift.

    The statistics of the eight channels differ by chance alone, so evaluation uses their means, which makes the equivariance
    exact.
    """

    def __init__(self, fields: int) -> None:
        super().__init__(fields * N_ORIENTATIONS)
        self.weight, self.bias = nn.Parameter(torch.ones(fields)), nn.Parameter(torch.zeros(fields))

    def forward(self, input: Tensor) -> Tensor:
        """Return normalized maps of the same shape (n, fields * 8, h, w)."""
        weight, bias = (p.repeat_interleave(N_ORIENTATIONS) for p in (self.weight, self.bias))
        if not self.training:
            return F.batch_norm(input, *self.eval_statistics(), weight, bias, False)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        return F.batch_norm(input, self.running_mean, self.running_var, weight, bias, True, self.momentum or 0.0)

    def eval_statistics(self) -> tuple[Tensor, Tensor]:
        """Return the mean and variance (fields * 8,) used in evaluation, equal for the channels of a field."""
        assert self.running_mean is not None
        assert self.running_var is not None
        mean, var = (
            mean_over_orientations(buffer.view(1, -1)).repeat_interleave(N_ORIENTATIONS)
            for buffer in (self.running_mean, self.running_var)
        )
        return mean, var


def mean_over_orientations(channels: Tensor) -> Tensor:
    """Return (n, fields, ...) means over the eight channels of each field of (n, fields * 8, ...)."""
    n, _, *rest = channels.shape
    return channels.reshape(n, -1, N_ORIENTATIONS, *rest).mean(2)


class GlobalOrientationPool(nn.Module):
    """Maps (n, fields * 8, h, w) features to their (n, fields) means over positions and orientations."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the means."""
        # As a mean over the middle axis in memory: torch's pooling layers are far slower here, and lose the memory layout.
        return mean_over_orientations(maps.permute(0, 2, 3, 1).flatten(1, 2).mean(1))


class OrientationPool(nn.Module):
    """Maps (n, fields * 8, h, w) features to (n, fields, h, w) means over orientations, which transform with the image."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the means."""
        return mean_over_orientations(maps)


class FoldedConv(nn.Module):
    """A D4Conv with the D4BatchNorm that follows it folded in, for inference.

    The eight channels of a field share scale and shift, so both fold into the filter, which is still stored once. A runtime that
    folds constants expands it to its orientations when it starts; the file stays an eighth as large.
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
        """Return (n, out_fields * 8, h', w') maps."""
        filters = expand_filters(self.weight, self.filter_shape, self.index).to(memory_format=torch.channels_last)
        bias = self.bias[:, None].expand(-1, N_ORIENTATIONS).reshape(-1)
        return F.conv2d(x, filters, bias, stride=self.stride, padding=self.padding)


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Replace, in place, each D4Conv and the D4BatchNorm after it in a Sequential by a FoldedConv; return the network."""
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for i in range(len(module) - 1):
            conv, norm = module[i], module[i + 1]
            if isinstance(conv, D4Conv) and isinstance(norm, D4BatchNorm):
                module[i], module[i + 1] = FoldedConv(conv, norm), nn.Identity()
    return network


def unfold_batch_norm(network: nn.Module, folded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of `network` for the tensors of its folded copy, as `fold_batch_norm` made it.

    A filter keeps what was folded into it; the normalization after it has mean 0 and variance 1 and adds the folded bias, so
    that the network computes the same in evaluation mode. Statistics of real images come from `recenter_batch_norm`.
    """
    state = {name: tensor for name, tensor in folded.items() if name in network.state_dict()}
    for prefix, module in network.named_modules():
        if not isinstance(module, nn.Sequential):
            continue
        for i in range(len(module) - 1):
            norm = module[i + 1]
            if isinstance(module[i], D4Conv) and isinstance(norm, D4BatchNorm):
                name = f"{prefix}.{i + 1}"
                channels = norm.num_features
                state |= {f"{name}.running_mean": torch.zeros(channels), f"{name}.running_var": torch.ones(channels)}
                state[f"{name}.num_batches_tracked"] = torch.tensor(0)
                state[f"{name}.weight"] = torch.full_like(norm.weight, (1 + norm.eps) ** 0.5).detach()
                state[f"{name}.bias"] = folded[f"{prefix}.{i}.bias"]
    return state
