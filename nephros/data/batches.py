"""Batches of a split on the device, without loader processes: images stay uint8 and are indexed there a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from nephros.data.split import Split
from nephros.device import free_memory
from nephros.distributed import SINGLE_PROCESS, DistributedContext

MAX_COLORS = 3
"""Planes of an image up to which they are colors, where only the memory of a batch depends on it."""


class BatchLoader:
    """Batches of one split in any order.

    A split of at most half of the device's free memory moves there once, as a whole. A larger one stays in host memory or on
    disk (memory-mapped) and moves in chunks of several batches; the batches are the same. With several ranks no device holds
    a whole split: each rank moves the images that it reads, and the labels of all.
    """

    def __init__(
        self,
        split: Split,
        device: torch.device,
        *,
        channels_last: bool = True,
        max_resident_bytes: int | None = None,
        context: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        """Prepare a split.

        Args:
            split: images and labels.
            device: where batches are returned.
            channels_last: return batches in torch's channels-last memory format.
            max_resident_bytes: largest split in bytes that moves to the device as a whole; None takes half of its free memory.
            context: the ranks that share the batches.
        """
        images = split.images[..., None] if split.images.ndim == 3 else split.images
        max_bytes = free_memory(device) // 2 if max_resident_bytes is None else max_resident_bytes
        if device.type == "cpu":
            max_bytes //= context.local_world_size
        self.device, self.context = device, context
        # Torch needs writable arrays, and those of a memory-mapped file or of another process's memory are not.
        self.labels = torch.from_numpy(np.require(split.labels, requirements=["C", "W"])).to(device)
        self._channels_last = channels_last
        self._host_images = images
        self._max_chunk_bytes = max(max_bytes // 4, 1)
        fits_on_device = context.world_size == 1 and images.nbytes <= max_bytes
        writable_images = np.require(images, requirements=["C", "W"]) if fits_on_device else None
        self._device_images = None if writable_images is None else torch.from_numpy(writable_images).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def pixels_per_image(self) -> int:
        """Height times width of an image; of a volume, by whose slices a network's maps grow, also times their number."""
        height, width, planes = self._host_images.shape[1:]
        return int(height * width * (planes if planes > MAX_COLORS else 1))

    @property
    def resident(self) -> bool:
        """Whether the whole split is on the device."""
        return self._device_images is not None

    def iter_batches(
        self, batch_size: int, order: Tensor | None = None, *, balanced: bool = False
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield batches on the device.

        Args:
            batch_size: images per batch, over all ranks.
            order: (m,) int64 indices on the CPU; None reads all images in file order.
            balanced: make all batches equal in size, give or take an image and none above `batch_size`, in place of a short
                last batch.

        Yields:
            The batch as a slice of `order`, its images (b, c, h, w) uint8, and their labels (b,) int64. With several ranks the
            slice covers the whole batch, and images and labels only this rank's shard, `context.shard(rows)`.
        """
        order = torch.arange(len(self)) if order is None else order
        boundaries = batch_boundaries(len(order), batch_size, balanced)
        batches = [slice(start, stop) for start, stop in pairwise(boundaries)]
        local_slices = [self.context.shard(rows) for rows in batches]
        for rows, (images, labels) in zip(batches, self._iter_slices(order, local_slices), strict=True):
            yield rows, images, labels

    def iter_local_batches(self, batch_size: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield batches of this rank's shard of the split in file order: a slice of the split and its images, (b, c, h, w) uint8.

        A shard is a run of whole batches, so that a network's output for an image is the same, to the bit, on any number of
        ranks. It is empty where there are fewer batches than ranks.
        """
        boundaries = batch_boundaries(len(self), batch_size, balanced=False)
        batches = [slice(start, stop) for start, stop in pairwise(boundaries)]
        local_batches = batches[self.context.shard(slice(0, len(batches)))]
        for rows, (images, _) in zip(
            local_batches, self._iter_slices(torch.arange(len(self)), local_batches), strict=True
        ):
            yield rows, images

    def _iter_slices(self, order: Tensor, slices: list[slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images and labels of each slice of the order."""
        for chunk in self._group_into_chunks(slices):
            images, labels = self._gather_on_device(torch.cat([order[local_slice] for local_slice in chunk]))
            offsets = [0, *accumulate(local_slice.stop - local_slice.start for local_slice in chunk)]
            for start, stop in pairwise(offsets):
                rows = slice(start, stop)
                yield self._to_memory_format(images(rows)), labels[rows]

    def _to_memory_format(self, images_nhwc: Tensor) -> Tensor:
        images_nchw = images_nhwc.permute(0, 3, 1, 2)
        return images_nchw if self._channels_last else images_nchw.contiguous()

    def _group_into_chunks(self, slices: list[slice]) -> Iterator[list[slice]]:
        """Yield runs of slices that fit into a chunk, or a single run where the whole split is on the device."""
        largest = max((rows.stop - rows.start for rows in slices), default=1)
        max_batch_bytes = int(np.prod(self._host_images.shape[1:])) * largest
        chunk_length = len(slices) if self.resident else max(1, self._max_chunk_bytes // max_batch_bytes)
        for first in range(0, len(slices), max(1, chunk_length)):
            yield slices[first : first + chunk_length]

    def _gather_on_device(self, indices: Tensor) -> tuple[_LazyRows, Tensor]:
        """Return the images and labels at `indices`, (m,) int64, in that order, on the device."""
        on_device = indices.to(self.device)
        if self._device_images is not None:
            return _LazyRows(self._device_images, on_device), self.labels[on_device]
        # Sorted indices turn random reads of a memory-mapped file into one sweep.
        ascending, inverse = np.unique(indices.numpy(), return_inverse=True)
        images = torch.from_numpy(np.ascontiguousarray(self._host_images[ascending])).to(self.device)
        return _LazyRows(images, torch.from_numpy(inverse).to(self.device)), self.labels[on_device]


def batch_boundaries(n: int, batch_size: int, balanced: bool) -> list[int]:
    """Return the first index of each batch of `n` images, and `n` itself at the end."""
    n_batches = -(-n // batch_size)
    return [i * n // n_batches if balanced else min(i * batch_size, n) for i in range(n_batches + 1)]


class _LazyRows:
    """Images of a chunk, put in order a batch at a time."""

    def __init__(self, images_nhwc: Tensor, order: Tensor) -> None:
        self._images, self._order = images_nhwc, order

    def __call__(self, rows: slice) -> Tensor:
        return self._images.index_select(0, self._order[rows])
