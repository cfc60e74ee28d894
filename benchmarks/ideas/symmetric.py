"""Networks of convolutions that turn with the image that were tried; what came of them is nephros.models.equivariant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nephros.models.dihedral import ORIENTATIONS, D4Conv, D4Norm
from nephros.models.input_spec import Shape
from nephros.recipe_parts import Model


class TurnSqueeze(nn.Module):
    """Squeeze-and-excitation with one factor a field, from the fields' means over positions and orientations."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.fields = fields
        self.down, self.up = nn.Linear(fields, max(4, fields // 2)), nn.Linear(max(4, fields // 2), fields)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled maps, of the same shape."""
        means = x.mean((2, 3)).view(-1, self.fields, ORIENTATIONS).mean(2)
        scale = torch.sigmoid(self.up(F.relu(self.down(means)))).repeat_interleave(ORIENTATIONS, 1)
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
    still: bool = False
    """Whether a block begins as the identity: its last normalisation with scale 0."""


class TurnBlock(nn.Module):
    """act(x + body(x))."""

    def __init__(self, fields: int, plan: TurnPlan) -> None:
        super().__init__()
        last = D4Norm(fields)
        if plan.still:
            nn.init.zeros_(last.weight)
        body = [D4Conv(fields, fields, 3), D4Norm(fields), plan.act(), D4Conv(fields, fields, 3), last]
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
        fields = [width // ORIENTATIONS for width in plan.widths]
        layers: list[nn.Module] = []
        if plan.first == "deep":
            layers += [D4Conv(shape.channels, 2, 3, first=True), D4Norm(2), plan.act()]
            layers += [D4Conv(2, fields[0], plan.stem, 2), D4Norm(fields[0]), plan.act()]
        else:
            layers += [D4Conv(shape.channels, fields[0], plan.stem, 2, first=True), D4Norm(fields[0]), plan.act()]
        for stage, (field, depth) in enumerate(zip(fields, plan.depths, strict=True)):
            if stage > 0:
                layers += _smaller(plan, fields[stage - 1], field, stage)
            layers += [TurnBlock(field, plan) for _ in range(depth)]
        layers += [D4Conv(fields[-1], plan.last, 1), D4Norm(plan.last), plan.act()]
        self.features, self.fields, self.pool = nn.Sequential(*layers), plan.last, plan.pool
        wide = plan.last * (2 if plan.pool == "both" else 1)
        self.head = nn.Sequential(nn.Dropout(model.dropout), nn.Linear(wide, shape.classes))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits of (n, c, h, w) normalised images."""
        maps = self.features(x_nchw).permute(0, 2, 3, 1).flatten(1, 2).mean(1).view(-1, self.fields, ORIENTATIONS)
        parts = [maps.mean(2)] if self.pool != "max" else []
        parts += [maps.amax(2)] if self.pool != "mean" else []
        logits: Tensor = self.head(torch.cat(parts, 1))
        return logits


def _smaller(plan: TurnPlan, inputs: int, outputs: int, stage: int) -> list[nn.Module]:
    if plan.down == "mean":
        pad = 0 if stage == 1 else 1  # 14 -> 7 in pairs; 7 -> 4 with black around
        pool = nn.AvgPool2d(2 + pad, 2, pad)
        return [D4Conv(inputs, outputs, 3), D4Norm(outputs), pool, plan.act()]
    kernel = 4 if stage == 1 else 3  # both sample 14 -> 7 and 7 -> 4 the same way from every side
    return [D4Conv(inputs, outputs, kernel, 2), D4Norm(outputs), plan.act()]


def turning(**changes: object) -> Callable[[Model, Shape], nn.Module]:
    """Return what builds a TurnNet after a changed plan."""
    plan = TurnPlan(**changes)  # type: ignore[arg-type]
    return lambda model, shape: TurnNet(plan, model, shape)
