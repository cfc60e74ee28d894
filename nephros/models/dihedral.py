"""Convolutions that turn with the image: equivariant to the eight flips and quarter-turns of a square (the group D4).

Cohen and Welling, Group Equivariant Convolutional Networks, ICML 2016 (their p4m). A feature map is a *field* of eight
channels, one an orientation; channel 8 f + g holds field f in orientation g. Turning the input turns every map and permutes
the eight channels of each field, so that their mean over positions and orientations is the same for all eight views.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nephros.models.replace import replace_layers

ORIENTATIONS = 8


def turned(g: int, x: Tensor) -> Tensor:
    """Return (..., k, k) under the group's element g: mirrored left-right where g > 3, then turned g % 4 quarters."""
    return torch.rot90(x.flip(-1) if g > 3 else x, g % 4, (-2, -1))


def _products() -> list[list[int]]:
    """Return the table of c where turned(c, x) = turned(a, turned(b, x)), by a and b."""
    marked = torch.arange(9).view(3, 3)
    each = [turned(g, marked) for g in range(ORIENTATIONS)]
    return [
        [next(c for c in range(ORIENTATIONS) if torch.equal(each[c], turned(a, each[b]))) for b in range(ORIENTATIONS)]
        for a in range(ORIENTATIONS)
    ]


_PRODUCTS = _products()
_INVERSES = [row.index(0) for row in _PRODUCTS]


class D4Conv(nn.Conv2d):
    """A convolution from `inputs` fields (or, of the `first` layer, plain channels) to `fields` fields, without bias.

    It stores one filter for each pair of fields and uses it in eight orientations: an eighth of the parameters of an
    ordinary convolution with as many channels, at the same cost. For exact symmetry kernel and stride must sample the image
    alike from all sides: odd kernels at stride 1, and at stride 2 even kernels on even sides, odd ones on odd sides.
    """

    index: Tensor

    def __init__(self, inputs: int, fields: int, kernel: int, stride: int = 1, first: bool = False) -> None:
        sources = 1 if first else ORIENTATIONS
        super().__init__(inputs * sources, fields * ORIENTATIONS, kernel, stride, (kernel - 1) // 2, bias=False)
        self.bank = (fields, inputs, sources, kernel, kernel)
        self.weight = nn.Parameter(torch.empty(fields, inputs * sources, kernel, kernel))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        taps = torch.arange(sources * kernel * kernel).view(sources, kernel, kernel)
        orders = [[0] if first else [_PRODUCTS[inverse][h] for h in range(ORIENTATIONS)] for inverse in _INVERSES]
        rows = [torch.stack([turned(g, taps[h]) for h in order]).flatten() for g, order in enumerate(orders)]
        self.register_buffer("index", torch.stack(rows), persistent=False)

    def filters(self) -> Tensor:
        """Return the ordinary filters (fields * 8, inputs * sources, k, k) that the stored ones stand for."""
        fields, inputs, sources, kernel, _ = self.bank
        flat = self.weight.reshape(fields, inputs, sources * kernel * kernel)[:, :, self.index]
        turned_bank = flat.view(fields, inputs, ORIENTATIONS, sources, kernel, kernel).transpose(1, 2)
        return turned_bank.reshape(fields * ORIENTATIONS, inputs * sources, kernel, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (n, fields * 8, h', w') of (n, inputs * 8, h, w), or of the first layer's (n, inputs, h, w)."""
        # Not contiguous(), which leaves filters on one channel as they are, and then their maps in the slow layout.
        filters = self.filters().to(memory_format=torch.channels_last)
        return F.conv2d(x, filters, stride=self.stride, padding=self.padding)


class D4Norm(nn.BatchNorm2d):
    """Batch normalisation of fields: the eight channels of each share one scale and shift.

    Their statistics differ by chance alone (and by nothing where a batch holds all views), so in evaluation their means are
    used, which makes the symmetry exact.
    """

    def __init__(self, fields: int) -> None:
        super().__init__(fields * ORIENTATIONS)
        self.weight, self.bias = nn.Parameter(torch.ones(fields)), nn.Parameter(torch.zeros(fields))

    def forward(self, input: Tensor) -> Tensor:
        """Return normalised maps of the same shape (n, fields * 8, h, w)."""
        weight, bias = (p.repeat_interleave(ORIENTATIONS) for p in (self.weight, self.bias))
        if not self.training:
            return F.batch_norm(input, *self.statistics(), weight, bias, False)
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        return F.batch_norm(input, self.running_mean, self.running_var, weight, bias, True, self.momentum or 0.0)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance (fields * 8,) as evaluation takes them, alike for the channels of a field."""
        assert self.running_mean is not None
        assert self.running_var is not None
        mean, var = (
            over_orientations(held.view(1, -1)).repeat_interleave(ORIENTATIONS)
            for held in (self.running_mean, self.running_var)
        )
        return mean, var


def over_orientations(channels: Tensor) -> Tensor:
    """Return (n, fields, ...) means over the eight channels of each field of (n, fields * 8, ...)."""
    n, _, *rest = channels.shape
    return channels.reshape(n, -1, ORIENTATIONS, *rest).mean(2)


class FieldMeans(nn.Module):
    """(n, fields * 8, h, w) maps to (n, fields) means over positions and orientations."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the means."""
        # Over the middle of what lies so in memory: torch's poolings are far slower here, and lose the layout.
        return over_orientations(maps.permute(0, 2, 3, 1).flatten(1, 2).mean(1))


class OrientationMeans(nn.Module):
    """(n, fields * 8, h, w) maps to (n, fields, h, w), which turn with the image; their mean over positions is FieldMeans'."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return the means."""
        return over_orientations(maps)


def made_plain(network: nn.Module) -> nn.Module:
    """Replace the layers of this kind inside `network`, in place, by ordinary ones that answer the same in evaluation.

    For runtimes that fold normalisation into convolutions; it stores each filter in all its orientations.
    """

    def plain(layer: nn.Module) -> nn.Module | None:
        if isinstance(layer, D4Conv):
            return _plain_conv(layer)
        return _plain_norm(layer) if isinstance(layer, D4Norm) else None

    return replace_layers(network, plain)


def _plain_conv(layer: D4Conv) -> nn.Conv2d:
    _, inputs, kernel, _ = layer.filters().shape
    stride, pad = int(layer.stride[0]), layer.padding
    made = nn.Conv2d(inputs, layer.out_channels, kernel, stride, pad, bias=False).to(layer.weight)  # type: ignore[arg-type]
    made.weight.data.copy_(layer.filters().data)
    return made


def _plain_norm(layer: D4Norm) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(layer.num_features, layer.eps).to(layer.weight)
    made.weight.data.copy_(layer.weight.data.repeat_interleave(ORIENTATIONS))
    made.bias.data.copy_(layer.bias.data.repeat_interleave(ORIENTATIONS))
    mean, var = layer.statistics()
    assert made.running_mean is not None
    assert made.running_var is not None
    made.running_mean.copy_(mean)
    made.running_var.copy_(var)
    return made.train(layer.training)
