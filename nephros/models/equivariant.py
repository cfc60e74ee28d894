"""Our network: residual stages of convolutions that turn with the image, so that all eight views of a cell get one answer."""

from __future__ import annotations

from torch import Tensor, nn

from nephros.models.dihedral import ORIENTATIONS, D4Conv, D4Norm, FieldMeans
from nephros.models.input_spec import Shape
from nephros.recipe_parts import Model


def conv(inputs: int, fields: int, kernel: int, stride: int = 1, first: bool = False) -> list[nn.Module]:
    """Return a convolution and its normalisation."""
    return [D4Conv(inputs, fields, kernel, stride, first), D4Norm(fields)]


class Block(nn.Module):
    """relu(x + body(x))."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv(fields, fields, 3), nn.ReLU(inplace=True), *conv(fields, fields, 3))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape (n, fields * 8, h, w)."""
        y: Tensor = self.relu(x + self.body(x))
        return y


class Equivariant(nn.Module):
    """6x6 stride-2 stem, then three stages of f, 2f and 4f channels at 1/2, 1/4 and 1/8 of the input's side.

    Channels are fields of eight orientations. Each stage is `depth` residual blocks, the second and third after a stride-2
    convolution; then a 1x1 convolution to 2f fields, the mean over positions and orientations, and one linear layer. On
    sides that are a multiple of four the answer is the same for all flips and quarter-turns, whatever the weights.
    """

    def __init__(self, model: Model, shape: Shape) -> None:
        super().__init__()
        shape.after_pools(3)
        self.fields = 2 * model.features
        fields = -(-model.features // ORIENTATIONS)
        layers = [*conv(shape.channels, fields, 6, 2, first=True), nn.ReLU(inplace=True)]
        side = shape.height // 2
        for stage in range(3):
            if stage > 0:
                kernel = 4 if side % 2 == 0 else 3
                layers += [*conv(fields, 2 * fields, kernel, 2), nn.ReLU(inplace=True)]
                fields, side = 2 * fields, (side + 1) // 2
            layers += [Block(fields) for _ in range(model.depth)]
        layers += [*conv(fields, self.fields, 1), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.pool = FieldMeans()
        self.head = nn.Sequential(nn.Dropout(model.dropout), nn.Linear(self.fields, shape.classes))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits of (n, c, h, w) normalised images."""
        logits: Tensor = self.head(self.pool(self.features(x_nchw)))
        return logits
