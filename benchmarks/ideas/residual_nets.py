"""Residual networks that were tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nephros.models.classifier import InputSpec
from nephros.recipe import ModelConfig

Layer = Callable[[], nn.Module]


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018): channels scaled by factors that depend on their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, channels // 4), nn.Linear(channels // 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled maps, of the same shape (n, c, h, w)."""
        scale = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        return x * scale[:, :, None, None]


class SelfAttention(nn.Module):
    """Self-attention with four heads between all positions, added to the maps."""

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
class NetConfig:
    """Configuration of a residual network."""

    widths: tuple[int, ...] = (32, 64, 128)
    depths: tuple[int, ...] = (2, 2, 2)
    stem: str = "conv5"
    """conv4, conv5, conv6, deep (two 3x3, the second strided) or patches (2x2 pixels as channels, then 3x3)."""
    downsampling: str = "conv3"
    """conv3 (stride 2), conv4 (stride 2, symmetric), pool (3x3, then maximum) or mean (3x3, then mean)."""
    act: Layer = _relu
    squeeze_excitation: bool = False
    attention: bool = False
    depthwise: bool = False
    head: str = "mean"
    """mean, both (mean and maximum) or wide (1x1 to four times the channels, then mean)."""
    pre_activation: bool = False
    """Whether normalization and activation precede the convolutions (He et al. 2016b)."""


def conv_norm(
    in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution and its batch normalization."""
    pad = (kernel_size - 1) // 2
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, stride, pad, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(out_channels)]


class ResidualNetBlock(nn.Module):
    """act(x + body(x))."""

    def __init__(self, width: int, config: NetConfig) -> None:
        super().__init__()
        if config.depthwise:
            body = [*conv_norm(width, width, 3, groups=width), *conv_norm(width, 2 * width, 1), config.act()]
            body += conv_norm(2 * width, width, 1)
        elif config.pre_activation:
            body = [nn.BatchNorm2d(width), config.act(), nn.Conv2d(width, width, 3, padding=1, bias=False)]
            body += [nn.BatchNorm2d(width), config.act(), nn.Conv2d(width, width, 3, padding=1, bias=False)]
        else:
            body = [*conv_norm(width, width), config.act(), *conv_norm(width, width)]
        if config.squeeze_excitation:
            body.append(SqueezeExcitation(width))
        self.body = nn.Sequential(*body)
        self.act = nn.Identity() if config.pre_activation else config.act()

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape (n, c, h, w)."""
        y: Tensor = self.act(x + self.body(x))
        return y


def _stem(config: NetConfig, channels: int) -> list[nn.Module]:
    width = config.widths[0]
    if config.stem == "deep":
        return [*conv_norm(channels, width // 2), config.act(), *conv_norm(width // 2, width, 4, 2), config.act()]
    if config.stem == "patches":
        return [nn.PixelUnshuffle(2), *conv_norm(4 * channels, width), config.act()]
    return [*conv_norm(channels, width, int(config.stem[-1]), 2), config.act()]


def _downsample(config: NetConfig, in_channels: int, out_channels: int) -> list[nn.Module]:
    if config.downsampling == "conv4":
        return [*conv_norm(in_channels, out_channels, 4, 2), config.act()]
    if config.downsampling == "conv3":
        return [*conv_norm(in_channels, out_channels, 3, 2), config.act()]
    pool = nn.MaxPool2d(2, ceil_mode=True) if config.downsampling == "pool" else nn.AvgPool2d(2, ceil_mode=True)
    return [*conv_norm(in_channels, out_channels), pool, config.act()]


class MeanMaxPool(nn.Module):
    """Mean and maximum over positions, side by side."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (n, 2c) of (n, c, h, w)."""
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)


class ResidualNet(nn.Module):
    """Residual network of a configuration."""

    def __init__(self, config: NetConfig, model_config: ModelConfig, spec: InputSpec) -> None:
        super().__init__()
        layers, channels = _stem(config, spec.channels), config.widths[0]
        for stage, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True)):
            if stage > 0:
                layers += _downsample(config, channels, width)
            layers += [ResidualNetBlock(width, config) for _ in range(depth)]
            if config.attention and stage == 1:
                layers.append(SelfAttention(width))
            channels = width
        if config.pre_activation:
            layers += [nn.BatchNorm2d(channels), config.act()]
        if config.head == "wide":
            layers += [*conv_norm(channels, 4 * channels, 1), config.act()]
            channels *= 4
        pool: nn.Module = (
            MeanMaxPool() if config.head == "both" else nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        )
        channels *= 2 if config.head == "both" else 1
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(pool, nn.Dropout(model_config.dropout), nn.Linear(channels, spec.n_classes))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits of (n, c, h, w) normalized images."""
        logits: Tensor = self.head(self.features(x_nchw))
        return logits


def residual_net(**changes: object) -> Callable[[ModelConfig, InputSpec], nn.Module]:
    """Return a function that builds a ResidualNet, with changes to the default configuration."""
    config = NetConfig(**changes)  # type: ignore[arg-type]
    return lambda model_config, spec: ResidualNet(config, model_config, spec)
