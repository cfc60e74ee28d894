"""The network of the course report: one or two convolutions with pooling, then fully connected layers."""

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
