"""The network of the nephros recipes: residual and D4-equivariant, so that all flips and quarter-turns give one prediction."""

from __future__ import annotations

from torch import Tensor, nn

from nephros.models.classifier import InputSpec
from nephros.models.dihedral import D4BatchNorm, D4Conv, GlobalOrientationPool
from nephros.models.filter_expansion import N_ORIENTATIONS
from nephros.recipe import ModelConfig


def conv_norm(
    in_fields: int, out_fields: int, kernel_size: int, stride: int = 1, lifting: bool = False
) -> list[nn.Module]:
    """Return a D4-equivariant convolution and its batch normalization."""
    return [D4Conv(in_fields, out_fields, kernel_size, stride, lifting), D4BatchNorm(out_fields)]


class D4ResidualBlock(nn.Module):
    """relu(x + body(x))."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_norm(fields, fields, 3), nn.ReLU(inplace=True), *conv_norm(fields, fields, 3))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return feature maps of the same shape (n, fields * 8, h, w)."""
        y: Tensor = self.relu(x + self.body(x))
        return y


class Equivariant(nn.Module):
    """6x6 stride-2 stem, then three stages with f, 2f and 4f channels at 1/2, 1/4 and 1/8 of the input's side.

    Channels form fields of eight orientations. Each stage has `depth` residual blocks; the second and third begin with a
    stride-2 convolution. A 1x1 convolution to 2f fields, the mean over positions and orientations, and a linear layer follow.
    Where the sides are multiples of four, the prediction is the same for all flips and quarter-turns, whatever the weights.
    """

    def __init__(self, config: ModelConfig, spec: InputSpec) -> None:
        super().__init__()
        spec.pooled_size(3)
        self.fields = 2 * config.base_channels
        fields = -(-config.base_channels // N_ORIENTATIONS)
        layers = [*conv_norm(spec.channels, fields, 6, 2, lifting=True), nn.ReLU(inplace=True)]
        side = spec.height // 2
        for stage in range(3):
            if stage > 0:
                kernel = 4 if side % 2 == 0 else 3
                layers += [*conv_norm(fields, 2 * fields, kernel, 2), nn.ReLU(inplace=True)]
                fields, side = 2 * fields, (side + 1) // 2
            layers += [D4ResidualBlock(fields) for _ in range(config.depth)]
        layers += [*conv_norm(fields, self.fields, 1), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.pool = GlobalOrientationPool()
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(self.fields, spec.n_classes))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits of (n, c, h, w) normalized images."""
        logits: Tensor = self.head(self.pool(self.features(x_nchw)))
        return logits
