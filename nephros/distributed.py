"""Training past one device: the processes that torchrun starts, each a rank, and what they tell one another.

Without torchrun there is one rank, no process group, and nothing here costs anything.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from nephros.errors import NephrosError

T = TypeVar("T")


@dataclass(frozen=True)
class DistributedContext:
    """This process's place among those that train together, and how it talks with them.

    `all_reduce`, `all_gather` and `broadcast` are collective: every rank must call them, in the same order. They raise
    ConnectionAbortedError when another rank has ended.
    """

    rank: int = 0
    world_size: int = 1
    """How many ranks there are."""
    local_rank: int = 0
    """This rank's number, and so its GPU's, on its own machine."""
    local_world_size: int = 1
    """How many ranks share its machine."""

    @property
    def is_main_process(self) -> bool:
        """Whether this rank is the one that writes, prints and shows progress."""
        return self.rank == 0

    def shard(self, rows: slice) -> slice:
        """Return this rank's contiguous part of `rows`; the parts differ in length by one at most."""
        n = rows.stop - rows.start
        return slice(rows.start + self.rank * n // self.world_size, rows.start + (self.rank + 1) * n // self.world_size)

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` by its sum over all ranks, the same bits on each, and return it."""
        if self.world_size > 1:
            with _reporting_lost_ranks():
                dist.all_reduce(tensor)
        return tensor

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Return (world, ...): every rank's `tensor`, all of one shape."""
        if self.world_size == 1:
            return tensor.unsqueeze(0)
        gathered = [torch.empty_like(tensor) for _ in range(self.world_size)]
        with _reporting_lost_ranks():
            dist.all_gather(gathered, tensor)
        return torch.stack(gathered)

    def broadcast(self, value: T) -> T:
        """Return the first rank's `value`, a plain one."""
        if self.world_size == 1:
            return value
        values = [value]
        with _reporting_lost_ranks():
            dist.broadcast_object_list(values)
        return values[0]

    def local_device(self, device: torch.device) -> torch.device:
        """Return the device of that kind that is this rank's own; UserError when there are fewer GPUs than ranks."""
        if device.type != "cuda" or not under_torchrun():
            return device
        if self.local_rank >= torch.cuda.device_count():
            raise NephrosError(
                f"--nproc-per-node {self.local_world_size} is more than the {torch.cuda.device_count()} GPUs here: "
                "start one process a GPU, or give --device cpu."
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)


SINGLE_PROCESS = DistributedContext()
"""The one rank of a process that trains by itself."""


def under_torchrun() -> bool:
    """Return whether torchrun started this process."""
    return dist.is_torchelastic_launched()


def is_torchrun_restart() -> bool:
    """Return whether torchrun started this process in place of one that ended."""
    return under_torchrun() and _restart_count() > 0


def _restart_count() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


@contextlib.contextmanager
def process_group() -> Iterator[DistributedContext]:
    """Within the block this process is a rank among those of its torchrun, or ALONE without one; blocks may be nested.

    When the block fails on several ranks, the first to fail raises its error; the others exit with status 1 and say
    nothing, since their errors are the same one, or that they miss the first.
    """
    if not under_torchrun():
        yield SINGLE_PROCESS
        return
    context = DistributedContext(
        *(int(os.environ[key]) for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    )
    if context.world_size == 1 or dist.is_initialized():
        yield context
        return
    torchrun_store, *_ = next(rendezvous("env://"))
    # torchrun's store outlives a restart, and still holds the addresses of the processes that have ended.
    store = PrefixStore(f"nephros/{_restart_count()}", torchrun_store)
    backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backends, store=store, rank=context.rank, world_size=context.world_size)
    try:
        yield context
    except (Exception, KeyboardInterrupt):
        # The group is left as it is: closing it would let the others fail, and torchrun end this process, before the
        # error has been printed.
        if _another_rank_failed(store):
            raise SystemExit(1) from None
        raise
    dist.destroy_process_group()


def _another_rank_failed(store: Any) -> bool:
    """Return whether another rank has failed before, since torchrun last started them."""
    try:
        return int(store.add("failed", 1)) > 1
    except RuntimeError:  # the store's process has ended too
        return True


@contextlib.contextmanager
def _reporting_lost_ranks() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ConnectionAbortedError(
            "another process of this training has ended, and the others can't go on without it: `torchrun --max-restarts` "
            "starts them again from the newest checkpoint, and so does `nephros train --resume RUN`."
        ) from error
