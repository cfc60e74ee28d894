"""Augmentation: exactly the documented transformations, and uniformly distributed parameters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nephros.data.augment import AugmentationParams, apply_augmentations, sample_augmentations
from nephros.recipe import AugmentConfig


def _images(n: int, height: int = 6, width: int = 6, channels: int = 1) -> Tensor:
    pixels = torch.arange(channels * height * width, dtype=torch.uint8).reshape(1, channels, height, width)
    return pixels.expand(n, -1, -1, -1).contiguous()


def _params(
    n: int, dihedral: Tensor | None = None, shift: Tensor | None = None, affine: Tensor | None = None
) -> AugmentationParams:
    return AugmentationParams(
        torch.zeros(n, dtype=torch.uint8) if dihedral is None else dihedral,
        torch.zeros(n, 2, dtype=torch.int64) if shift is None else shift,
        torch.zeros(n, 4) if affine is None else affine,
    )


def test_dihedral_elements_are_the_symmetries_of_the_square() -> None:
    images = _images(8, channels=3)
    augmented = apply_augmentations(
        images, _params(8, dihedral=torch.arange(8, dtype=torch.uint8)), AugmentConfig(flips="dihedral")
    )
    original = images[0]
    expected = {tuple(m.rot90(k, (1, 2)).flatten().tolist()) for m in (original, original.flip(2)) for k in range(4)}
    assert {tuple(image.flatten().tolist()) for image in augmented} == expected
    assert torch.equal(augmented[0], original)
    assert augmented.dtype == torch.uint8


def test_horizontal_flips_left_and_right_only() -> None:
    images = _images(2)
    augmented = apply_augmentations(
        images, _params(2, dihedral=torch.tensor([0, 1], dtype=torch.uint8)), AugmentConfig(flips="horizontal")
    )
    assert torch.equal(augmented[1], images[1].flip(2))


def test_non_square_images_keep_their_shape() -> None:
    images = _images(8, height=4, width=6)
    augmented = apply_augmentations(
        images, _params(8, dihedral=torch.arange(8, dtype=torch.uint8)), AugmentConfig(flips="dihedral")
    )
    assert augmented.shape == images.shape
    assert torch.equal(augmented[7], images[7].flip(1).flip(2))


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, -1), (-2, 2), (1, 1)])
def test_shift_moves_whole_pixels_and_fills_with_black(down: int, right: int) -> None:
    images = _images(1, channels=3) + 1
    augmented = apply_augmentations(images, _params(1, shift=torch.tensor([[down, right]])), AugmentConfig(shift=2))
    expected = torch.zeros_like(images)
    for y in range(6):
        for x in range(6):
            if 0 <= y - down < 6 and 0 <= x - right < 6:
                expected[0, :, y, x] = images[0, :, y - down, x - right]
    assert torch.equal(augmented, expected)


def test_a_zero_affine_transformation_changes_nothing() -> None:
    settings = AugmentConfig(rotate=15, translate=0.1, scale=0.1, interpolation="bilinear")
    images = _images(2)
    assert torch.allclose(apply_augmentations(images, _params(2), settings), images.float(), atol=1e-3)


def test_a_rotation_by_ninety_degrees_is_a_quarter_turn() -> None:
    images = _images(2)
    affine = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])
    augmented = apply_augmentations(
        images, _params(2, affine=affine), AugmentConfig(rotate=90, interpolation="nearest")
    )
    expected = {tuple(images[0].float().rot90(k, (1, 2)).flatten().tolist()) for k in (1, 3)}
    assert {tuple(image.flatten().tolist()) for image in augmented} == expected


def test_scale_and_translate_move_pixels_as_far_as_set() -> None:
    image = torch.zeros(1, 1, 20, 20)
    image[..., 9:11, 9:11] = 255
    enlarged = apply_augmentations(
        image, _params(1, affine=torch.tensor([[0, 0, 0, 1.0]])), AugmentConfig(scale=0.5, interpolation="bilinear")
    )
    assert enlarged.sum() == pytest.approx(image.sum().item() * 1.5**2, rel=0.1)
    moved = apply_augmentations(image, _params(1, affine=torch.tensor([[0, 1.0, 0, 0]])), AugmentConfig(translate=0.25))
    rows = moved[0, 0].nonzero()[:, 0]
    assert set(rows.tolist()) in ({4, 5}, {14, 15})


def test_parameters_cover_their_range_uniformly_and_follow_the_seed() -> None:
    settings = AugmentConfig(flips="dihedral", shift=2)
    params = sample_augmentations(8000, settings, torch.Generator().manual_seed(1))
    assert torch.bincount(params.dihedral.long(), minlength=8).min() > 850
    assert set(params.shift.flatten().tolist()) == {-2, -1, 0, 1, 2}
    assert params.affine.abs().max() <= 1
    again = sample_augmentations(8000, settings, torch.Generator().manual_seed(1))
    assert torch.equal(params.dihedral, again.dihedral)
    assert torch.equal(params.shift, again.shift)


def test_dividing_a_batch_changes_nothing() -> None:
    settings = AugmentConfig(flips="dihedral", shift=1, rotate=10)
    images = torch.randint(0, 256, (10, 1, 9, 9), dtype=torch.uint8)
    params = sample_augmentations(10, settings, torch.Generator().manual_seed(0))
    undivided = apply_augmentations(images, params, settings)
    parts = [apply_augmentations(images[rows], params[rows], settings) for rows in (slice(0, 3), slice(3, 10))]
    assert torch.equal(undivided, torch.cat(parts))


def test_the_input_is_not_modified() -> None:
    images = _images(8)
    original = images.clone()
    apply_augmentations(
        images,
        sample_augmentations(8, AugmentConfig(flips="dihedral", shift=2), torch.Generator().manual_seed(0)),
        AugmentConfig("dihedral", 2),
    )
    assert torch.equal(images, original)
