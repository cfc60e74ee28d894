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

from nephros.data.augment import augment, draw
from nephros.data.batches import Batches
from nephros.device import precision
from nephros.errors import Diverged, UserError
from nephros.evaluation.scoring import evaluate
from nephros.models.sync_batchnorm import share_statistics
from nephros.recipe import Recipe
from nephros.training.history import Epoch
from nephros.training.lr_schedule import LearningRate
from nephros.training.parts import (
    Average,
    clone_state,
    followed,
    loss_function,
    optimizer,
    part_of_mean,
    seed_for,
    sum_gradients,
)

Keep = Callable[[dict[str, Any]], None]
"""What puts a state, as `Fit.state` returns it, in a safe place."""


class Listener(Protocol):
    """Whoever shows or stores progress."""

    def step(self, epoch: int, images: int, loss: Tensor) -> None:
        """Hear that so many images of `epoch` (from 1) have been trained on; `loss` is the batch's mean, on the device."""

    def epoch(self, row: Epoch, rows: list[Epoch]) -> None:
        """Hear of an epoch that is over and safe in the checkpoint; `rows` are all so far."""


class Fit:
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
        train: Batches,
        val: Batches,
        class_names: tuple[str, ...],
        targets: Tensor | None = None,
    ) -> None:
        """Begin; `targets`, (n, classes) probabilities of the train split, are for recipes that follow teachers."""
        assert (targets is not None) == (recipe.teacher_share > 0)
        self.recipe, self.train_batches, self.val_batches, self.class_names = recipe, train, val, class_names
        self.device, self.ranks = train.device, train.ranks
        if self.ranks.world > 1:
            share_statistics(model, self.ranks)
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model = model.to(self.device).to(memory_format=layout)  # type: ignore[call-overload]
        self._forward = torch.compile(self.model) if recipe.compile else self.model
        counts = torch.bincount(train.labels, minlength=len(class_names)).cpu().numpy()
        self.loss = loss_function(recipe, counts, self.device)
        self.targets = None if targets is None else targets.to(self.device)
        self.optimizer = optimizer(recipe.optimizer, self.model)
        self.rate = LearningRate(recipe.schedule, recipe.epochs)
        self.dtype = precision(recipe.amp, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.average = Average(self.model, recipe.ema) if recipe.ema else None
        self.history: list[Epoch] = []
        self.best: Epoch | None = None
        self.best_weights: dict[str, Tensor] = {}

    @property
    def images(self) -> int:
        """How many images an epoch trains on."""
        return self.recipe.passes * len(self.train_batches)

    @property
    def over(self) -> bool:
        """Whether all epochs are done, or early stop says that it is enough."""
        patience = self.recipe.early_stop
        stalled = bool(patience and self.best and self.history[-1].epoch - self.best.epoch >= patience)
        return stalled or len(self.history) >= self.recipe.epochs

    def run(self, keep: Keep | None, listener: Listener, until: int | None = None) -> None:
        """Train to the end, or until so many epochs are done, and give the state to `keep` after every epoch."""
        while not self.over and (until is None or len(self.history) < until):
            row = self._epoch(len(self.history), listener)
            self.history.append(row)
            self._check_metric(row)
            if self.best is None or row.better_than(self.best, self.recipe.metric):
                self.best = row
                if self.recipe.checkpoint == "best":
                    self.best_weights = clone_state(self.model) if self.average is None else self._averaged()
            self.rate.after_epoch(row.val_loss)
            if keep is not None:
                keep(self.state())
            listener.epoch(row, self.history)

    def _check_metric(self, row: Epoch) -> None:
        needed = self.recipe.checkpoint == "best" or self.recipe.early_stop
        if needed and math.isnan(getattr(row, self.recipe.metric)):
            raise UserError(
                f"--metric {self.recipe.metric} is undefined on this validation split, which lacks classes: choose val_loss."
            )

    def _epoch(self, epoch: int, listener: Listener) -> Epoch:
        start = time.perf_counter()
        seed = self.recipe.seed
        # The first rank drops what a process by itself would; the others' images need draws of their own.
        torch.manual_seed(seed_for(seed, epoch, "dropout", *([] if self.ranks.first else [self.ranks.rank])))
        generator = torch.Generator().manual_seed(seed_for(seed, epoch, "order"))
        n, once = self.images, len(self.train_batches)
        order = torch.cat([torch.randperm(once, generator=generator) for _ in range(self.recipe.passes)])
        draws = draw(n, self.recipe.augment, generator).to(self.device)
        whole = None if self.ranks.world == 1 else self.train_batches.labels[order.to(self.device)]
        total = torch.zeros(2, dtype=torch.float64, device=self.device)
        lr = 0.0
        self.model.train()
        for rows, images, labels in self.train_batches.read(
            self.recipe.batch_size, order, even=self.recipe.last_batch == "even"
        ):
            lr = self.recipe.optimizer.lr * self.rate.factor(epoch, rows.start / n)
            own = self.ranks.part(rows)
            images = augment(images, draws[own], self.recipe.augment)
            targets = None if self.targets is None else self.targets[order[own].to(self.device)]
            loss, right = self.step(images, labels, lr, None if whole is None else whole[rows], targets)
            size = rows.stop - rows.start
            total += torch.stack([loss.double() * size, right.double()])
            listener.step(epoch + 1, size, loss)
        train_loss, train_accuracy = (total / n).tolist()
        seconds = time.perf_counter() - start
        if not math.isfinite(train_loss):
            raise Diverged(
                f"The training loss became {train_loss} in epoch {epoch + 1}: lower --optimizer.lr and train again."
            )
        return self._judged(epoch + 1, lr, train_loss, train_accuracy, seconds)

    def step(
        self,
        images: Tensor,
        labels: Tensor,
        lr: float,
        whole: Tensor | None = None,
        targets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Take one optimiser step; return the batch's mean loss and the number called rightly, both on the device.

        Of several ranks each gives its own part of the batch, and as `whole` the labels of all of it. `targets` are the
        teachers' probabilities for these images.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        mixed = torch.autocast(self.device.type, self.dtype) if self.dtype else contextlib.nullcontext()
        with mixed:
            logits = self._forward(images)
            loss: Tensor = (
                self.loss(logits, labels) if whole is None else part_of_mean(self.loss, logits, labels, whole)
            )
            if targets is not None:
                batch = len(labels if whole is None else whole)
                loss = followed(loss, logits, targets, self.recipe.teacher_share, batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        loss, right = loss.detach(), (logits.detach().argmax(dim=1) == labels).sum()
        if whole is not None:
            loss, right = sum_gradients(self.model, self.ranks, loss, right)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model)
        return loss, right

    def _judged(self, epoch: int, lr: float, loss: float, accuracy: float, seconds: float) -> Epoch:
        with self.judged_weights():
            found = evaluate(self.model, self.val_batches, self.class_names).metrics
        auc = math.nan if found["auc"] is None else found["auc"]
        rate = self.images / seconds
        judged = (found["loss"], found["accuracy"], found["macro_f1"], auc)
        return Epoch(epoch, lr, loss, accuracy, *judged, seconds, rate)

    def _averaged(self) -> dict[str, Tensor]:
        assert self.average is not None
        return {name: value.detach().cpu().clone() for name, value in self.average.values.items()}

    @contextlib.contextmanager
    def judged_weights(self) -> Iterator[None]:
        """Within the block the model holds the averaged weights, if the recipe averages; then the trained ones again."""
        if self.average is None:
            yield
            return
        trained = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average.values)
        try:
            yield
        finally:
            self.model.load_state_dict(trained)

    def final_weights(self) -> tuple[dict[str, Tensor], int]:
        """Return the weights that the recipe says to keep, on the CPU, and the epoch (from 1) that they come from."""
        if self.recipe.checkpoint == "best" and self.best is not None:
            return self.best_weights, self.best.epoch
        weights = clone_state(self.model) if self.average is None else self._averaged()
        return weights, self.history[-1].epoch

    def state(self) -> dict[str, Any]:
        """Return everything that `load` needs to go on as if nothing had happened."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "rate": self.rate.state(),
            "average": {"values": self.average.values, "steps": self.average.steps} if self.average else {},
            "history": [dataclasses.asdict(row) for row in self.history],
            "best": dataclasses.asdict(self.best) if self.best else {},
            "best_weights": self.best_weights,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.rate.load(state["rate"])
        if self.average is not None:
            self.average.values = {name: value.to(self.device) for name, value in state["average"]["values"].items()}
            self.average.steps = state["average"]["steps"]
        self.history = [Epoch(**row) for row in state["history"]]
        self.best = Epoch(**state["best"]) if state["best"] else None
        self.best_weights = state["best_weights"]
