"""Augmentation of whole batches on the device.

The random numbers for all images of an epoch are drawn before it starts, one row per image. A batch can therefore be divided
anywhere, into chunks or between processes, without changing the augmentation of an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nephros.recipe import AugmentConfig


@dataclass(frozen=True)
class AugmentationParams:
    """The random numbers that determine the augmentation of n images."""

    dihedral: Tensor
    """(n,) uint8 in 0..15: bit 0 flips left-right, bit 1 flips up-down, bit 2 transposes, bit 3 reverses a volume's slices."""
    shift: Tensor
    """(n, 2) int64: shift down and right, in whole pixels."""
    affine: Tensor
    """(n, 4) float32 in -1..1: fractions of the largest rotation, shift down, shift right, and change of scale."""

    def __getitem__(self, index: slice) -> AugmentationParams:
        return AugmentationParams(self.dihedral[index], self.shift[index], self.affine[index])

    def to(self, device: torch.device) -> AugmentationParams:
        """Return a copy on another device."""
        return AugmentationParams(
            *(part.to(device, non_blocking=True) for part in (self.dihedral, self.shift, self.affine))
        )


def sample_augmentations(n: int, settings: AugmentConfig, generator: torch.Generator) -> AugmentationParams:
    """Draw the random numbers for `n` images from a CPU generator."""
    n_elements = {"none": 1, "horizontal": 2, "dihedral": 8, "dihedral-depth": 16}[settings.flips]
    dihedral = torch.randint(0, n_elements, (n,), generator=generator, dtype=torch.uint8)
    shift = torch.randint(-settings.shift, settings.shift + 1, (n, 2), generator=generator)
    affine = torch.rand((n, 4), generator=generator) * 2 - 1
    return AugmentationParams(dihedral, shift, affine)


def apply_augmentations(images_nchw: Tensor, params: AugmentationParams, settings: AugmentConfig) -> Tensor:
    """Augment images.

    Args:
        images_nchw: (n, c, h, w) uint8, or volumes (n, d, h, w), of which all slices change alike.
        params: one row per image.
        settings: the settings that `params` were drawn with.

    Returns:
        (n, c, h, w), uint8 or, after an affine transformation, float32 in 0..255.
    """
    x = images_nchw
    if settings.rotate or settings.translate or settings.scale:
        x = _apply_affine(x, params.affine, settings)
    if settings.flips != "none":
        x = _apply_dihedral(x, params.dihedral)
    if settings.flips == "dihedral-depth":
        x = torch.where((params.dihedral & 8).bool().view(-1, 1, 1, 1), x.flip(1), x)
    if settings.shift:
        x = _shift_pixels(x, params.shift, settings.shift)
    return x


def _apply_dihedral(x: Tensor, element: Tensor) -> Tensor:
    """Flip each image as the bits of its element say: left-right (1), up-down (2), across the diagonal (4; squares only).

    `nephros.models.dihedral.d4_transform` numbers the same eight as quarter-turns and a flip. These numbers stay: whole batches
    take three `where`s with them, and the bits of a seed's run depend on them.
    """
    for bit, dims in ((1, (3,)), (2, (2,))):
        x = torch.where((element & bit).bool().view(-1, 1, 1, 1), x.flip(dims), x)
    if x.shape[2] != x.shape[3]:
        return x
    return torch.where((element & 4).bool().view(-1, 1, 1, 1), x.transpose(2, 3), x)


def _shift_pixels(x: Tensor, shift: Tensor, max_shift: int) -> Tensor:
    n, _, height, width = x.shape
    windows = F.pad(x, (max_shift, max_shift, max_shift, max_shift)).unfold(2, height, 1).unfold(3, width, 1)
    start = max_shift - shift
    return windows[torch.arange(n, device=x.device), :, start[:, 0], start[:, 1]]


def _apply_affine(x: Tensor, params: Tensor, settings: AugmentConfig) -> Tensor:
    """Rotate, translate and scale about the center. Pixels stay square on images that are not."""
    n, _, height, width = x.shape
    angle = params[:, 0] * math.radians(settings.rotate)
    zoom = 1 + params[:, 3] * settings.scale
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    aspect_ratio = height / width
    theta = torch.stack(
        [
            torch.stack([cos, -sin * aspect_ratio, params[:, 2] * settings.translate * 2], dim=1),
            torch.stack([sin / aspect_ratio, cos, params[:, 1] * settings.translate * 2], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(theta, [n, 1, height, width], align_corners=False)
    return F.grid_sample(x.float(), grid, mode=settings.interpolation, padding_mode="zeros", align_corners=False)
