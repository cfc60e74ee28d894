"""Batches of a split on the device: images stay uint8 and whole batches are picked there, with no loader processes."""

from __future__ import annotations

from collections.abc import Iterator

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

    def read(self, batch_size: int, order: Tensor | None = None) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield (rows of the order, images (b, c, h, w) uint8, labels (b,) int64) on the device; the last batch may be short.

        `order` is (m,) int64 on the CPU; None reads all images in file order.
        """
        order = torch.arange(len(self)) if order is None else order
        for chunk, images, labels in self._chunks(order, batch_size):
            for start in range(0, len(labels), batch_size):
                rows = slice(start, start + batch_size)
                at = slice(chunk + start, min(chunk + start + batch_size, len(order)))
                yield at, self._layout(images(rows)), labels[rows]

    def _layout(self, images_nhwc: Tensor) -> Tensor:
        images_nchw = images_nhwc.permute(0, 3, 1, 2)
        return images_nchw if self._channels_last else images_nchw.contiguous()

    def _chunks(self, order: Tensor, batch_size: int) -> Iterator[tuple[int, _Rows, Tensor]]:
        if self._resident is not None:
            on_device = order.to(self.device)
            yield 0, _Rows(self._resident, on_device), self.labels[on_device]
            return
        image_bytes = int(np.prod(self._host.shape[1:]))
        length = max(1, self._chunk_bytes // (image_bytes * batch_size)) * batch_size
        for start in range(0, len(order), length):
            wanted = order[start : start + length]
            # Reading a memory-mapped file in its own order turns random reads into one sweep.
            ascending, back = np.unique(wanted.numpy(), return_inverse=True)
            images = torch.from_numpy(np.ascontiguousarray(self._host[ascending])).to(self.device)
            yield start, _Rows(images, torch.from_numpy(back).to(self.device)), self.labels[wanted.to(self.device)]


class _Rows:
    """Images of a chunk in the order wanted, picked a batch at a time."""

    def __init__(self, images_nhwc: Tensor, order: Tensor) -> None:
        self._images, self._order = images_nhwc, order

    def __call__(self, rows: slice) -> Tensor:
        return self._images.index_select(0, self._order[rows])
