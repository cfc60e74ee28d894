"""The training loop, readable top to bottom. It is given train and validation, and never sees the test split."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nephros.data.augment import apply_augmentations, sample_augmentations
from nephros.data.batches import BatchLoader
from nephros.device import autocast_dtype
from nephros.errors import DivergedError, NephrosError
from nephros.evaluation.scoring import evaluate_model
from nephros.models.sync_batchnorm import convert_sync_batchnorm
from nephros.recipe import Recipe
from nephros.training.history import EpochMetrics
from nephros.training.lr_schedule import LRSchedule
from nephros.training.parts import (
    WeightEMA,
    all_reduce_gradients,
    build_loss,
    build_optimizer,
    cpu_state_dict,
    derive_seed,
    distillation_loss,
    sharded_loss,
)

SaveState = Callable[[dict[str, Any]], None]
"""What puts a state, as `Trainer.state_dict` returns it, in a safe place."""


class Callback(Protocol):
    """Whoever shows or stores progress."""

    def on_step_end(self, epoch: int, n_images: int, loss: Tensor) -> None:
        """Hear that so many images of `on_epoch_end` (from 1) have been trained on; `loss` is the batch's mean, on the device."""

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        """Hear of an epoch that is over and safe in the checkpoint; `history` are all so far."""


class Trainer:
    """One training run in progress: everything that a checkpoint keeps, and how to take it further.

    The order of images, the augmentation and the dropout of an epoch come from seeds of (seed, epoch) alone. So a run
    that is resumed after any epoch ends with the weights of one that never stopped.

    Where several ranks share the batches, each makes the same order and draws and takes its part of every batch; loss,
    gradients and batch statistics are summed over them, so that all hold the same weights, those of one process.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        train: BatchLoader,
        val: BatchLoader,
        class_names: tuple[str, ...],
        soft_targets: Tensor | None = None,
    ) -> None:
        """Begin; `soft_targets`, (n, classes) probabilities of the train split, are for recipes that follow teachers."""
        assert (soft_targets is not None) == (recipe.distillation_weight > 0)
        self.recipe, self.train_batches, self.val_batches, self.class_names = recipe, train, val, class_names
        self.device, self.context = train.device, train.context
        if self.context.world_size > 1:
            convert_sync_batchnorm(model, self.context)
        memory_format = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model = model.to(self.device).to(memory_format=memory_format)  # type: ignore[call-overload]
        self._forward = torch.compile(self.model) if recipe.compile else self.model
        class_counts = torch.bincount(train.labels, minlength=len(class_names)).cpu().numpy()
        self.loss_fn = build_loss(recipe, class_counts, self.device)
        self.soft_targets = None if soft_targets is None else soft_targets.to(self.device)
        self.optimizer = build_optimizer(recipe.optimizer, self.model)
        self.lr_schedule = LRSchedule(recipe.schedule, recipe.epochs)
        self.amp_dtype = autocast_dtype(recipe.amp, self.device)
        self.grad_scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp_dtype == torch.float16)
        self.ema = WeightEMA(self.model, recipe.ema_decay) if recipe.ema_decay else None
        self.history: list[EpochMetrics] = []
        self.best: EpochMetrics | None = None
        self.best_weights: dict[str, Tensor] = {}

    @property
    def images_per_epoch(self) -> int:
        """How many images an epoch trains on."""
        return self.recipe.passes_per_epoch * len(self.train_batches)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or early stop says that it is enough."""
        patience = self.recipe.early_stopping_patience
        stalled = bool(patience and self.best and self.history[-1].epoch - self.best.epoch >= patience)
        return stalled or len(self.history) >= self.recipe.epochs

    def run(self, save_state: SaveState | None, callback: Callback, stop_epoch: int | None = None) -> None:
        """Train to the end, or until so many epochs are done, and give the state to `save_state` after every epoch."""
        while not self.finished and (stop_epoch is None or len(self.history) < stop_epoch):
            epoch = self._train_epoch(len(self.history), callback)
            self.history.append(epoch)
            self._check_metric(epoch)
            if self.best is None or epoch.is_better_than(self.best, self.recipe.metric):
                self.best = epoch
                if self.recipe.checkpoint == "best":
                    self.best_weights = cpu_state_dict(self.model) if self.ema is None else self._ema_weights()
            self.lr_schedule.on_epoch_end(epoch.val_loss)
            if save_state is not None:
                save_state(self.state_dict())
            callback.on_epoch_end(epoch, self.history)

    def _check_metric(self, epoch: EpochMetrics) -> None:
        metric_is_used = self.recipe.checkpoint == "best" or self.recipe.early_stopping_patience
        if metric_is_used and math.isnan(getattr(epoch, self.recipe.metric)):
            raise NephrosError(
                f"--metric {self.recipe.metric} is undefined on this validation split, which lacks classes: choose val_loss."
            )

    def _train_epoch(self, epoch: int, callback: Callback) -> EpochMetrics:
        start = time.perf_counter()
        seed = self.recipe.seed
        # The first rank drops what a process by itself would; the others' images need draws of their own.
        torch.manual_seed(
            derive_seed(seed, epoch, "dropout", *([] if self.context.is_main_process else [self.context.rank]))
        )
        generator = torch.Generator().manual_seed(derive_seed(seed, epoch, "order"))
        n_images, n_train = self.images_per_epoch, len(self.train_batches)
        order = torch.cat([torch.randperm(n_train, generator=generator) for _ in range(self.recipe.passes_per_epoch)])
        augmentation_params = sample_augmentations(n_images, self.recipe.augment, generator).to(self.device)
        epoch_labels = None if self.context.world_size == 1 else self.train_batches.labels[order.to(self.device)]
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        lr = 0.0
        self.model.train()
        for rows, images, labels in self.train_batches.iter_batches(
            self.recipe.batch_size, order, balanced=self.recipe.last_batch == "balanced"
        ):
            lr = self.recipe.optimizer.lr * self.lr_schedule.multiplier(epoch, rows.start / n_images)
            local_rows = self.context.shard(rows)
            images = apply_augmentations(images, augmentation_params[local_rows], self.recipe.augment)
            soft_targets = None if self.soft_targets is None else self.soft_targets[order[local_rows].to(self.device)]
            loss, n_correct = self.train_step(
                images, labels, lr, None if epoch_labels is None else epoch_labels[rows], soft_targets
            )
            batch_size = rows.stop - rows.start
            totals += torch.stack([loss.double() * batch_size, n_correct.double()])
            callback.on_step_end(epoch + 1, batch_size, loss)
        train_loss, train_accuracy = (totals / n_images).tolist()
        seconds = time.perf_counter() - start
        if not math.isfinite(train_loss):
            raise DivergedError(
                f"The training loss became {train_loss} in epoch {epoch + 1}: lower --optimizer.lr and train again."
            )
        return self._validate(epoch + 1, lr, train_loss, train_accuracy, seconds)

    def train_step(
        self,
        images: Tensor,
        labels: Tensor,
        lr: float,
        global_labels: Tensor | None = None,
        soft_targets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Take one optimiser step; return the batch's mean loss and the number called rightly, both on the device.

        Each rank gives its own part of the batch, and as `global_labels` the labels of all of it. `soft_targets` are the
        teachers' probabilities for these images.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        autocast = torch.autocast(self.device.type, self.amp_dtype) if self.amp_dtype else contextlib.nullcontext()
        with autocast:
            logits = self._forward(images)
            loss: Tensor = (
                self.loss_fn(logits, labels)
                if global_labels is None
                else sharded_loss(self.loss_fn, logits, labels, global_labels)
            )
            if soft_targets is not None:
                global_batch_size = len(labels if global_labels is None else global_labels)
                loss = distillation_loss(loss, logits, soft_targets, self.recipe.distillation_weight, global_batch_size)
        self.optimizer.zero_grad(set_to_none=True)
        self.grad_scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        loss, n_correct = loss.detach(), (logits.detach().argmax(dim=1) == labels).sum()
        if global_labels is not None:
            loss, n_correct = all_reduce_gradients(self.model, self.context, loss, n_correct)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        if self.ema is not None:
            self.ema.update(self.model)
        return loss, n_correct

    def _validate(
        self, epoch: int, lr: float, train_loss: float, train_accuracy: float, seconds: float
    ) -> EpochMetrics:
        with self.eval_weights():
            metrics = evaluate_model(self.model, self.val_batches, self.class_names).metrics
        auc = math.nan if metrics["auc"] is None else metrics["auc"]
        images_per_second = self.images_per_epoch / seconds
        val_metrics = (metrics["loss"], metrics["accuracy"], metrics["macro_f1"], auc)
        return EpochMetrics(epoch, lr, train_loss, train_accuracy, *val_metrics, seconds, images_per_second)

    def _ema_weights(self) -> dict[str, Tensor]:
        assert self.ema is not None
        return {name: value.detach().cpu().clone() for name, value in self.ema.weights.items()}

    @contextlib.contextmanager
    def eval_weights(self) -> Iterator[None]:
        """Within the block the model holds the averaged weights, if the recipe averages; then the trained ones again."""
        if self.ema is None:
            yield
            return
        train_weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.ema.weights)
        try:
            yield
        finally:
            self.model.load_state_dict(train_weights)

    def final_weights(self) -> tuple[dict[str, Tensor], int]:
        """Return the weights that the recipe says to keep, on the CPU, and the epoch (from 1) that they come from."""
        if self.recipe.checkpoint == "best" and self.best is not None:
            return self.best_weights, self.best.epoch
        weights = cpu_state_dict(self.model) if self.ema is None else self._ema_weights()
        return weights, self.history[-1].epoch

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to go on as if nothing had happened."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "grad_scaler": self.grad_scaler.state_dict(),
            "lr_schedule": self.lr_schedule.state_dict(),
            "ema": {"weights": self.ema.weights, "steps": self.ema.steps} if self.ema else {},
            "history": [dataclasses.asdict(row) for row in self.history],
            "best": dataclasses.asdict(self.best) if self.best else {},
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.grad_scaler.is_enabled() and state["grad_scaler"]:
            self.grad_scaler.load_state_dict(state["grad_scaler"])
        self.lr_schedule.load_state_dict(state["lr_schedule"])
        if self.ema is not None:
            self.ema.weights = {name: value.to(self.device) for name, value in state["ema"]["weights"].items()}
            self.ema.steps = state["ema"]["steps"]
        self.history = [EpochMetrics(**row) for row in state["history"]]
        self.best = EpochMetrics(**state["best"]) if state["best"] else None
        self.best_weights = state["best_weights"]
