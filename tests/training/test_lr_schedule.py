"""Learning-rate schedules, compared with torch's schedulers where it has them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nephros.recipe import LRScheduleConfig
from nephros.training.lr_schedule import LRSchedule


def _optimizer() -> torch.optim.SGD:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def test_step_matches_step_lr() -> None:
    ours = LRSchedule(LRScheduleConfig(name="step", step_epochs=15, factor=0.489), epochs=50)
    optimizer = _optimizer()
    theirs = torch.optim.lr_scheduler.StepLR(optimizer, 15, 0.489)
    for epoch in range(50):
        assert ours.multiplier(epoch, 0.5) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


def test_milestones_match_multi_step_lr() -> None:
    ours = LRSchedule(LRScheduleConfig(name="step", milestones=(0.5, 0.75), factor=0.1), epochs=40)
    optimizer = _optimizer()
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, [20, 30], 0.1)
    for epoch in range(40):
        assert ours.multiplier(epoch, 0.0) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


@given(losses=st.lists(st.floats(0.1, 3.0), min_size=1, max_size=60), patience=st.integers(0, 6))
@settings(max_examples=100, deadline=None)
def test_plateau_matches_reduce_lr_on_plateau(losses: list[float], patience: int) -> None:
    ours = LRSchedule(LRScheduleConfig(name="plateau", patience=patience, factor=0.29), epochs=len(losses))
    optimizer = _optimizer()
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=patience, factor=0.29, eps=0.0)
    for epoch, loss in enumerate(losses):
        ours.on_epoch_end(loss)
        theirs.step(loss)
        assert ours.multiplier(epoch, 0.0) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_linear_rises_and_falls_linearly() -> None:
    schedule = LRSchedule(LRScheduleConfig(name="linear", warmup=0.2), epochs=10)
    assert schedule.multiplier(0, 0.0) == pytest.approx(1e-3)
    assert schedule.multiplier(1, 0.0) == pytest.approx(0.5)
    assert schedule.multiplier(2, 0.0) == pytest.approx(1.0)
    assert schedule.multiplier(6, 0.0) == pytest.approx(0.5)
    assert schedule.multiplier(9, 0.999) < 0.001


def test_cosine_falls_to_zero_along_a_half_cosine() -> None:
    schedule = LRSchedule(LRScheduleConfig(name="cosine"), epochs=4)
    assert [schedule.multiplier(epoch, 0.0) for epoch in range(4)] == pytest.approx(
        [0.5 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(4)]
    )


def test_constant_is_one() -> None:
    schedule = LRSchedule(LRScheduleConfig(name="constant"), epochs=3)
    assert {schedule.multiplier(epoch, 0.3) for epoch in range(3)} == {1.0}


def test_plateau_continues_from_its_state() -> None:
    config = LRScheduleConfig(name="plateau", patience=1, factor=0.5)
    uninterrupted, first = LRSchedule(config, 10), LRSchedule(config, 10)
    losses = [1.0, 1.1, 1.2, 0.9, 1.0, 1.0, 1.0]
    for loss in losses[:2]:
        uninterrupted.on_epoch_end(loss)
        first.on_epoch_end(loss)
    second = LRSchedule(config, 10)
    second.load_state_dict(first.state_dict())
    for loss in losses[2:]:
        uninterrupted.on_epoch_end(loss)
        second.on_epoch_end(loss)
    assert uninterrupted.state_dict() == second.state_dict()
    assert uninterrupted.plateau_multiplier == 0.25
