"""The learning rate at each step, as a factor of the recipe's peak rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nephros.recipe_parts import Schedule


@dataclass
class LearningRate:
    """A schedule in progress. Only plateau remembers anything: the three last fields, which a checkpoint keeps."""

    schedule: Schedule
    epochs: int
    scale: float = 1.0
    best: float = math.inf
    waited: int = 0

    def factor(self, epoch: int, done: float) -> float:
        """Return the factor during `epoch` (from 0), of which the share `done` (0 to 1) is over."""
        s = self.schedule
        progress = (epoch + done) / self.epochs
        if s.name == "step":
            falls = (
                epoch // s.step_epochs if s.step_epochs else sum(epoch >= share * self.epochs for share in s.milestones)
            )
            return float(s.factor**falls)
        if s.name == "plateau":
            return self.scale
        if s.name == "constant":
            return 1.0
        if progress < s.warmup:
            # A first step at rate 0 would do nothing, hence the small start.
            return max(progress / s.warmup, 1e-3)
        left = (1 - progress) / (1 - s.warmup)
        return 0.5 * (1 - math.cos(math.pi * left)) if s.name == "cosine" else left

    def after_epoch(self, val_loss: float) -> None:
        """Tell plateau the validation loss; after more than `patience` epochs without a lower one the rate falls.

        An improvement is a relative fall of more than 1e-4, as in torch's ReduceLROnPlateau.
        """
        if self.schedule.name != "plateau":
            return
        if val_loss < self.best * (1 - 1e-4):
            self.best, self.waited = val_loss, 0
        else:
            self.waited += 1
        if self.waited > self.schedule.patience:
            self.scale, self.waited = self.scale * self.schedule.factor, 0

    def state(self) -> dict[str, float]:
        """Return what a checkpoint keeps."""
        return {"scale": self.scale, "best": self.best, "waited": self.waited}

    def load(self, state: dict[str, float]) -> None:
        """Take back what `state` returned."""
        self.scale, self.best, self.waited = state["scale"], state["best"], int(state["waited"])
