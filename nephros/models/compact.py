"""Compact: a small residual network with channels in multiples of 32 and most work at half and quarter resolution.

Such convolutions reach a large share of the peak matrix rate of CPUs and GPUs. Convolutions of a full-resolution image with one
channel don't, hence the strided stem.
"""

from __future__ import annotations

from torch import Tensor, nn

from nephros.models.classifier import InputSpec
from nephros.models.resnet import ResidualBlock
from nephros.recipe import ModelConfig


class Compact(nn.Module):
    """5x5 stride-2 stem, then three stages with f, 2f and 4f channels at 1/2, 1/4 and 1/8 of the input's side.

    Each stage has `depth` residual blocks; the second and third begin with a 3x3 stride-2 convolution. Global average pooling
    and a linear layer follow.
    """

    def __init__(self, config: ModelConfig, spec: InputSpec) -> None:
        super().__init__()
        spec.pooled_size(3)
        f = config.base_channels
        layers: list[nn.Module] = [nn.Conv2d(spec.channels, f, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(f)]
        layers.append(nn.ReLU(inplace=True))
        channels = f
        for stage in range(3):
            width = f * 2**stage
            if stage > 0:
                layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width)]
                layers.append(nn.ReLU(inplace=True))
            layers += [ResidualBlock(width, width, 1, bottleneck=False) for _ in range(config.depth)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(channels, spec.n_classes)
        )

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits of (n, c, h, w) normalized images."""
        logits: Tensor = self.head(self.features(x_nchw))
        return logits
