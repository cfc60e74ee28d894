"""ResNet-18 and ResNet-50 with the small-image stem that MedMNIST uses: 3x3, stride 1, no max-pool."""

from __future__ import annotations

from torch import Tensor, nn

from nephros.models.input_spec import Shape
from nephros.recipe_parts import Model


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class Residual(nn.Module):
    """relu(body(x) + shortcut(x)); the shortcut is a 1x1 convolution where width or resolution changes."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            steps = [_conv(inputs, width, 1), _conv(width, width, 3, stride), _conv(width, outputs, 1)]
        else:
            steps = [_conv(inputs, width, 3, stride), _conv(width, width, 3)]
        body: list[nn.Module] = []
        for step in steps:
            body += [*step, nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*body[:-1])
        same = stride == 1 and inputs == outputs
        self.shortcut: nn.Module = nn.Identity() if same else nn.Sequential(*_conv(inputs, outputs, 1, stride))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return the block's (n, outputs, h / stride, w / stride) feature maps."""
        y: Tensor = self.relu(self.body(x_nchw) + self.shortcut(x_nchw))
        return y


def _resnet(model: Model, shape: Shape, blocks: list[int], bottleneck: bool) -> nn.Module:
    layers: list[nn.Module] = [*_conv(shape.channels, model.features, 3), nn.ReLU(inplace=True)]
    channels = model.features
    for stage, count in enumerate(blocks):
        width = model.features * 2**stage
        for block in range(count):
            stride = 2 if stage > 0 and block == 0 else 1
            layers.append(Residual(channels, width, stride, bottleneck))
            channels = 4 * width if bottleneck else width
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(model.dropout), nn.Linear(channels, shape.classes)]
    return nn.Sequential(*layers, *head)


def resnet18(model: Model, shape: Shape) -> nn.Module:
    """Return ResNet-18, 11,171,784 parameters at features 64, 1 channel and 8 classes (He et al. 2016; MedMNIST's stem)."""
    return _resnet(model, shape, [2, 2, 2, 2], bottleneck=False)


def resnet50(model: Model, shape: Shape) -> nn.Module:
    """Return ResNet-50, 23,515,592 parameters at features 64, 1 channel and 8 classes (He et al. 2016; MedMNIST's stem)."""
    return _resnet(model, shape, [3, 4, 6, 3], bottleneck=True)
