"""Seeds of the random numbers: each purpose has a stream of its own, so that a resumed run draws the same."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derive_seed(seed: int, *stream: object) -> int:
    """Return the 63-bit seed of one stream of random numbers, such as ``derive_seed(seed, epoch, "order")``."""
    text = ":".join(str(part) for part in (seed, *stream))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def seed_dropout(seed: int, epoch: int, rank: int) -> None:
    """Seed torch's global generator, from which dropout draws, for an epoch (from 0).

    The first rank draws what a single process would; the others need draws of their own for their images.
    """
    torch.manual_seed(derive_seed(seed, epoch, "dropout", *([rank] if rank else [])))


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Return the generator of an epoch's order and augmentation, the same on every rank."""
    return torch.Generator().manual_seed(derive_seed(seed, epoch, "order"))


def epoch_order(n_images: int, passes: int, generator: torch.Generator) -> Tensor:
    """Return the (passes * n_images,) int64 indices of the train split in the order of an epoch: a permutation per pass."""
    return torch.cat([torch.randperm(n_images, generator=generator) for _ in range(passes)])
