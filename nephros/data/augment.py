"""Augmentation of a whole batch at once, on the device that holds it.

Random numbers are drawn for all images of an epoch before it starts, one row an image. So a batch can be cut anywhere
(into chunks, or between processes) without changing what happens to an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nephros.recipe_parts import Augment


@dataclass(frozen=True)
class Draws:
    """Random numbers of n images: what `augment` does to each."""

    turn: Tensor
    """(n,) uint8 in 0..7: bit 0 mirrors left-right, bit 1 up-down, bit 2 swaps rows and columns."""
    shift: Tensor
    """(n, 2) int64, whole pixels down and right."""
    affine: Tensor
    """(n, 4) float32 in -1..1: of the greatest rotation, shift down, shift right, and scale."""

    def __getitem__(self, rows: slice) -> Draws:
        return Draws(self.turn[rows], self.shift[rows], self.affine[rows])

    def to(self, device: torch.device) -> Draws:
        """Return the same numbers on another device."""
        return Draws(*(part.to(device, non_blocking=True) for part in (self.turn, self.shift, self.affine)))


def draw(n: int, settings: Augment, generator: torch.Generator) -> Draws:
    """Draw the numbers for n images from a CPU generator."""
    kinds = {"none": 1, "horizontal": 2, "dihedral": 8}[settings.flips]
    turn = torch.randint(0, kinds, (n,), generator=generator, dtype=torch.uint8)
    shift = torch.randint(-settings.shift, settings.shift + 1, (n, 2), generator=generator)
    affine = torch.rand((n, 4), generator=generator) * 2 - 1
    return Draws(turn, shift, affine)


def augment(images_nchw: Tensor, draws: Draws, settings: Augment) -> Tensor:
    """Return (n, c, h, w) images changed as `draws` say: uint8 as they came, or float in 0..255 after an affine change."""
    x = images_nchw
    if settings.rotate or settings.translate or settings.scale:
        x = _affine(x, draws.affine, settings)
    if settings.flips != "none":
        x = _turn(x, draws.turn)
    if settings.shift:
        x = _shift(x, draws.shift, settings.shift)
    return x


def _turn(x: Tensor, turn: Tensor) -> Tensor:
    for bit, dims in ((1, (3,)), (2, (2,))):
        x = torch.where((turn & bit).bool().view(-1, 1, 1, 1), x.flip(dims), x)
    if x.shape[2] != x.shape[3]:
        return x
    return torch.where((turn & 4).bool().view(-1, 1, 1, 1), x.transpose(2, 3), x)


def _shift(x: Tensor, shift: Tensor, most: int) -> Tensor:
    n, _, height, width = x.shape
    windows = F.pad(x, (most, most, most, most)).unfold(2, height, 1).unfold(3, width, 1)
    start = most - shift
    return windows[torch.arange(n, device=x.device), :, start[:, 0], start[:, 1]]


def _affine(x: Tensor, draws: Tensor, settings: Augment) -> Tensor:
    """Rotate, move and scale about the centre; pixels stay square on images that are not."""
    n, _, height, width = x.shape
    angle = draws[:, 0] * math.radians(settings.rotate)
    grow = 1 + draws[:, 3] * settings.scale
    cos, sin = torch.cos(angle) / grow, torch.sin(angle) / grow
    ratio = height / width
    theta = torch.stack(
        [
            torch.stack([cos, -sin * ratio, draws[:, 2] * settings.translate * 2], dim=1),
            torch.stack([sin / ratio, cos, draws[:, 1] * settings.translate * 2], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, [n, 1, height, width], align_corners=False)
    return F.grid_sample(x.float(), grid, mode=settings.interpolation, padding_mode="zeros", align_corners=False)
