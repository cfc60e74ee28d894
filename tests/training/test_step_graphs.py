"""Recorded steps end with the weights of steps that run as usual, whatever the shapes of batches."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nephros.data.dataset import Dataset
from nephros.training.muon import Muon
from nephros.training.step_graphs import MAX_GRAPHS, STEPS_BEFORE_RECORDING, StepGraphs, Tensors
from nephros.training.trainer import Trainer
from tests.conftest import squares_dataset
from tests.training.test_trainer import POSTER, RESUMED, CountingCallback, make_trainer


class ReplayedOnCPU:
    """Records a function by keeping it: a replay calls it and writes its outputs where the recording's are."""

    def __init__(self) -> None:
        self.n_recorded = self.n_replayed = 0

    def run(self, function: Callable[[], Tensors]) -> Tensors:
        return function()

    def record(self, function: Callable[[], Tensors]) -> tuple[Callable[[], None], Tensors]:
        outputs = (torch.zeros(()), torch.zeros((), dtype=torch.int64))
        self.n_recorded += 1

        def replay() -> None:
            self.n_replayed += 1
            for place, output in zip(outputs, function(), strict=True):
                place.copy_(output)

        return replay, outputs


def _add(x: Tensor, y: Tensor) -> Tensors:
    return x.sum() + y.sum(), torch.tensor(len(x))


@pytest.mark.parametrize("changes", ["sgd", "ema", "muon", "adamw"])
def test_recorded_steps_end_with_the_weights_of_others(changes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nephros.training.muon.is_launch_bound", lambda _: True)
    monkeypatch.setattr(Muon, "set_device_lr", lambda *_: None)  # whose rounding would change a few bits
    dataset: Dataset = squares_dataset(n=120)
    recipe = dataclasses.replace(POSTER, batch_size=16, **RESUMED[changes])  # type: ignore[arg-type]
    usual, recorded = (make_trainer(recipe, dataset) for _ in range(2))
    recorder = ReplayedOnCPU()
    recorded.step.graphs = StepGraphs(recorder)
    for trainer in (usual, recorded):
        trainer.run(None, CountingCallback())
    assert recorder.n_replayed > recorder.n_recorded > 0
    histories: list[list[dict[str, Any]]] = [
        [{**dataclasses.asdict(row), "seconds": 0, "images_per_second": 0} for row in trainer.history]
        for trainer in (usual, recorded)
    ]
    assert histories[0] == histories[1]
    weights: list[dict[str, Tensor]] = [trainer.final_weights()[0] for trainer in (usual, recorded)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_shape_is_recorded_once_it_is_frequent_and_outputs_stay_as_they_were() -> None:
    recorder = ReplayedOnCPU()
    graphs = StepGraphs(recorder)
    outputs = [graphs.run(_add, torch.full((4,), float(i)), torch.zeros(2)) for i in range(STEPS_BEFORE_RECORDING + 2)]
    assert [float(total) for total, _ in outputs] == [4.0 * i for i in range(len(outputs))]
    assert (recorder.n_recorded, recorder.n_replayed) == (1, 2)
    graphs.run(_add, torch.zeros(3), torch.zeros(2))
    assert recorder.n_recorded == 1
    for n in range(5, 7 + MAX_GRAPHS):
        for _ in range(STEPS_BEFORE_RECORDING + 1):
            _, length = graphs.run(_add, torch.zeros(n), torch.zeros(2))
        assert length == n
    assert recorder.n_recorded == MAX_GRAPHS


def test_steps_that_cannot_be_recorded_run_as_usual(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(ReplayedOnCPU):
        def record(self, function: Callable[[], Tensors]) -> tuple[Callable[[], None], Tensors]:
            raise RuntimeError("operation not permitted when stream is capturing")

    graphs = StepGraphs(Failing())
    with caplog.at_level(logging.WARNING):
        totals = [float(graphs.run(_add, torch.ones(4), torch.zeros(2))[0]) for _ in range(STEPS_BEFORE_RECORDING + 3)]
    assert totals == [4.0] * len(totals)
    assert caplog.text.count("not permitted when stream is capturing") == 1


def test_a_cpu_records_nothing() -> None:
    trainer: Trainer = make_trainer(POSTER, squares_dataset(n=120))
    assert trainer.step.graphs is None
