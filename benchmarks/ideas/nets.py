"""Networks that were tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nephros.models.input_spec import Shape
from nephros.recipe_parts import Model

Layer = Callable[[], nn.Module]


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


class Squeeze(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018): channels scaled by what their means say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, channels // 4), nn.Linear(channels // 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled maps, of the same shape (n, c, h, w)."""
        scale = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        return x * scale[:, :, None, None]


class Attention(nn.Module):
    """Four heads of attention between all positions, added to the maps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.mix = nn.MultiheadAttention(channels, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape (n, c, h, w)."""
        n, c, h, w = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(n, h * w, c)
        mixed = self.mix(tokens, tokens, tokens, need_weights=False)[0]
        y: Tensor = x + mixed.reshape(n, h, w, c).permute(0, 3, 1, 2)
        return y


@dataclass(frozen=True)
class Plan:
    """What a residual network is made of."""

    widths: tuple[int, ...] = (32, 64, 128)
    depths: tuple[int, ...] = (2, 2, 2)
    stem: str = "conv5"
    """conv4, conv5, conv6, deep (two 3x3, the second strided) or patches (2x2 pixels as channels, then 3x3)."""
    down: str = "conv3"
    """conv3 (stride 2), conv4 (stride 2, symmetric), pool (3x3, then maximum) or mean (3x3, then mean)."""
    act: Layer = _relu
    squeeze: bool = False
    attention: bool = False
    depthwise: bool = False
    head: str = "mean"
    """mean, both (mean and maximum) or wide (1x1 to four times the channels, then mean)."""
    pre: bool = False
    """Whether normalisation and activation come before convolutions (He et al. 2016b)."""


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution and its normalisation."""
    pad = (kernel - 1) // 2
    made = nn.Conv2d(inputs, outputs, kernel, stride, pad, groups=groups, bias=False)
    return [made, nn.BatchNorm2d(outputs)]


class Block(nn.Module):
    """act(x + body(x))."""

    def __init__(self, width: int, plan: Plan) -> None:
        super().__init__()
        if plan.depthwise:
            body = [*conv(width, width, 3, groups=width), *conv(width, 2 * width, 1), plan.act()]
            body += conv(2 * width, width, 1)
        elif plan.pre:
            body = [nn.BatchNorm2d(width), plan.act(), nn.Conv2d(width, width, 3, padding=1, bias=False)]
            body += [nn.BatchNorm2d(width), plan.act(), nn.Conv2d(width, width, 3, padding=1, bias=False)]
        else:
            body = [*conv(width, width), plan.act(), *conv(width, width)]
        if plan.squeeze:
            body.append(Squeeze(width))
        self.body = nn.Sequential(*body)
        self.act = nn.Identity() if plan.pre else plan.act()

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape (n, c, h, w)."""
        y: Tensor = self.act(x + self.body(x))
        return y


def _stem(plan: Plan, channels: int) -> list[nn.Module]:
    width = plan.widths[0]
    if plan.stem == "deep":
        return [*conv(channels, width // 2), plan.act(), *conv(width // 2, width, 4, 2), plan.act()]
    if plan.stem == "patches":
        return [nn.PixelUnshuffle(2), *conv(4 * channels, width), plan.act()]
    return [*conv(channels, width, int(plan.stem[-1]), 2), plan.act()]


def _down(plan: Plan, inputs: int, outputs: int) -> list[nn.Module]:
    if plan.down == "conv4":
        return [*conv(inputs, outputs, 4, 2), plan.act()]
    if plan.down == "conv3":
        return [*conv(inputs, outputs, 3, 2), plan.act()]
    pool = nn.MaxPool2d(2, ceil_mode=True) if plan.down == "pool" else nn.AvgPool2d(2, ceil_mode=True)
    return [*conv(inputs, outputs), pool, plan.act()]


class Both(nn.Module):
    """Mean and maximum over positions, side by side."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, 2c) of (n, c, h, w)."""
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)


class Net(nn.Module):
    """A residual network after a plan."""

    def __init__(self, plan: Plan, model: Model, shape: Shape) -> None:
        super().__init__()
        layers, channels = _stem(plan, shape.channels), plan.widths[0]
        for stage, (width, depth) in enumerate(zip(plan.widths, plan.depths, strict=True)):
            if stage > 0:
                layers += _down(plan, channels, width)
            layers += [Block(width, plan) for _ in range(depth)]
            if plan.attention and stage == 1:
                layers.append(Attention(width))
            channels = width
        if plan.pre:
            layers += [nn.BatchNorm2d(channels), plan.act()]
        if plan.head == "wide":
            layers += [*conv(channels, 4 * channels, 1), plan.act()]
            channels *= 4
        pool: nn.Module = Both() if plan.head == "both" else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        channels *= 2 if plan.head == "both" else 1
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(pool, nn.Dropout(model.dropout), nn.Linear(channels, shape.classes))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits of (n, c, h, w) normalised images."""
        logits: Tensor = self.head(self.features(x_nchw))
        return logits


def net(**changes: object) -> Callable[[Model, Shape], nn.Module]:
    """Return what builds a Net after a changed plan."""
    plan = Plan(**changes)  # type: ignore[arg-type]
    return lambda model, shape: Net(plan, model, shape)
