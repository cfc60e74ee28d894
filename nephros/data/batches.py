"""Batches of a split on the device: images stay uint8 and whole batches are picked there, with no loader processes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from nephros.data.dataset import Split
from nephros.device import free_memory


class Batches:
    """One split, ready to be read in any order.

    A split of at most half of the device's free memory moves there whole, once. A larger one stays where it is (perhaps
    memory-mapped on disk) and moves in chunks of several batches; the batches are the same.
    """

    def __init__(
        self, split: Split, device: torch.device, *, channels_last: bool = True, resident_limit: int | None = None
    ) -> None:
        """Take a split; `resident_limit` (bytes) replaces half of the device's free memory."""
        images = split.images[..., None] if split.images.ndim == 3 else split.images
        limit = free_memory(device) // 2 if resident_limit is None else resident_limit
        self.device = device
        self.labels = torch.from_numpy(split.labels).to(device)
        self._channels_last = channels_last
        self._host = images
        self._chunk_bytes = max(limit // 4, 1)
        # A mapped file can't be written to, which torch wants of an array that it shares; such a one is copied.
        owned = np.require(images, requirements=["C", "W"]) if images.nbytes <= limit else None
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
        makes all of one size, give or take an image, and none larger than `batch_size`.
        """
        order = torch.arange(len(self)) if order is None else order
        edges = batch_edges(len(order), batch_size, even)
        for first, last in self._chunks(edges):
            images, labels = self._move(order[edges[first] : edges[last]])
            for start, stop in pairwise(edges[first : last + 1]):
                rows = slice(start - edges[first], stop - edges[first])
                yield slice(start, stop), self._layout(images(rows)), labels[rows]

    def _layout(self, images_nhwc: Tensor) -> Tensor:
        images_nchw = images_nhwc.permute(0, 3, 1, 2)
        return images_nchw if self._channels_last else images_nchw.contiguous()

    def _chunks(self, edges: list[int]) -> Iterator[tuple[int, int]]:
        """Yield (first batch, last batch + 1) of runs of batches that fit into a chunk, or of all where all lies here."""
        batches = len(edges) - 1
        largest = max(stop - start for start, stop in pairwise(edges))
        bytes_of_batch = int(np.prod(self._host.shape[1:])) * largest
        length = batches if self.resident else max(1, self._chunk_bytes // bytes_of_batch)
        for first in range(0, batches, length):
            yield first, min(first + length, batches)

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
