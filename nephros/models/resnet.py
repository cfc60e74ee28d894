"""Residual networks: ResNet-18 and ResNet-50 with MedMNIST's stem for small images (3x3, stride 1, no pooling), and Compact."""

from __future__ import annotations

from torch import Tensor, nn

from nephros.models.classifier import InputSpec
from nephros.recipe import ModelConfig


def _conv_norm(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    ]


class ResidualBlock(nn.Module):
    """relu(body(x) + shortcut(x)); the shortcut is a 1x1 convolution where width or resolution changes."""

    def __init__(self, in_channels: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out_channels = 4 * width if bottleneck else width
        if bottleneck:
            steps = [
                _conv_norm(in_channels, width, 1),
                _conv_norm(width, width, 3, stride),
                _conv_norm(width, out_channels, 1),
            ]
        else:
            steps = [_conv_norm(in_channels, width, 3, stride), _conv_norm(width, width, 3)]
        body: list[nn.Module] = []
        for step in steps:
            body += [*step, nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*body[:-1])
        identity = stride == 1 and in_channels == out_channels
        self.shortcut: nn.Module = (
            nn.Identity() if identity else nn.Sequential(*_conv_norm(in_channels, out_channels, 1, stride))
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return (n, out_channels, h / stride, w / stride) feature maps."""
        y: Tensor = self.relu(self.body(x_nchw) + self.shortcut(x_nchw))
        return y


def _resnet(config: ModelConfig, spec: InputSpec, blocks: list[int], bottleneck: bool) -> nn.Module:
    layers: list[nn.Module] = [*_conv_norm(spec.channels, config.base_channels, 3), nn.ReLU(inplace=True)]
    channels = config.base_channels
    for stage, count in enumerate(blocks):
        width = config.base_channels * 2**stage
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(ResidualBlock(channels, width, stride, bottleneck))
            channels = 4 * width if bottleneck else width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(config.dropout), nn.Linear(channels, spec.n_classes)]
    return nn.Sequential(*layers, *head)


def resnet18(config: ModelConfig, spec: InputSpec) -> nn.Module:
    """Return ResNet-18 (He et al. 2016): 11,171,784 parameters with 64 base channels, 1 channel and 8 classes."""
    return _resnet(config, spec, [2, 2, 2, 2], bottleneck=False)


def resnet50(config: ModelConfig, spec: InputSpec) -> nn.Module:
    """Return ResNet-50 (He et al. 2016): 23,515,592 parameters with 64 base channels, 1 channel and 8 classes."""
    return _resnet(config, spec, [3, 4, 6, 3], bottleneck=True)


class Compact(nn.Module):
    """5x5 stride-2 stem, then three stages with f, 2f and 4f channels at 1/2, 1/4 and 1/8 of the input's side.

    Each stage has `depth` residual blocks; the second and third begin with a 3x3 stride-2 convolution. Global average pooling
    and a linear layer follow. Channels come in multiples of 32 and most work is at half and quarter resolution, where
    convolutions reach a large share of the peak matrix rate of CPUs and GPUs; those of a full-resolution image with one channel
    don't, hence the strided stem.
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
