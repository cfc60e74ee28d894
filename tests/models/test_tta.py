"""Test-time augmentation: predictions averaged over views."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nephros.models.tta import TTAClassifier, make_tta_views
from nephros.recipe import TTA_VIEW_COUNTS


class PixelLinear(nn.Module):
    """Linear classifier, whose logits depend on the place of every pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(49, 3, generator=torch.Generator().manual_seed(0)) / 255)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).float() @ self.weight


def make_cells() -> Tensor:
    return torch.randint(1, 256, (6, 1, 7, 7), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize("count", TTA_VIEW_COUNTS)
def test_views_differ_and_the_first_is_the_image(count: int) -> None:
    views = [view.apply(make_cells()) for view in make_tta_views(count)]
    assert len(views) == count
    assert torch.equal(views[0], make_cells())
    assert len({tuple(images.flatten().tolist()) for images in views}) == count


def test_a_shift_fills_with_black_and_drops_the_far_side() -> None:
    _, right, left, down, up = (view.apply(make_cells()) for view in make_tta_views(5))
    x = make_cells()
    assert torch.equal(right[..., 1:], x[..., :-1])
    assert not right[..., 0].any()
    assert torch.equal(left[..., :-1], x[..., 1:])
    assert torch.equal(down[..., 1:, :], x[..., :-1, :])
    assert torch.equal(up[..., :-1, :], x[..., 1:, :])


@pytest.mark.parametrize("count", TTA_VIEW_COUNTS)
def test_probabilities_are_averaged(count: int) -> None:
    model = PixelLinear()
    expected = torch.stack([model(view.apply(make_cells())).softmax(1) for view in make_tta_views(count)]).mean(0)
    torch.testing.assert_close(TTAClassifier(model, count)(make_cells()).softmax(1), expected)


def test_averaging_over_orientations_makes_any_model_invariant() -> None:
    model = TTAClassifier(PixelLinear(), 40)
    torch.testing.assert_close(model(make_cells()), model(torch.rot90(make_cells(), 1, (2, 3))))


def test_invert_undoes_apply() -> None:
    for view in make_tta_views(8):
        assert torch.equal(view.invert(view.apply(make_cells())), make_cells())
