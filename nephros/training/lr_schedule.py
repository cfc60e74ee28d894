"""Learning-rate schedules: the multiplier of the recipe's peak rate at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nephros.reading import MalformedContent
from nephros.recipe import LRScheduleConfig


@dataclass
class LRSchedule:
    """A learning-rate schedule over a run of `epochs`. Only plateau has state: the last three fields, which checkpoints keep."""

    config: LRScheduleConfig
    epochs: int
    plateau_multiplier: float = 1.0
    best_val_loss: float = math.inf
    num_bad_epochs: int = 0

    def multiplier(self, epoch: int, epoch_fraction: float) -> float:
        """Return the multiplier in `epoch` (from 0) after a fraction of it (0 to 1)."""
        config = self.config
        progress = (epoch + epoch_fraction) / self.epochs
        if config.name == "step":
            n_drops = (
                epoch // config.step_epochs
                if config.step_epochs
                else sum(epoch >= milestone * self.epochs for milestone in config.milestones)
            )
            return float(config.factor**n_drops)
        if config.name == "plateau":
            return self.plateau_multiplier
        if config.name == "constant":
            return 1.0
        if progress < config.warmup:
            # Not 0: a first step with a learning rate of 0 would do nothing.
            return max(progress / config.warmup, 1e-3)
        remaining = (1 - progress) / (1 - config.warmup)
        return 0.5 * (1 - math.cos(math.pi * remaining)) if config.name == "cosine" else remaining

    def on_epoch_end(self, val_loss: float) -> None:
        """Update plateau: after more than `patience` epochs without a lower validation loss the rate falls.

        An improvement is a relative decrease of more than 1e-4, as in torch's ReduceLROnPlateau.
        """
        if self.config.name != "plateau":
            return
        if val_loss < self.best_val_loss * (1 - 1e-4):
            self.best_val_loss, self.num_bad_epochs = val_loss, 0
        else:
            self.num_bad_epochs += 1
        if self.num_bad_epochs > self.config.patience:
            self.plateau_multiplier, self.num_bad_epochs = self.plateau_multiplier * self.config.factor, 0

    def state_dict(self) -> dict[str, float]:
        """Return the state for a checkpoint."""
        return {
            "plateau_multiplier": self.plateau_multiplier,
            "best_val_loss": self.best_val_loss,
            "num_bad_epochs": self.num_bad_epochs,
        }

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore what `state_dict` returned; MalformedContent for anything else."""
        multiplier, loss, epochs = (state[key] for key in ("plateau_multiplier", "best_val_loss", "num_bad_epochs"))
        is_valid = all(type(value) in (int, float) for value in (multiplier, loss, epochs)) and 0 <= multiplier <= 1
        if not (is_valid and loss >= 0 and epochs >= 0):
            raise MalformedContent("'lr_schedule' is not a state of a schedule")
        self.plateau_multiplier, self.best_val_loss = state["plateau_multiplier"], state["best_val_loss"]
        self.num_bad_epochs = int(state["num_bad_epochs"])
