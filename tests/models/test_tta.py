"""Answers averaged over views."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nephros.models.tta import TTAClassifier, make_tta_views
from nephros.recipe import TTA_VIEW_COUNTS


class Linear(nn.Module):
    """Logits that tell every pixel's place."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(49, 3, generator=torch.Generator().manual_seed(0)) / 255)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).float() @ self.weight


def cells() -> Tensor:
    return torch.randint(1, 256, (6, 1, 7, 7), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize("count", TTA_VIEW_COUNTS)
def test_views_differ_and_the_first_is_the_image(count: int) -> None:
    seen = [view.apply(cells()) for view in make_tta_views(count)]
    assert len(seen) == count
    assert torch.equal(seen[0], cells())
    assert len({tuple(one.flatten().tolist()) for one in seen}) == count


def test_a_shift_brings_in_black_and_loses_the_far_side() -> None:
    _, right, left, down, up = (view.apply(cells()) for view in make_tta_views(5))
    x = cells()
    assert torch.equal(right[..., 1:], x[..., :-1])
    assert not right[..., 0].any()
    assert torch.equal(left[..., :-1], x[..., 1:])
    assert torch.equal(down[..., 1:, :], x[..., :-1, :])
    assert torch.equal(up[..., :-1, :], x[..., 1:, :])


@pytest.mark.parametrize("count", TTA_VIEW_COUNTS)
def test_the_mean_is_of_the_probabilities(count: int) -> None:
    model = Linear()
    expected = torch.stack([model(view.apply(cells())).softmax(1) for view in make_tta_views(count)]).mean(0)
    torch.testing.assert_close(TTAClassifier(model, count)(cells()).softmax(1), expected)


def test_flips_and_turns_make_any_model_indifferent_to_them() -> None:
    model = TTAClassifier(Linear(), 40)
    torch.testing.assert_close(model(cells()), model(torch.rot90(cells(), 1, (2, 3))))


def test_maps_are_turned_back() -> None:
    for view in make_tta_views(8):
        assert torch.equal(view.invert(view.apply(cells())), cells())
