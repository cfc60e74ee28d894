"""Batches: every image once with its label, and the same batches from memory, in chunks, and from a mapped file."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from nephros.data.batches import BatchLoader, batch_boundaries
from nephros.data.pixel_statistics import channel_statistics, pixel_statistics
from nephros.data.split import Split
from nephros.distributed import DistributedContext

CPU = torch.device("cpu")


def _split(n: int = 50, channels: int = 1) -> Split:
    rng = np.random.default_rng(0)
    shape = (n, 5, 5) if channels == 1 else (n, 5, 5, channels)
    return Split(rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, 3, n))


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_follow_file_order(channels: int) -> None:
    split = _split(channels=channels)
    batches = BatchLoader(split, CPU)
    assert batches.resident
    parts = list(batches.iter_batches(16))
    assert [len(labels) for _, _, labels in parts] == [16, 16, 16, 2]
    images = torch.cat([images for _, images, _ in parts])
    expected = split.images[..., None] if channels == 1 else split.images
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), expected)
    assert images.dtype == torch.uint8
    assert np.array_equal(torch.cat([labels for _, _, labels in parts]).numpy(), split.labels)


@pytest.mark.parametrize("limit", [1, 2000, 1 << 20])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_split_too_large_for_the_device_has_the_same_batches(limit: int, mapped: bool, tmp_path: Path) -> None:
    split = _split(97, channels=3)
    images = split.images
    if mapped:
        np.save(tmp_path / "images.npy", images)
        images = np.load(tmp_path / "images.npy", mmap_mode="r")
        split.labels.setflags(write=False)
    order = torch.randperm(97, generator=torch.Generator().manual_seed(3))
    chunked = BatchLoader(Split(images, split.labels), CPU, max_resident_bytes=limit)
    assert chunked.resident == (limit > split.images.nbytes)
    pairs = list(zip(BatchLoader(split, CPU).iter_batches(8, order), chunked.iter_batches(8, order), strict=True))
    assert len(pairs) == 13
    for (rows, images_a, labels_a), (rows_b, images_b, labels_b) in pairs:
        assert rows == rows_b
        assert torch.equal(images_a, images_b)
        assert torch.equal(labels_a, labels_b)


@pytest.mark.parametrize("limit", [1, 1 << 20])
def test_balanced_batches_differ_by_at_most_one_image_and_cover_all(limit: int) -> None:
    split = _split(97)
    order = torch.randperm(97, generator=torch.Generator().manual_seed(3))
    parts = list(BatchLoader(split, CPU, max_resident_bytes=limit).iter_batches(16, order, balanced=True))
    assert {len(labels) for _, _, labels in parts} == {13, 14}
    assert torch.equal(torch.cat([labels for _, _, labels in parts]), torch.from_numpy(split.labels)[order])
    images = torch.cat([images for _, images, _ in parts])
    assert np.array_equal(images[:, 0].numpy(), split.images[order.numpy()])


def test_short_and_balanced_batch_boundaries_of_a_large_split() -> None:
    short, balanced = batch_boundaries(165_380, 128, balanced=False), batch_boundaries(165_380, 128, balanced=True)
    assert (len(short), short[-1] - short[-2]) == (len(balanced), 4)
    assert {stop - start for start, stop in pairwise(balanced)} == {127, 128}
    assert len(batch_boundaries(165_466, 223, balanced=False)) - 1 == 742  # the course report's 742 batches


def test_memory_format_is_the_requested_one() -> None:
    split = _split(channels=3)
    channels_last = next(iter(BatchLoader(split, CPU, channels_last=True).iter_batches(8)))[1]
    channels_first = next(iter(BatchLoader(split, CPU, channels_last=False).iter_batches(8)))[1]
    assert channels_last.is_contiguous(memory_format=torch.channels_last)
    assert channels_first.is_contiguous()
    assert torch.equal(channels_last, channels_first)


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_match_numpy(channels: int) -> None:
    split = _split(5000, channels)
    pixels = split.images.reshape(-1, channels) / 255
    mean, std = channel_statistics(split.images)
    assert pixel_statistics(split.images) == pytest.approx((pixels.mean(), pixels.std()), abs=1e-9)
    assert mean == pytest.approx(pixels.mean(axis=0).tolist(), abs=1e-12)
    assert std == pytest.approx(pixels.std(axis=0).tolist(), abs=1e-9)


def test_a_standard_deviation_of_zero_can_be_a_divisor() -> None:
    mean, std = channel_statistics(np.zeros((4, 5, 5), dtype=np.uint8))
    assert (mean, std) == ([0.0], [1e-3])


@pytest.mark.parametrize("limit", [None, 1, 500])
def test_ranks_shard_each_batch(limit: int | None) -> None:
    split = _split(97, channels=3)
    order = torch.randperm(97, generator=torch.Generator().manual_seed(3))
    unsharded = list(BatchLoader(split, CPU).iter_batches(16, order))
    ranks = [
        BatchLoader(split, CPU, max_resident_bytes=limit, context=DistributedContext(rank, 3)) for rank in range(3)
    ]
    assert not any(batches.resident for batches in ranks)
    for (rows, images, labels), *parts in zip(
        unsharded, *(batches.iter_batches(16, order) for batches in ranks), strict=True
    ):
        assert all(part[0] == rows for part in parts)
        assert torch.equal(torch.cat([part[1] for part in parts]), images)
        assert torch.equal(torch.cat([part[2] for part in parts]), labels)
    assert {len(part[2]) for part in parts} == {0, 1}


@pytest.mark.parametrize("world_size", [1, 2, 3, 20])
def test_ranks_divide_a_split_into_whole_batches(world_size: int) -> None:
    split = _split(97)
    unsharded = [(rows, images) for rows, images, _ in BatchLoader(split, CPU).iter_batches(16)]
    shards = [
        list(BatchLoader(split, CPU, context=DistributedContext(rank, world_size)).iter_local_batches(16))
        for rank in range(world_size)
    ]
    assert len({len(shard) for shard in shards}) <= 2
    batches = [batch for shard in shards for batch in shard]
    assert [rows for rows, _ in batches] == [rows for rows, _ in unsharded]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(batches, unsharded, strict=True))
