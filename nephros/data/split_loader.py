"""Batches of a split for a training loop of one's own: shuffled and augmented anew in every pass."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from nephros.data.augment import apply_augmentations, sample_augmentations
from nephros.data.batches import BatchLoader, batch_boundaries
from nephros.data.split import Split
from nephros.device import resolve_device
from nephros.errors import InvalidArgument
from nephros.recipe import AugmentConfig

DEFAULT_AUGMENTATION = AugmentConfig(flips="dihedral", shift=2)
"""Flips, quarter-turns and shifts of up to two pixels: a nucleus has no up."""


class SplitLoader:
    """Iterates over (images, labels): (b, c, h, w) uint8, or float32 in 0..255 after rotation, and (b,) int64, on the device.

    Every pass has an order and an augmentation of its own, which depend on the seed and the number of the pass. Batches are
    gathered and augmented on the device, without worker processes. `Split.dataloader` explains the arguments.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        augment: bool | AugmentConfig = False,
        shuffle: bool | None = None,
        drop_last: bool = False,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
            raise InvalidArgument("batch_size", batch_size, "a whole number of at least 1")
        if not isinstance(augment, bool | AugmentConfig):
            raise InvalidArgument("augment", augment, "True, False or a `nephros.recipe.AugmentConfig`")
        default = DEFAULT_AUGMENTATION if augment else AugmentConfig()
        self.augmentation = augment if isinstance(augment, AugmentConfig) else default
        self.batch_size, self.seed, self.n_passes = int(batch_size), seed, 0
        self._shuffle = bool(augment) if shuffle is None else shuffle
        self._drop_last = drop_last
        torch_device = device if isinstance(device, torch.device) else resolve_device(device)
        self._batches = BatchLoader(split, torch_device)

    def __len__(self) -> int:
        """Return the number of batches in a pass."""
        n_images = len(self._batches)
        return n_images // self.batch_size if self._drop_last else -(-n_images // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one pass."""
        seed = np.random.SeedSequence([self.seed, self.n_passes]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(seed >> np.uint64(1)))
        self.n_passes += 1
        n_images = len(self._batches)
        order = torch.randperm(n_images, generator=generator) if self._shuffle else torch.arange(n_images)
        order = order[: batch_boundaries(n_images, self.batch_size, balanced=False)[len(self)]]
        params = sample_augmentations(len(order), self.augmentation, generator).to(self._batches.device)
        for rows, images, labels in self._batches.iter_batches(self.batch_size, order):
            yield apply_augmentations(images, params[rows], self.augmentation), labels
