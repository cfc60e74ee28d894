"""Distributed training: the processes that torchrun starts, each a rank, and their collective operations.

Without torchrun there is a single rank and no process group, and the operations return at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from nephros.errors import InvalidArgument

T = TypeVar("T")


@dataclass(frozen=True)
class DistributedContext:
    """Rank of this process among those that train together, and their collective operations.

    Every rank must call `all_reduce`, `all_gather` and `broadcast`, in the same order. They raise ConnectionAbortedError when
    another rank has ended.
    """

    rank: int = 0
    world_size: int = 1
    """Number of ranks."""
    local_rank: int = 0
    """Rank within this machine, which is also the index of its GPU."""
    local_world_size: int = 1
    """Number of ranks on this machine."""

    @property
    def is_main_process(self) -> bool:
        """Whether this is the rank that writes files and shows progress."""
        return self.rank == 0

    def shard(self, rows: slice) -> slice:
        """Return this rank's contiguous part of `rows`; the lengths of the parts differ by one at most."""
        n = rows.stop - rows.start
        return slice(rows.start + self.rank * n // self.world_size, rows.start + (self.rank + 1) * n // self.world_size)

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` by its sum over all ranks, with the same bits on each, and return it."""
        if self.world_size > 1:
            with _reporting_lost_ranks():
                dist.all_reduce(tensor)
        return tensor

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Return (world_size, ...): every rank's `tensor`; all have one shape."""
        if self.world_size == 1:
            return tensor.unsqueeze(0)
        gathered = [torch.empty_like(tensor) for _ in range(self.world_size)]
        with _reporting_lost_ranks():
            dist.all_gather(gathered, tensor)
        return torch.stack(gathered)

    def broadcast(self, value: T) -> T:
        """Return the first rank's `value`, which must be picklable."""
        if self.world_size == 1:
            return value
        values = [value]
        with _reporting_lost_ranks():
            dist.broadcast_object_list(values)
        return values[0]

    def local_device(self, device: torch.device) -> torch.device:
        """Return this rank's device of the type of `device`; InvalidArgument when there are fewer GPUs than ranks here."""
        if device.type != "cuda" or not under_torchrun():
            return device
        if self.local_rank >= torch.cuda.device_count():
            raise InvalidArgument(
                "device",
                device.type,
                f"cpu for {self.local_world_size} processes on a machine with {torch.cuda.device_count()} GPUs",
                hint="Or start one process per GPU with torchrun's --nproc-per-node.",
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)


SINGLE_PROCESS = DistributedContext()
"""Context of a process that trains alone."""


def under_torchrun() -> bool:
    """Return whether torchrun started this process."""
    return dist.is_torchelastic_launched()


def is_torchrun_restart() -> bool:
    """Return whether torchrun started this process to replace one that ended."""
    return under_torchrun() and _restart_count() > 0


def _restart_count() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


@contextlib.contextmanager
def process_group() -> Iterator[DistributedContext]:
    """Join the process group of torchrun for the block and yield this process's context; without torchrun, SINGLE_PROCESS.

    Blocks may be nested. Within the block the first rank alone logs anything below errors. When the block fails on several
    ranks, the first to fail raises its error; the others exit silently with status 1, since they fail by the same error or
    because the first is gone.
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
    # torchrun's store survives a restart and still holds the addresses of the processes that ended.
    store = PrefixStore(f"nephros/{_restart_count()}", torchrun_store)
    backends = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backends, store=store, rank=context.rank, world_size=context.world_size)
    try:
        with _errors_only() if context.rank else contextlib.nullcontext():
            yield context
    except (Exception, KeyboardInterrupt):
        # The group stays open: closing it would make the others fail, and torchrun end this process, before the error has
        # been printed.
        if _another_rank_failed(store):
            raise SystemExit(1) from None
        raise
    dist.destroy_process_group()


def _another_rank_failed(store: Any) -> bool:
    """Return whether another rank has failed earlier since torchrun last started them."""
    try:
        return int(store.add("failed", 1)) > 1
    except RuntimeError:  # the process that holds the store has ended too
        return True


@contextlib.contextmanager
def _errors_only() -> Iterator[None]:
    """Within the block the package logs errors only."""
    logger = logging.getLogger("nephros")
    previous = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(previous)


@contextlib.contextmanager
def _reporting_lost_ranks() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ConnectionAbortedError(
            "another process of this training ended, and the others can't continue without it: `torchrun --max-restarts` "
            "restarts them from the latest checkpoint, and so does `nephros.resume(RUN)`."
        ) from error
