"""Convolutions that turn with the image: equivariant to the eight flips and quarter-turns of a square (the group D4).

Cohen and Welling, Group Equivariant Convolutional Networks, ICML 2016 (their p4m). A feature map is a *field* of eight
channels, one an orientation; channel 8 f + g holds field f in orientation g. Turning the input turns every map and permutes
the eight channels of each field, so that their mean over positions and orientations is the same for all eight views.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

N_ORIENTATIONS = 8


def d4_transform(g: int, x: Tensor) -> Tensor:
    """Return (..., k, k) under the group's element g: mirrored left-right where g > 3, then turned g % 4 quarters."""
    return torch.rot90(x.flip(-1) if g > 3 else x, g % 4, (-2, -1))


def _cayley_table() -> list[list[int]]:
    """Return the table of c where turned(c, x) = turned(a, turned(b, x)), by a and b."""
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


FilterShape = tuple[int, int, int, int, int]
"""Of filters: fields, inputs, orientations of an input, and the kernel's two sides."""


def expand_filters(weight: Tensor, filter_shape: FilterShape, index: Tensor) -> Tensor:
    """Return the ordinary filters (fields * 8, inputs * sources, k, k) of those stored (fields, inputs * sources, k, k)."""
    out_fields, in_fields, in_orientations, kernel, _ = filter_shape
    flat = weight.reshape(out_fields, in_fields, in_orientations * kernel * kernel)[:, :, index]
    transformed = flat.view(out_fields, in_fields, N_ORIENTATIONS, in_orientations, kernel, kernel).transpose(1, 2)
    return transformed.reshape(out_fields * N_ORIENTATIONS, in_fields * in_orientations, kernel, kernel)


class D4Conv(nn.Conv2d):
    """A convolution from `inputs` fields (or, of the `first` layer, plain channels) to `fields` fields, without bias.

    It stores one filter for each pair of fields and uses it in eight orientations: an eighth of the parameters of an
    ordinary convolution with as many channels, at the same cost. For exact symmetry kernel and stride must sample the image
    alike from all sides: odd kernels at stride 1, and at stride 2 even kernels on even sides, odd ones on odd sides.
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
        taps = torch.arange(in_orientations * kernel_size * kernel_size).view(in_orientations, kernel_size, kernel_size)
        orders = [
            [0] if lifting else [_CAYLEY_TABLE[inverse][h] for h in range(N_ORIENTATIONS)] for inverse in _INVERSES
        ]
        rows = [torch.stack([d4_transform(g, taps[h]) for h in order]).flatten() for g, order in enumerate(orders)]
        self.register_buffer("index", torch.stack(rows), persistent=False)

    def filters(self) -> Tensor:
        """Return the ordinary filters (fields * 8, inputs * sources, k, k) that the stored ones stand for."""
        return expand_filters(self.weight, self.filter_shape, self.index)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (n, fields * 8, h', w') of (n, inputs * 8, h, w), or of the first layer's (n, inputs, h, w)."""
        # Not contiguous(), which leaves filters on one channel as they are, and then their maps in the slow layout.
        filters = self.filters().to(memory_format=torch.channels_last)
        return F.conv2d(x, filters, stride=self.stride, padding=self.padding)


class D4BatchNorm(nn.BatchNorm2d):
    """Batch normalisation of fields: the eight channels of each share one scale and shift.

    Their statistics differ by chance alone (and by nothing where a batch holds all views), so in evaluation their means are
    used, which makes the symmetry exact.
    """

    def __init__(self, fields: int) -> None:
        super().__init__(fields * N_ORIENTATIONS)
        self.weight, self.bias = nn.Parameter(torch.ones(fields)), nn.Parameter(torch.zeros(fields))

    def forward(self, input: Tensor) -> Tensor:
        """Return normalised maps of the same shape (n, fields * 8, h, w)."""
        weight, bias = (p.repeat_interleave(N_ORIENTATIONS) for p in (self.weight, self.bias))
        if not self.training:
            return F.batch_norm(input, *self.eval_statistics(), weight, bias, False)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        return F.batch_norm(input, self.running_mean, self.running_var, weight, bias, True, self.momentum or 0.0)

    def eval_statistics(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance (fields * 8,) as evaluation takes them, alike for the channels of a field."""
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
    """(n, fields * 8, h, w) maps to (n, fields) means over positions and orientations."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the means."""
        # Over the middle of what lies so in memory: torch's poolings are far slower here, and lose the layout.
        return mean_over_orientations(maps.permute(0, 2, 3, 1).flatten(1, 2).mean(1))


class OrientationPool(nn.Module):
    """(n, fields * 8, h, w) maps to (n, fields, h, w), which turn with the image; their mean over positions is FieldMeans'."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the means."""
        return mean_over_orientations(maps)
