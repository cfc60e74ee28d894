"""One optimizer step: the gradients of a batch (over ranks, by replicas or recorded), the update, and the averaged weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nephros.device import autocast, autocast_dtype
from nephros.distributed import DistributedContext
from nephros.models.classifier import Classifier
from nephros.recipe import Recipe
from nephros.training.ema import WeightEMA
from nephros.training.losses import distillation_loss, sharded_loss
from nephros.training.muon import Muon
from nephros.training.optimizers import all_reduce_gradients, build_optimizer
from nephros.training.replicas import ReplicaGroup, usable_replicas
from nephros.training.step_graphs import CudaRecorder, StepGraphs


class OptimizerStep:
    """Takes the steps of a recipe; holds what they change beside the weights: optimizer, gradient scaler, averaged weights."""

    def __init__(
        self,
        recipe: Recipe,
        model: Classifier,
        loss_fn: nn.CrossEntropyLoss,
        device: torch.device,
        context: DistributedContext,
        replicas: int = 1,
    ) -> None:
        """Build the optimizer and the averaged weights of `model`, which is on the device already."""
        assert replicas == usable_replicas(replicas, device, context.world_size)
        self.recipe, self.model, self.loss_fn, self.device, self.context = recipe, model, loss_fn, device, context
        self.forward: Callable[[Tensor], Tensor] = torch.compile(model) if recipe.compile else model
        self.optimizer = build_optimizer(recipe.optimizer, model)
        self.amp_dtype = autocast_dtype(recipe.amp, device)
        self.grad_scaler = torch.amp.GradScaler(device.type, enabled=self.amp_dtype == torch.float16)
        self.replicas = ReplicaGroup(model, replicas) if replicas > 1 else None
        if self.replicas is not None and isinstance(self.optimizer, Muon):
            self.optimizer.for_each = self.replicas.pool.for_each
        self.ema = WeightEMA(model, recipe.ema_decay) if recipe.ema_decay else None
        skips_steps = self.grad_scaler.is_enabled()  # it reads from the GPU whether to, which can't be recorded
        can_record = device.type == "cuda" and context.world_size == 1 and not (recipe.compile or skips_steps)
        self.graphs = StepGraphs(CudaRecorder(device)) if can_record else None

    def take(
        self,
        images: Tensor,
        labels: Tensor,
        lr: float,
        global_labels: Tensor | None = None,
        soft_targets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Take one optimizer step; return the mean loss over the batch and the number of correct predictions, on the device.

        `images` (m, c, h, w) and `labels` (m,) are this rank's part of the batch; with several ranks, `global_labels` (b,) are
        the labels of the whole batch. `soft_targets` (m, classes) are the teachers' probabilities for these images.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if self.graphs is None:
            loss, n_correct = self._step(images, labels, global_labels, soft_targets)
        else:
            loss, n_correct = self._recorded_step(self.graphs, lr, images, labels, soft_targets)
        if self.ema is not None:
            if self.replicas is not None:
                self.replicas.merge_statistics()
            self.ema.update(self.model)
        return loss, n_correct

    def _step(
        self, images: Tensor, labels: Tensor, global_labels: Tensor | None, soft_targets: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if self.replicas is None:
            self.optimizer.zero_grad(set_to_none=True)
            loss, n_correct = self._backward(self.forward, images, labels, global_labels, soft_targets)
        else:

            def backward_part(replica: nn.Module, part: slice) -> tuple[Tensor, Tensor]:
                targets = None if soft_targets is None else soft_targets[part]
                return self._backward(replica, images[part], labels[part], labels, targets)

            loss, n_correct = self.replicas.backward(len(labels), backward_part)
        if self.context.world_size > 1:
            loss, n_correct = all_reduce_gradients(self.model, self.context, loss, n_correct)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        return loss, n_correct

    def _recorded_step(
        self, graphs: StepGraphs, lr: float, images: Tensor, labels: Tensor, soft_targets: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Take a step whose gradients are recorded and, with Muon, the update too: torch's fused optimizers start few kernels."""
        optimizer = self.optimizer

        def recorded(images: Tensor, labels: Tensor, soft_targets: Tensor | None = None) -> tuple[Tensor, Tensor]:
            optimizer.zero_grad(set_to_none=False)  # since a recording adds to gradients at their place in memory
            outputs = self._backward(self.forward, images, labels, None, soft_targets)
            if isinstance(optimizer, Muon):
                optimizer.step()
            return outputs

        if isinstance(optimizer, Muon):
            optimizer.set_device_lr(lr, self.device)
        inputs = (images, labels) if soft_targets is None else (images, labels, soft_targets)
        loss, n_correct = graphs.run(recorded, *inputs)
        if not isinstance(optimizer, Muon):
            optimizer.step()
        return loss, n_correct

    def _backward(
        self,
        forward: Callable[[Tensor], Tensor],
        images: Tensor,
        labels: Tensor,
        global_labels: Tensor | None,
        soft_targets: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Add the gradients of some images; return their part of the batch's loss, and their number of correct predictions."""
        with autocast(self.amp_dtype, self.device):
            logits = forward(images)
            loss: Tensor = (
                self.loss_fn(logits, labels)
                if global_labels is None
                else sharded_loss(self.loss_fn, logits, labels, global_labels)
            )
            if soft_targets is not None:
                global_batch_size = len(labels if global_labels is None else global_labels)
                loss = distillation_loss(loss, logits, soft_targets, self.recipe.distillation_weight, global_batch_size)
        self.grad_scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach(), (logits.detach().argmax(dim=1) == labels).sum()
