"""Convolutions that turn with the image: group-equivariant over the eight flips and quarter-turns (Cohen & Welling 2016)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
        bank = bank.reshape(fields * GROUP, inputs * orders, kernel, kernel).to(memory_format=torch.channels_last)
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


class TurnSqueeze(nn.Module):
    """Squeeze-and-excitation with one factor a field, from the fields' means over positions and orientations."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.fields = fields
        self.down, self.up = nn.Linear(fields, max(4, fields // 2)), nn.Linear(max(4, fields // 2), fields)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled maps, of the same shape."""
        means = x.mean((2, 3)).view(-1, self.fields, GROUP).mean(2)
        scale = torch.sigmoid(self.up(F.relu(self.down(means)))).repeat_interleave(GROUP, 1)
        return x * scale[:, :, None, None]


@dataclass(frozen=True)
class TurnPlan:
    """What a TurnNet is made of; widths are channels, eight a field."""

    widths: tuple[int, ...] = (32, 64, 128)
    depths: tuple[int, ...] = (2, 2, 2)
    last: int = 64
    """Fields of the 1x1 convolution at the end."""
    stem: int = 6
    """Pixels a side of the stem's kernel: 2, 4, 6 or 8."""
    down: str = "conv"
    """conv (stride 2) or mean (3x3, then mean)."""
    act: Callable[[], nn.Module] = nn.ReLU
    squeeze: bool = False
    pool: str = "mean"
    """Over orientations at the end: mean, max or both; positions are averaged."""
    first: str = "conv"
    """conv or deep: a 3x3 at full resolution before the stem."""


class TurnBlock(nn.Module):
    """act(x + body(x))."""

    def __init__(self, fields: int, plan: TurnPlan) -> None:
        super().__init__()
        body = [
            TurnConv(fields, fields, 3),
            TurnNorm(fields),
            plan.act(),
            TurnConv(fields, fields, 3),
            TurnNorm(fields),
        ]
        self.body = nn.Sequential(*body, *([TurnSqueeze(fields)] if plan.squeeze else []))
        self.act = plan.act()

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape."""
        y: Tensor = self.act(x + self.body(x))
        return y


class TurnNet(nn.Module):
    """The compact network's shape with turning convolutions; what it answers is the same for all eight views."""

    def __init__(self, plan: TurnPlan, model: Model, shape: Shape) -> None:
        super().__init__()
        fields = [width // GROUP for width in plan.widths]
        layers: list[nn.Module] = []
        if plan.first == "deep":
            layers += [TurnConv(shape.channels, 2, 3, first=True), TurnNorm(2), plan.act()]
            layers += [TurnConv(2, fields[0], plan.stem, 2), TurnNorm(fields[0]), plan.act()]
        else:
            layers += [TurnConv(shape.channels, fields[0], plan.stem, 2, first=True), TurnNorm(fields[0]), plan.act()]
        for stage, (field, depth) in enumerate(zip(fields, plan.depths, strict=True)):
            if stage > 0:
                layers += _smaller(plan, fields[stage - 1], field, stage)
            layers += [TurnBlock(field, plan) for _ in range(depth)]
        layers += [TurnConv(fields[-1], plan.last, 1), TurnNorm(plan.last), plan.act()]
        self.features, self.fields, self.pool = nn.Sequential(*layers), plan.last, plan.pool
        wide = plan.last * (2 if plan.pool == "both" else 1)
        self.head = nn.Sequential(nn.Dropout(model.dropout), nn.Linear(wide, shape.classes))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits of (n, c, h, w) normalised images."""
        maps = self.features(x_nchw).permute(0, 2, 3, 1).flatten(1, 2).mean(1).view(-1, self.fields, GROUP)
        parts = [maps.mean(2)] if self.pool != "max" else []
        parts += [maps.amax(2)] if self.pool != "mean" else []
        logits: Tensor = self.head(torch.cat(parts, 1))
        return logits


def _smaller(plan: TurnPlan, inputs: int, outputs: int, stage: int) -> list[nn.Module]:
    if plan.down == "mean":
        pad = 0 if stage == 1 else 1  # 14 -> 7 in pairs; 7 -> 4 with black around
        pool = nn.AvgPool2d(2 + pad, 2, pad)
        return [TurnConv(inputs, outputs, 3), TurnNorm(outputs), pool, plan.act()]
    kernel = 4 if stage == 1 else 3  # both sample 14 -> 7 and 7 -> 4 the same way from every side
    return [TurnConv(inputs, outputs, kernel, 2), TurnNorm(outputs), plan.act()]


def turning(**changes: object) -> Callable[[Model, Shape], nn.Module]:
    """Return what builds a TurnNet after a changed plan."""
    plan = TurnPlan(**changes)  # type: ignore[arg-type]
    return lambda model, shape: TurnNet(plan, model, shape)
