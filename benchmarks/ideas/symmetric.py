"""Convolutions that turn with the image: group-equivariant over the eight flips and quarter-turns (Cohen & Welling 2016)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nephros.models.shape import Shape
from nephros.recipe import Model

GROUP = 8


def _element(g: int, image: Tensor) -> Tensor:
    """Return (..., k, k) flipped and turned by the group's element g: a flip where g > 3, then g % 4 quarter-turns."""
    return torch.rot90(image.flip(-1) if g > 3 else image, g % 4, (-2, -1))


def _product_table() -> list[list[int]]:
    """Return h -> g with element(a)(element(b)(x)) = element(table[a][b])(x)."""
    mark = torch.arange(9).view(3, 3)
    found = [_element(g, mark) for g in range(GROUP)]
    return [
        [next(c for c in range(GROUP) if torch.equal(found[c], _element(a, found[b]))) for b in range(GROUP)]
        for a in range(GROUP)
    ]


_PRODUCT = _product_table()


class TurnConv(nn.Conv2d):
    """A convolution from images, or from maps of fields x 8 channels, to maps of fields x 8 channels.

    One filter bank is stored and used in eight orientations, so that turning the input turns the output's maps and
    permutes the eight channels of each field.
    """

    index: Tensor

    def __init__(self, inputs: int, fields: int, kernel: int, stride: int = 1, first: bool = False) -> None:
        orders = 1 if first else GROUP
        super().__init__(inputs * orders, fields * GROUP, kernel, stride, (kernel - 1) // 2, bias=False)
        self.bank = (fields, inputs, orders, kernel, kernel)
        self.weight = nn.Parameter(torch.empty(fields, inputs * orders, kernel, kernel))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        place = torch.arange(orders * kernel * kernel).view(orders, kernel, kernel)
        turned = []
        for g in range(GROUP):
            inverse = next(h for h in range(GROUP) if _PRODUCT[g][h] == 0)
            sources = [0] if first else [_PRODUCT[inverse][h] for h in range(GROUP)]
            turned.append(torch.stack([_element(g, place[source]) for source in sources]).flatten())
        self.register_buffer("index", torch.stack(turned), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, fields * 8, h', w')."""
        fields, inputs, orders, kernel, _ = self.bank
        flat = self.weight.reshape(fields, inputs, orders * kernel * kernel)[:, :, self.index]
        bank = flat.view(fields, inputs, GROUP, orders, kernel, kernel).transpose(1, 2)
        bank = bank.reshape(fields * GROUP, inputs * orders, kernel, kernel).contiguous(
            memory_format=torch.channels_last
        )
        return F.conv2d(x, bank, stride=self.stride, padding=self.padding)


class TurnNorm(nn.Module):
    """Batch normalisation with one scale and shift for the eight channels of a field."""

    mean: Tensor
    var: Tensor

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(fields)), nn.Parameter(torch.zeros(fields))
        self.register_buffer("mean", torch.zeros(fields * GROUP))
        self.register_buffer("var", torch.ones(fields * GROUP))

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised maps of the same shape (n, fields * 8, h, w)."""
        weight, bias = self.weight.repeat_interleave(GROUP), self.bias.repeat_interleave(GROUP)
        mean, var = self.mean, self.var
        if not self.training:  # the eight statistics of a field differ by chance alone
            mean, var = (s.view(-1, GROUP).mean(1).repeat_interleave(GROUP) for s in (mean, var))
        return F.batch_norm(x, mean, var, weight, bias, self.training, 0.1)


class TurnBlock(nn.Module):
    """relu(x + body(x))."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            TurnConv(fields, fields, 3),
            TurnNorm(fields),
            nn.ReLU(inplace=True),
            TurnConv(fields, fields, 3),
            TurnNorm(fields),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape."""
        return F.relu(x + self.body(x), inplace=True)


class TurnNet(nn.Module):
    """The compact network's shape with turning convolutions; what it answers is the same for all eight views."""

    def __init__(self, model: Model, shape: Shape, widths: tuple[int, ...], depths: tuple[int, ...], last: int) -> None:
        super().__init__()
        fields = [width // GROUP for width in widths]
        layers: list[nn.Module] = [TurnConv(shape.channels, fields[0], 6, 2, first=True), TurnNorm(fields[0])]
        layers.append(nn.ReLU(inplace=True))
        for stage, (field, depth) in enumerate(zip(fields, depths, strict=True)):
            if stage > 0:
                kernel = 4 if stage == 1 else 3  # both sample 14 -> 7 and 7 -> 4 the same way from every side
                layers += [TurnConv(fields[stage - 1], field, kernel, 2), TurnNorm(field), nn.ReLU(inplace=True)]
            layers += [TurnBlock(field) for _ in range(depth)]
        layers += [TurnConv(fields[-1], last, 1), TurnNorm(last), nn.ReLU(inplace=True)]
        self.features, self.fields = nn.Sequential(*layers), last
        self.head = nn.Linear(last, shape.classes)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits of (n, c, h, w) normalised images."""
        maps = self.features(x_nchw).mean((2, 3)).view(-1, self.fields, GROUP).mean(2)
        logits: Tensor = self.head(maps)
        return logits


def turning(
    widths: tuple[int, ...] = (32, 64, 128), depths: tuple[int, ...] = (2, 2, 2), last: int = 64
) -> Callable[[Model, Shape], nn.Module]:
    """Return what builds a TurnNet."""
    return lambda model, shape: TurnNet(model, shape, widths, depths, last)
