"""Replicas of a network in one process, one per core, which share every batch of a training step on a CPU.

Their weights are the same tensors. Each replica computes the gradients of its part of the batch, and they are added in the
order of the parts, so that equal numbers of replicas give equal bits. Batch normalization has the statistics of each part, as in
`DistributedDataParallel`, and its running averages are the means over the parts. That is why a part has at least 64 images.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nephros.core_pool import CorePool
from nephros.distributed import DistributedContext
from nephros.models.norm_statistics import batch_norms
from nephros.recipe import Recipe
from nephros.training.seeding import derive_seed

MIN_IMAGES = 64
"""Images of a batch per replica, at least: with fewer, statistics are noisy and operators take as long as for more."""
MIN_MULTIPLY_ADDS = 50_000_000
"""Multiply-adds of a batch forward, at least: below, a step takes a few milliseconds, and its exchange a good part of them."""

PartLoss = Callable[[nn.Module, slice], tuple[Tensor, Tensor]]
"""Adds the gradients of a part of the batch to those of the module; returns its part of the loss, and its correct predictions."""


def usable_replicas(replicas: int, device: torch.device, world_size: int) -> int:
    """Return how many of a run's replicas it has here: one on a GPU, and where several processes divide the batches already."""
    return replicas if device.type == "cpu" and world_size == 1 else 1


def count_replicas(
    recipe: Recipe,
    n_images: int,
    multiply_adds: int,
    device: torch.device,
    world_size: int = 1,
    *,
    max_replicas: int | None = None,
) -> int:
    """Return how many replicas a new run has, as far as steps are large enough.

    `multiply_adds` are those of one image forward, `n_images` those of the train split. There are up to `max_replicas`; None is
    one per torch thread. A GPU, several processes, a compiled network and fp16 have one replica.
    """
    if recipe.is_classical or recipe.compile or recipe.amp == "fp16":
        return 1
    batch_size = min(recipe.batch_size, recipe.passes_per_epoch * n_images)
    if batch_size * multiply_adds < MIN_MULTIPLY_ADDS:
        return 1
    replicas = min(max_replicas or torch.get_num_threads(), batch_size // MIN_IMAGES)
    return usable_replicas(max(1, replicas), device, world_size)


class ReplicaGroup:
    """A network and its replicas, the pool of threads that runs them, and what they have in common."""

    def __init__(self, model: nn.Module, size: int) -> None:
        """Make `size` - 1 replicas of `model`, which is the first itself."""
        self.pool = CorePool(size)
        self._models = [model, *(_replicate(model) for _ in range(size - 1))]

    def begin_epoch(self, seed: int, epoch: int) -> None:
        """Give the replicas the mode and the buffers of the network, and seed their dropout."""
        for rank, replica in enumerate(self._models[1:], start=1):
            for module, original in zip(replica.modules(), self._models[0].modules(), strict=True):
                module.training = original.training
                if isinstance(module, _SeededDropout):
                    module.generator.manual_seed(derive_seed(seed, epoch, "dropout", rank))
        self._copy_buffers()

    def backward(self, batch_size: int, part_loss: PartLoss) -> tuple[Tensor, Tensor]:
        """Set the network's gradients to those of a batch; return its loss, and its correct predictions.

        A batch of less than half the usual size, such as a short last one, goes to one replica.
        """
        n_parts = len(self._models) if batch_size >= len(self._models) * MIN_IMAGES // 2 else 1
        if is_short := n_parts < len(self._models):
            self.merge_statistics()

        def run(index: int) -> tuple[Tensor, Tensor]:
            for parameter in self._models[index].parameters():
                parameter.grad = None
            return part_loss(self._models[index], DistributedContext(index, n_parts).shard(slice(0, batch_size)))

        (loss, n_correct), *others = self.pool.run(run, n_parts)
        for replica, (part, n_part_correct) in zip(self._models[1:], others, strict=False):
            loss, n_correct = loss + part, n_correct + n_part_correct
            for parameter, addend in zip(self._models[0].parameters(), replica.parameters(), strict=True):
                if parameter.grad is not None and addend.grad is not None:
                    parameter.grad.add_(addend.grad)
        if is_short:
            self._copy_buffers()
        return loss, n_correct

    @torch.no_grad()
    def merge_statistics(self) -> None:
        """Give all the means of the replicas' running statistics: averages of each are as linear as the average of all."""
        for norms in zip(*(batch_norms(model) for model in self._models), strict=True):
            if norms[0].training:
                for name in ("running_mean", "running_var"):
                    buffers = [norm.get_buffer(name) for norm in norms]
                    buffers[0].copy_(torch.stack(buffers).mean(0))
        self._copy_buffers()

    @torch.no_grad()
    def _copy_buffers(self) -> None:
        for replica in self._models[1:]:
            for buffer, original in zip(replica.buffers(), self._models[0].buffers(), strict=True):
                buffer.copy_(original)


def _replicate(model: nn.Module) -> nn.Module:
    """Return a copy that shares the weights, with gradients, buffers and random numbers of its own."""
    replica = copy.deepcopy(model)
    for parameter, original in zip(replica.parameters(), model.parameters(), strict=True):
        parameter.data = original.data
    for module in replica.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.Dropout):
                setattr(module, name, _SeededDropout(child.p))
    return replica


class _SeededDropout(nn.Dropout):
    """Dropout with a generator of its own, since threads would draw from torch's in an order that changes."""

    def __init__(self, p: float) -> None:
        super().__init__(p)
        self.generator = torch.Generator()

    def forward(self, input: Tensor) -> Tensor:
        """Return the input with its elements dropped, in training."""
        if not self.training or self.p == 0:
            return input
        keep = torch.empty_like(input).bernoulli_(1 - self.p, generator=self.generator)
        return input * keep / (1 - self.p)
