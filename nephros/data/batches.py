"""Batches of a split on the device: images stay uint8 and whole batches are picked there, with no loader processes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from nephros.data.dataset import Split
from nephros.device import free_memory
from nephros.distributed import ALONE, Ranks


class Batches:
    """One split, ready to be read in any order.

    A split of at most half of the device's free memory moves there whole, once. A larger one stays where it is (perhaps
    memory-mapped on disk) and moves in chunks of several batches; the batches are the same. Where several ranks share
    the work, no device holds a whole split: a rank moves the images that it reads, and of the others only the labels.
    """

    def __init__(
        self,
        split: Split,
        device: torch.device,
        *,
        channels_last: bool = True,
        resident_limit: int | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """Take a split; `resident_limit` (bytes) replaces half of the device's free memory."""
        images = split.images[..., None] if split.images.ndim == 3 else split.images
        limit = free_memory(device) // 2 if resident_limit is None else resident_limit
        if device.type == "cpu":
            limit //= ranks.local_world
        self.device, self.ranks = device, ranks
        # Torch wants arrays that can be written to, which those of a mapped file or another process's memory can't.
        self.labels = torch.from_numpy(np.require(split.labels, requirements=["C", "W"])).to(device)
        self._channels_last = channels_last
        self._host = images
        self._chunk_bytes = max(limit // 4, 1)
        whole = ranks.world == 1 and images.nbytes <= limit
        owned = np.require(images, requirements=["C", "W"]) if whole else None
        self._resident = None if owned is None else torch.from_numpy(owned).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def pixels(self) -> int:
        """Height times width of an image."""
        return int(self._host.shape[1] * self._host.shape[2])

    @property
    def resident(self) -> bool:
        """Whether the whole split lies on the device."""
        return self._resident is not None

    def read(
        self, batch_size: int, order: Tensor | None = None, *, even: bool = False
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield (rows of the order, images (b, c, h, w) uint8, labels (b,) int64) on the device.

        `order` is (m,) int64 on the CPU; None reads all images in file order. The last batch may be short, unless `even`
        makes all of one size, give or take an image, and none larger than `batch_size`. Each of several ranks yields the
        rows of the whole batch, but only the images and labels of its own part of them, `ranks.part(rows)`.
        """
        order = torch.arange(len(self)) if order is None else order
        edges = batch_edges(len(order), batch_size, even)
        batches = [slice(start, stop) for start, stop in pairwise(edges)]
        parts = [self.ranks.part(rows) for rows in batches]
        for rows, (images, labels) in zip(batches, self._read(order, parts), strict=True):
            yield rows, images, labels

    def read_share(self, batch_size: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield (rows of the split, images (b, c, h, w) uint8) of this rank's share of the split, in file order.

        A share is a run of whole batches, so that what a network makes of an image is the same, to the bit, on any number
        of ranks. It is empty where there are fewer batches than ranks.
        """
        edges = batch_edges(len(self), batch_size, even=False)
        batches = [slice(start, stop) for start, stop in pairwise(edges)]
        share = batches[self.ranks.part(slice(0, len(batches)))]
        for rows, (images, _) in zip(share, self._read(torch.arange(len(self)), share), strict=True):
            yield rows, images

    def _read(self, order: Tensor, parts: list[slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels of each part of the order."""
        for chunk in self._chunks(parts):
            images, labels = self._move(torch.cat([order[part] for part in chunk]))
            edges = [0, *accumulate(part.stop - part.start for part in chunk)]
            for start, stop in pairwise(edges):
                rows = slice(start, stop)
                yield self._layout(images(rows)), labels[rows]

    def _layout(self, images_nhwc: Tensor) -> Tensor:
        images_nchw = images_nhwc.permute(0, 3, 1, 2)
        return images_nchw if self._channels_last else images_nchw.contiguous()

    def _chunks(self, parts: list[slice]) -> Iterator[list[slice]]:
        """Yield runs of parts that fit into a chunk, or all at once where all images lie here."""
        largest = max((part.stop - part.start for part in parts), default=1)
        bytes_of_part = int(np.prod(self._host.shape[1:])) * largest
        length = len(parts) if self.resident else max(1, self._chunk_bytes // bytes_of_part)
        for first in range(0, len(parts), max(1, length)):
            yield parts[first : first + length]

    def _move(self, wanted: Tensor) -> tuple[_Rows, Tensor]:
        """Return images and labels of the `wanted` rows (m,), in that order, on the device."""
        on_device = wanted.to(self.device)
        if self._resident is not None:
            return _Rows(self._resident, on_device), self.labels[on_device]
        # Reading a memory-mapped file in its own order turns random reads into one sweep.
        ascending, back = np.unique(wanted.numpy(), return_inverse=True)
        images = torch.from_numpy(np.ascontiguousarray(self._host[ascending])).to(self.device)
        return _Rows(images, torch.from_numpy(back).to(self.device)), self.labels[on_device]


def batch_edges(n: int, batch_size: int, even: bool) -> list[int]:
    """Return where the batches of n images begin, and n itself at the end."""
    batches = -(-n // batch_size)
    return [i * n // batches if even else min(i * batch_size, n) for i in range(batches + 1)]


class _Rows:
    """Images of a chunk in the order wanted, picked a batch at a time."""

    def __init__(self, images_nhwc: Tensor, order: Tensor) -> None:
        self._images, self._order = images_nhwc, order

    def __call__(self, rows: slice) -> Tensor:
        return self._images.index_select(0, self._order[rows])
