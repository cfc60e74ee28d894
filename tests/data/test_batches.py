"""Batches: every image once, with its label; and the same batches from memory, in chunks and from a mapped file."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from nephros.data.batches import BatchLoader, batch_boundaries
from nephros.data.dataset import Split, channel_statistics, pixel_statistics
from nephros.distributed import DistributedContext

CPU = torch.device("cpu")


def _split(n: int = 50, channels: int = 1) -> Split:
    rng = np.random.default_rng(0)
    shape = (n, 5, 5) if channels == 1 else (n, 5, 5, channels)
    return Split(rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, 3, n))


@pytest.mark.parametrize("channels", [1, 3])
def test_file_order(channels: int) -> None:
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
def test_a_split_too_large_for_the_device_gives_the_same_batches(limit: int, mapped: bool, tmp_path: Path) -> None:
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
def test_even_batches_differ_by_one_image_at_most_and_leave_none_out(limit: int) -> None:
    split = _split(97)
    order = torch.randperm(97, generator=torch.Generator().manual_seed(3))
    parts = list(BatchLoader(split, CPU, max_resident_bytes=limit).iter_batches(16, order, balanced=True))
    assert {len(labels) for _, _, labels in parts} == {13, 14}
    assert torch.equal(torch.cat([labels for _, _, labels in parts]), torch.from_numpy(split.labels)[order])
    images = torch.cat([images for _, images, _ in parts])
    assert np.array_equal(images[:, 0].numpy(), split.images[order.numpy()])


def test_kept_and_even_batches_of_the_real_train_split() -> None:
    short, balanced = batch_boundaries(165_380, 128, balanced=False), batch_boundaries(165_380, 128, balanced=True)
    assert (len(short), short[-1] - short[-2]) == (len(balanced), 4)
    assert {stop - start for start, stop in pairwise(balanced)} == {127, 128}
    assert len(batch_boundaries(165_466, 223, balanced=False)) - 1 == 742  # the course report's 742 batches


def test_memory_layout_is_as_asked() -> None:
    split = _split(channels=3)
    last = next(iter(BatchLoader(split, CPU, channels_last=True).iter_batches(8)))[1]
    first = next(iter(BatchLoader(split, CPU, channels_last=False).iter_batches(8)))[1]
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert first.is_contiguous()
    assert torch.equal(last, first)


@pytest.mark.parametrize("channels", [1, 3])
def test_channel_statistics_are_numpy_s(channels: int) -> None:
    split = _split(5000, channels)
    pixels = split.images.reshape(-1, channels) / 255
    mean, std = channel_statistics(split.images)
    assert pixel_statistics(split.images) == pytest.approx((pixels.mean(), pixels.std()), abs=1e-9)
    assert mean == pytest.approx(pixels.mean(axis=0).tolist(), abs=1e-12)
    assert std == pytest.approx(pixels.std(axis=0).tolist(), abs=1e-9)


def test_statistics_of_an_empty_picture_do_not_divide_by_zero() -> None:
    mean, std = channel_statistics(np.zeros((4, 5, 5), dtype=np.uint8))
    assert (mean, std) == ([0.0], [1e-3])


@pytest.mark.parametrize("limit", [None, 1, 500])
def test_ranks_cut_each_batch_among_them(limit: int | None) -> None:
    split = _split(97, channels=3)
    order = torch.randperm(97, generator=torch.Generator().manual_seed(3))
    whole = list(BatchLoader(split, CPU).iter_batches(16, order))
    ranks = [
        BatchLoader(split, CPU, max_resident_bytes=limit, context=DistributedContext(rank, 3)) for rank in range(3)
    ]
    assert not any(batches.resident for batches in ranks)
    for (rows, images, labels), *parts in zip(
        whole, *(batches.iter_batches(16, order) for batches in ranks), strict=True
    ):
        assert all(part[0] == rows for part in parts)
        assert torch.equal(torch.cat([part[1] for part in parts]), images)
        assert torch.equal(torch.cat([part[2] for part in parts]), labels)
    assert {len(part[2]) for part in parts} == {0, 1}


@pytest.mark.parametrize("world", [1, 2, 3, 20])
def test_ranks_share_a_split_in_whole_batches(world: int) -> None:
    split = _split(97)
    whole = [(rows, images) for rows, images, _ in BatchLoader(split, CPU).iter_batches(16)]
    shares = [
        list(BatchLoader(split, CPU, context=DistributedContext(rank, world)).iter_local_batches(16))
        for rank in range(world)
    ]
    assert len({len(share) for share in shares}) <= 2
    batches = [batch for share in shares for batch in share]
    assert [rows for rows, _ in batches] == [rows for rows, _ in whole]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(batches, whole, strict=True))
