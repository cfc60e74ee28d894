"""D4-equivariant networks that were tried; nephros.models.equivariant is the outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nephros.models.classifier import InputSpec
from nephros.models.dihedral import D4BatchNorm, D4Conv
from nephros.models.filter_expansion import N_ORIENTATIONS
from nephros.recipe import ModelConfig


class D4SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation with a factor per field, from the fields' means over positions and orientations."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.fields = fields
        self.down, self.up = nn.Linear(fields, max(4, fields // 2)), nn.Linear(max(4, fields // 2), fields)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled maps, of the same shape."""
        means = x.mean((2, 3)).view(-1, self.fields, N_ORIENTATIONS).mean(2)
        scale = torch.sigmoid(self.up(F.relu(self.down(means)))).repeat_interleave(N_ORIENTATIONS, 1)
        return x * scale[:, :, None, None]


@dataclass(frozen=True)
class D4NetConfig:
    """Configuration of a D4Net; widths are channels, eight per field."""

    widths: tuple[int, ...] = (32, 64, 128)
    depths: tuple[int, ...] = (2, 2, 2)
    last_fields: int = 64
    """Fields of the 1x1 convolution at the end."""
    stem_kernel: int = 6
    """Side of the stem's kernel: 2, 4, 6 or 8 pixels."""
    downsampling: str = "conv"
    """conv (stride 2) or mean (3x3, then mean)."""
    act: Callable[[], nn.Module] = nn.ReLU
    squeeze_excitation: bool = False
    pool: str = "mean"
    """Pooling over orientations at the end: mean, max or both; positions are averaged."""
    stem: str = "conv"
    """conv or deep: a 3x3 at full resolution before the stem."""
    zero_init_residual: bool = False
    """Whether each block is initialized as the identity, with scale 0 in its last normalization."""


class D4Block(nn.Module):
    """act(x + body(x))."""

    def __init__(self, fields: int, config: D4NetConfig) -> None:
        super().__init__()
        last = D4BatchNorm(fields)
        if config.zero_init_residual:
            nn.init.zeros_(last.weight)
        body = [D4Conv(fields, fields, 3), D4BatchNorm(fields), config.act(), D4Conv(fields, fields, 3), last]
        self.body = nn.Sequential(*body, *([D4SqueezeExcitation(fields)] if config.squeeze_excitation else []))
        self.act = config.act()

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape."""
        y: Tensor = self.act(x + self.body(x))
        return y


class D4Net(nn.Module):
    """The architecture of compact with D4-equivariant convolutions; its prediction is the same for all eight orientations."""

    def __init__(self, config: D4NetConfig, model_config: ModelConfig, spec: InputSpec) -> None:
        super().__init__()
        fields = [width // N_ORIENTATIONS for width in config.widths]
        layers: list[nn.Module] = []
        if config.stem == "deep":
            layers += [D4Conv(spec.channels, 2, 3, lifting=True), D4BatchNorm(2), config.act()]
            layers += [D4Conv(2, fields[0], config.stem_kernel, 2), D4BatchNorm(fields[0]), config.act()]
        else:
            layers += [
                D4Conv(spec.channels, fields[0], config.stem_kernel, 2, lifting=True),
                D4BatchNorm(fields[0]),
                config.act(),
            ]
        for stage, (field, depth) in enumerate(zip(fields, config.depths, strict=True)):
            if stage > 0:
                layers += _downsample(config, fields[stage - 1], field, stage)
            layers += [D4Block(field, config) for _ in range(depth)]
        layers += [D4Conv(fields[-1], config.last_fields, 1), D4BatchNorm(config.last_fields), config.act()]
        self.features, self.fields, self.pool = nn.Sequential(*layers), config.last_fields, config.pool
        head_width = config.last_fields * (2 if config.pool == "both" else 1)
        self.head = nn.Sequential(nn.Dropout(model_config.dropout), nn.Linear(head_width, spec.n_classes))

    def forward(self, x_nchw: Tensor) -> Tensor:
        """Return (n, classes) logits of (n, c, h, w) normalized images."""
        maps = self.features(x_nchw).permute(0, 2, 3, 1).flatten(1, 2).mean(1).view(-1, self.fields, N_ORIENTATIONS)
        parts = [maps.mean(2)] if self.pool != "max" else []
        parts += [maps.amax(2)] if self.pool != "mean" else []
        logits: Tensor = self.head(torch.cat(parts, 1))
        return logits


def _downsample(config: D4NetConfig, in_fields: int, out_fields: int, stage: int) -> list[nn.Module]:
    if config.downsampling == "mean":
        pad = 0 if stage == 1 else 1  # 14 -> 7 in pairs; 7 -> 4 with padding
        pool = nn.AvgPool2d(2 + pad, 2, pad)
        return [D4Conv(in_fields, out_fields, 3), D4BatchNorm(out_fields), pool, config.act()]
    kernel = 4 if stage == 1 else 3  # these sample 14 -> 7 and 7 -> 4 symmetrically
    return [D4Conv(in_fields, out_fields, kernel, 2), D4BatchNorm(out_fields), config.act()]


def d4_net(**changes: object) -> Callable[[ModelConfig, InputSpec], nn.Module]:
    """Return a function that builds a D4Net, with changes to the default configuration."""
    config = D4NetConfig(**changes)  # type: ignore[arg-type]
    return lambda model_config, spec: D4Net(config, model_config, spec)
