"""Several processes train as one does: losses, gradients, weights and evaluations are the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from nephros.distributed import SINGLE_PROCESS, DistributedContext
from nephros.errors import InvalidArgument
from nephros.recipe import Recipe
from nephros.training.losses import build_loss, sharded_loss
from nephros.training.model_init import check_batch_sharding
from tests import torchrun
from tests.training.curves import CASES, curves

Curves = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def one_process() -> Iterator[Curves]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes of torchrun
    yield curves(SINGLE_PROCESS)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Curves:
    file = tmp_path_factory.mktemp("two") / "curves.npz"
    status, _, errors = torchrun.run_torchrun(2, "tests.training.curves", str(file))
    assert status == 0, errors
    return dict(np.load(file))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one(case: str, one_process: Curves, two_processes: Curves) -> None:
    tolerance = 1e-10 if case.endswith("float64") else 1e-4
    assert len(one_process[f"{case}: losses"]) == (50 if CASES[case][0].epochs == 5 else 18)
    for name in ("losses", "rows", "weights"):
        np.testing.assert_allclose(
            two_processes[f"{case}: {name}"], one_process[f"{case}: {name}"], rtol=0, atol=tolerance, err_msg=name
        )
    assert (two_processes[f"{case}: names"] == one_process[f"{case}: names"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_evaluate_as_one_to_the_bit(case: str, one_process: Curves, two_processes: Curves) -> None:
    for name in ("first probabilities", "first metrics"):
        assert np.array_equal(two_processes[f"{case}: {name}"], one_process[f"{case}: {name}"])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_sharded_losses_and_their_gradients_sum_to_those_of_the_batch(smoothing: float, weights: str) -> None:
    recipe = Recipe(label_smoothing=smoothing, class_weights=weights)  # type: ignore[arg-type]
    loss = build_loss(recipe, np.array([5, 30, 10]), torch.device("cpu")).double()
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    labels = torch.tensor([0, 1, 1, 2, 2, 0, 1])
    batch_loss: Tensor = loss(logits, labels)
    (expected,) = torch.autograd.grad(batch_loss, logits)
    parts = [DistributedContext(rank, 3).shard(slice(0, 7)) for rank in range(3)]
    total = torch.stack([sharded_loss(loss, logits[part], labels[part], labels) for part in parts]).sum()
    assert total.item() == pytest.approx(batch_loss.item(), abs=1e-15)
    torch.testing.assert_close(torch.autograd.grad(total, logits)[0], expected, rtol=0, atol=1e-15)


def test_shards_cover_all_rows_and_differ_by_one_at_most() -> None:
    for world in (1, 2, 3, 8):
        for n in (8, 9, 223):
            parts = [DistributedContext(rank, world).shard(slice(10, 10 + n)) for rank in range(world)]
            assert [row for part in parts for row in range(part.start, part.stop)] == list(range(10, 10 + n))
            sizes = {part.stop - part.start for part in parts}
            assert max(sizes) - min(sizes) <= 1


def test_a_batch_too_small_for_the_processes_is_refused() -> None:
    recipe = Recipe(batch_size=50)
    check_batch_sharding(recipe, 102, 2)
    check_batch_sharding(dataclasses.replace(recipe, last_batch="balanced"), 101, 2)
    check_batch_sharding(recipe, 101, 1)
    with pytest.raises(InvalidArgument, match="2 processes") as exc_info:
        check_batch_sharding(recipe, 101, 2)
    assert (exc_info.value.parameter, exc_info.value.value) == ("batch_size", 50)


def test_a_single_process_exchanges_nothing(tmp_path: Path) -> None:
    tensor = torch.arange(3.0)
    assert SINGLE_PROCESS.all_reduce(tensor) is tensor
    assert torch.equal(SINGLE_PROCESS.all_gather(tensor), tensor[None])
    assert SINGLE_PROCESS.broadcast(tmp_path) is tmp_path
    assert SINGLE_PROCESS.local_device(torch.device("cuda")) == torch.device("cuda")
    assert not torch.distributed.is_initialized()
