"""Seeds of the streams of random numbers."""

from __future__ import annotations

import itertools

import torch

from nephros.training.seeding import derive_seed, epoch_generator, epoch_order


def test_streams_have_different_seeds() -> None:
    seeds = [derive_seed(*key) for key in itertools.product((0, 1), (0, 1, 11), ("order", "dropout"))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_an_epoch_s_order_is_a_permutation_per_pass_and_depends_on_seed_and_epoch() -> None:
    order = epoch_order(7, 2, epoch_generator(0, 3))
    assert [sorted(part.tolist()) for part in torch.chunk(order, 2)] == [list(range(7))] * 2
    assert torch.equal(order, epoch_order(7, 2, epoch_generator(0, 3)))
    for seed, epoch in ((1, 3), (0, 4)):
        assert not torch.equal(order, epoch_order(7, 2, epoch_generator(seed, epoch)))
