"""Convolutional networks without shortcuts: that of the course report, that of the poster, and NephNet2D, its predecessor."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from nephros.models.classifier import InputSpec
from nephros.recipe import ModelConfig


class Course(nn.Module):
    """conv 1-10, pool, conv 10-20, pool, fc 980-100-50-8 with two convolutions at 28x28 pixels and 8 classes.

    Convolutions are 3x3 with replicate padding; pooling is 2x2 maximum. A ReLU follows each convolution and each hidden layer;
    the report doesn't name its activation. Source: course report, 3.1 and 4.1.2.
    """

    def __init__(self, config: ModelConfig, spec: InputSpec) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = spec.channels
        for level in range(config.depth):
            width = config.base_channels * 2**level
            layers += [nn.Conv2d(channels, width, 3, padding=1, padding_mode="replicate"), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        self.features = nn.Sequential(*layers)
        height, width = spec.pooled_size(config.depth)
        widths = [channels * height * width, *config.hidden]
        dense: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            dense += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.head = nn.Sequential(*dense, nn.Dropout(config.dropout), nn.Linear(widths[-1], spec.n_classes))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits of (n, c, h, w) normalized images."""
        logits: Tensor = self.head(self.features(x_nchw).flatten(1))
        return logits


class PooledConvNet(nn.Module):
    """Blocks of [conv 3x3, BatchNorm, ReLU, optional 2x2 average pooling], then fc - ReLU - dropout - fc.

    `blocks` holds the width of each block, as a multiple of the recipe's base channels, and whether it pools.
    """

    def __init__(self, config: ModelConfig, spec: InputSpec, blocks: list[tuple[int, bool]]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = spec.channels
        for multiple, has_pool in blocks:
            width = multiple * config.base_channels
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.AvgPool2d(2)] if has_pool else []
            channels = width
        self.features = nn.Sequential(*layers)
        height, width = spec.pooled_size(sum(has_pool for _, has_pool in blocks))
        hidden = 16 * config.base_channels
        self.head = nn.Sequential(
            nn.Linear(channels * height * width, hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(hidden, spec.n_classes),
        )

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits of (n, c, h, w) normalized images."""
        logits: Tensor = self.head(self.features(x_nchw).flatten(1))
        return logits


def poster(config: ModelConfig, spec: InputSpec) -> nn.Module:
    """Return the poster's network: 250,904 parameters with 8 base channels, 28x28 pixels, 1 channel and 8 classes.

    Source: the poster's figure, and its authors' repository dw-dengwei/PML_coursework.
    """
    blocks = [(1, False), (1, False), (1, False), (2, True), (2, False), (4, True), (8, True), (16, False)]
    return PooledConvNet(config, spec, blocks)


def nephnet2d(config: ModelConfig, spec: InputSpec) -> nn.Module:
    """Return NephNet2D: 3,933,896 parameters with 32 base channels, 28x28 pixels, 1 channel and 8 classes.

    It was written for 64x64 pixels; here the head is sized for the input. Source: awoloshuk/NephNet; Woloshuk et al.,
    Cytometry Part A 99(7), 2021.
    """
    return PooledConvNet(config, spec, [(1, False), (2, True), (4, True), (8, True), (16, False)])
