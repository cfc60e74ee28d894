"""The training loop. It gets the train and validation splits and never sees the test split."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nephros.data.augment import apply_augmentations, sample_augmentations
from nephros.data.batches import BatchLoader
from nephros.device import torch_threads
from nephros.errors import DivergedError, InvalidArgument
from nephros.evaluation.scoring import PIXELS_PER_BATCH, evaluate_model
from nephros.models.classifier import Classifier, to_channels_last
from nephros.models.norm_statistics import batch_norms, estimate_batch_norm
from nephros.models.stages import freeze_stages
from nephros.reading import MalformedContent
from nephros.recipe import Recipe
from nephros.training.callbacks import StepCallback
from nephros.training.checkpoint import check_optimizer_state, check_tensors, copy_to_cpu, cpu_state_dict
from nephros.training.history import EpochMetrics, decode_epoch, decode_history
from nephros.training.losses import build_loss
from nephros.training.lr_schedule import LRSchedule
from nephros.training.optimizer_step import OptimizerStep
from nephros.training.optimizers import load_optimizer_state
from nephros.training.seeding import epoch_generator, epoch_order, seed_dropout

MIN_STEPS_PER_EPOCH = 50
"""Steps of an epoch below which running averages lag behind the weights, so that batch normalization's statistics are estimated
on the train split before each validation."""
MAX_NORM_IMAGES = 4096
"""Number of training images, at most, on which those statistics are estimated."""

SaveState = Callable[[dict[str, Any]], None]
"""Stores a state that `Trainer.state_dict` returned."""


class Trainer:
    """One training run: the state that a checkpoint keeps, and the loop that advances it.

    The order of images, the augmentation and the dropout of an epoch depend on (seed, epoch) alone. So a run that is resumed
    after any epoch ends with the weights of an uninterrupted one, bit for bit.

    Where several ranks share the batches, each draws the same order and augmentation and takes its part of every batch.
    Losses, gradients and batch statistics are summed over the ranks, so that all have the weights that one process would have.
    Replicas within this process share batches too (`nephros.training.replicas`).
    """

    def __init__(
        self,
        recipe: Recipe,
        model: Classifier,
        train: BatchLoader,
        val: BatchLoader,
        class_names: tuple[str, ...],
        soft_targets: Tensor | None = None,
        freeze: Sequence[str] = (),
        replicas: int = 1,
    ) -> None:
        """Build loss, optimizer and schedule.

        `soft_targets` (n, classes) are the teachers' probabilities for the train split; a recipe has them exactly when it has a
        `distillation_weight`. The stages of the network that `freeze` names keep their weights and statistics. `replicas` is
        what `count_replicas` returned when the run began.
        """
        assert (soft_targets is not None) == (recipe.distillation_weight > 0)
        self.recipe, self.train_batches, self.val_batches, self.class_names = recipe, train, val, class_names
        self.device, self.context = train.device, train.context
        if self.context.world_size > 1:
            from nephros.models.sync_batchnorm import (
                convert_sync_batchnorm,
            )  # takes torch's compiler, a second to import

            convert_sync_batchnorm(model, self.context)
        self._frozen = freeze_stages(model.network, freeze) if freeze else []
        model = model.to(self.device)
        if recipe.channels_last:
            self.model = to_channels_last(model)
        else:
            self.model = model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        class_counts = torch.bincount(train.labels, minlength=len(class_names)).cpu().numpy()
        loss_fn = build_loss(recipe, class_counts, self.device)
        self.soft_targets = None if soft_targets is None else soft_targets.to(self.device)
        self.lr_schedule = LRSchedule(recipe.schedule, recipe.epochs)
        self.step = OptimizerStep(recipe, self.model, loss_fn, self.device, self.context, replicas)
        self.history: list[EpochMetrics] = []
        self.best: EpochMetrics | None = None
        self.best_weights: dict[str, Tensor] = {}

    @property
    def images_per_epoch(self) -> int:
        """Number of images that an epoch trains on, repetitions included."""
        return self.recipe.passes_per_epoch * len(self.train_batches)

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimizer steps in an epoch."""
        return math.ceil(self.images_per_epoch / self.recipe.batch_size)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done or early stopping applies."""
        patience = self.recipe.early_stopping_patience
        stalled = bool(patience and self.best and self.history[-1].epoch - self.best.epoch >= patience)
        return stalled or len(self.history) >= self.recipe.epochs

    def run(self, save_state: SaveState | None, callback: StepCallback, stop_epoch: int | None = None) -> None:
        """Train until `finished`, or until `stop_epoch` epochs are done, and pass the state to `save_state` after every epoch."""
        while not self.finished and (stop_epoch is None or len(self.history) < stop_epoch):
            epoch = self._train_epoch(len(self.history), callback)
            self.history.append(epoch)
            self._check_metric(epoch)
            if self.best is None or epoch.is_better_than(self.best, self.recipe.metric):
                self.best = epoch
                if self.recipe.checkpoint == "best":
                    self.best_weights = self._weights_to_keep()
            self.lr_schedule.on_epoch_end(epoch.val_loss)
            if save_state is not None:
                save_state(self.state_dict())
            callback.on_epoch_end(epoch, self.history)

    def _check_metric(self, epoch: EpochMetrics) -> None:
        metric_is_used = self.recipe.checkpoint == "best" or self.recipe.early_stopping_patience
        if metric_is_used and math.isnan(getattr(epoch, self.recipe.metric)):
            raise InvalidArgument(
                "metric", self.recipe.metric, "val_loss for this validation split, which lacks classes"
            )

    def _train_epoch(self, epoch: int, callback: StepCallback) -> EpochMetrics:
        start = time.perf_counter()
        seed_dropout(self.recipe.seed, epoch, self.context.rank)
        generator = epoch_generator(self.recipe.seed, epoch)
        n_images = self.images_per_epoch
        order = epoch_order(len(self.train_batches), self.recipe.passes_per_epoch, generator)
        augmentation_params = sample_augmentations(n_images, self.recipe.augment, generator).to(self.device)
        is_augmented = epoch < self.recipe.epochs - self.recipe.augment.unaugmented_epochs
        device_order = order.to(self.device)  # once, since each copy to a GPU waits for all that it has to do
        epoch_labels = None if self.context.world_size == 1 else self.train_batches.labels[device_order]
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        lr = 0.0
        self.model.train()
        for layer in self._frozen:
            layer.eval()
        if self.step.replicas is not None:
            self.step.replicas.begin_epoch(self.recipe.seed, epoch)
        with torch_threads(None if self.step.replicas is None else self.step.replicas.pool.threads_each):
            for rows, images, labels in self.train_batches.iter_batches(
                self.recipe.batch_size, order, balanced=self.recipe.last_batch == "balanced"
            ):
                lr = self.recipe.optimizer.lr * self.lr_schedule.multiplier(epoch, rows.start / n_images)
                local_rows = self.context.shard(rows)
                if is_augmented:
                    images = apply_augmentations(images, augmentation_params[local_rows], self.recipe.augment)
                soft_targets = None if self.soft_targets is None else self.soft_targets[device_order[local_rows]]
                loss, n_correct = self.step.take(
                    images, labels, lr, None if epoch_labels is None else epoch_labels[rows], soft_targets
                )
                batch_size = rows.stop - rows.start
                totals += torch.stack([loss.double() * batch_size, n_correct.double()])
                callback.on_step_end(epoch + 1, batch_size, loss)
            if self.step.replicas is not None:
                self.step.replicas.merge_statistics()
        train_loss, train_accuracy = (totals / n_images).tolist()
        seconds = time.perf_counter() - start
        if not math.isfinite(train_loss):
            raise DivergedError(
                f"The training loss became {train_loss} in epoch {epoch + 1}: lower `optimizer.lr` and train again."
            )
        return self._validate(epoch + 1, lr, train_loss, train_accuracy, seconds)

    def _validate(
        self, epoch: int, lr: float, train_loss: float, train_accuracy: float, seconds: float
    ) -> EpochMetrics:
        with self.eval_weights():
            if self.steps_per_epoch < MIN_STEPS_PER_EPOCH:
                self._estimate_batch_norm()
            metrics = evaluate_model(self.model, self.val_batches, self.class_names).metrics
        auc = math.nan if metrics.auc is None else metrics.auc
        images_per_second = self.images_per_epoch / seconds
        val_metrics = (metrics.loss, metrics.accuracy, metrics.macro_f1, auc)
        return EpochMetrics(epoch, lr, train_loss, train_accuracy, *val_metrics, seconds, images_per_second)

    def _estimate_batch_norm(self) -> None:
        """Measure the statistics of batch normalization for the weights in the model, on training images as they are."""
        if not any(norm.training for norm in batch_norms(self.model)):
            return
        n_images = len(self.train_batches)
        order = epoch_order(n_images, 1, epoch_generator(self.recipe.seed, 0))[:MAX_NORM_IMAGES]
        batch_size = max(self.recipe.batch_size, PIXELS_PER_BATCH // self.train_batches.pixels_per_image)
        batches = self.train_batches.iter_batches(batch_size, order, balanced=True)
        estimate_batch_norm(self.model, (images for _, images, _ in batches))
        if self.step.ema is not None:
            self.step.ema.copy_statistics(self.model)

    def _weights_to_keep(self) -> dict[str, Tensor]:
        return cpu_state_dict(self.model) if self.step.ema is None else copy_to_cpu(self.step.ema.weights)

    def eval_weights(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the model holds the weights that are evaluated: the averaged ones, if the recipe has them."""
        return contextlib.nullcontext() if self.step.ema is None else self.step.ema.applied_to(self.model)

    def final_weights(self) -> tuple[dict[str, Tensor], int]:
        """Return the weights that the recipe's `checkpoint` chooses, on the CPU, and their epoch (from 1)."""
        if self.recipe.checkpoint == "best" and self.best is not None:
            return self.best_weights, self.best.epoch
        return self._weights_to_keep(), self.history[-1].epoch

    def state_dict(self) -> dict[str, Any]:
        """Return everything that `load_state_dict` needs to continue the run exactly."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.step.optimizer.state_dict(),
            "grad_scaler": self.step.grad_scaler.state_dict(),
            "lr_schedule": self.lr_schedule.state_dict(),
            "ema": self.step.ema.state_dict() if self.step.ema else {},
            "history": [dataclasses.asdict(row) for row in self.history],
            "best": dataclasses.asdict(self.best) if self.best else {},
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; MalformedContent, or whatever torch raises, for anything else."""
        history = decode_history(state["history"])
        best = decode_epoch(state["best"], "best") if state["best"] else None
        if len(history) > self.recipe.epochs or bool(history) != (best is not None):
            raise MalformedContent(f"it has {len(history)} epochs, and the recipe {self.recipe.epochs}")
        if best is not None and repr(best) not in map(repr, history):  # as text, since NaN is not equal to itself
            raise MalformedContent("'best' is none of its epochs")
        check_tensors(state["model"], self.model.state_dict(), "model")
        check_optimizer_state(state["optimizer"], self.step.optimizer, has_stepped=bool(history))
        if best is not None and self.recipe.checkpoint == "best":
            check_tensors(state["best_weights"], self.model.state_dict(), "best_weights")
        self.model.load_state_dict(state["model"])
        load_optimizer_state(self.step.optimizer, state["optimizer"])
        if self.step.grad_scaler.is_enabled() and state["grad_scaler"]:
            self.step.grad_scaler.load_state_dict(state["grad_scaler"])
        self.lr_schedule.load_state_dict(state["lr_schedule"])
        if self.step.ema is not None:
            self.step.ema.load_state_dict(state["ema"])
        self.history, self.best, self.best_weights = history, best, state["best_weights"]
