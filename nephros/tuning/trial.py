"""A trial's work in one rung: train a configuration from its checkpoint to the rung's epochs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.errors import FileError, NephrosError
from nephros.reading import MalformedContent, file_errors
from nephros.recipe import Recipe
from nephros.recipe_io import recipe_from_dict
from nephros.training.history import EpochMetrics, decode_history
from nephros.training.model_init import check_last_batch, init_model, input_spec
from nephros.training.trainer import Trainer
from nephros.tuning.checkpoint_store import CheckpointStore, checkpoint_name
from nephros.tuning.study_state import ConfigKey

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A configuration to be trained in a rung, as plain values."""

    key: ConfigKey
    recipe: dict[str, Any]
    """Recipe.to_dict."""
    stop_epoch: int
    """Epochs to have been trained for at the end, those of earlier rungs included."""
    fingerprint: str = ""
    """Identifies recipe and data: a checkpoint with another fingerprint belongs to another study."""


@dataclass(frozen=True)
class Outcome:
    """The result of a task."""

    key: ConfigKey
    history: tuple[EpochMetrics, ...]
    """All epochs of the configuration, those of earlier rungs included."""
    early_stopped: bool = False
    """Whether the recipe's early stopping ended the training."""
    error: str | None = None
    """Why the configuration failed: it diverged, ran out of memory, or its values can't be combined."""


@dataclass
class EpochReporter:
    """A StepCallback that passes on each epoch's metrics."""

    on_epoch: Callable[[EpochMetrics], None]

    def on_step_end(self, epoch: int, n_images: int, loss: Tensor) -> None:
        """Do nothing."""

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        """Pass on an epoch that is finished and saved in the checkpoint."""
        self.on_epoch(epoch)


class TrialRunner:
    """Trains configurations one after another on data that is opened, and moved to a device, once."""

    def __init__(self, dataset: Dataset, device: torch.device, store: CheckpointStore) -> None:
        self.dataset, self.device, self.store = dataset, device, store
        self._batches: dict[tuple[str, bool], BatchLoader] = {}

    def run_task(self, task: Task, on_epoch: Callable[[EpochMetrics], None]) -> Outcome:
        """Train a configuration from its checkpoint, or from the start without one; call `on_epoch` after each new epoch.

        A configuration's own failure becomes an Outcome with its error. OSError (a full disk) propagates: the configuration
        isn't the cause.
        """
        history: list[EpochMetrics] = []
        try:
            trainer = self.make_trainer(recipe_from_dict(task.recipe, "The configuration"))
            check_last_batch(trainer.recipe, self.dataset, trainer.model)
            name = checkpoint_name(*task.key)
            state = matching_state(self.store.load(name), task)
            if state is not None and not restore(trainer, state):
                trainer = self.make_trainer(trainer.recipe)  # trained again from the start
            history = trainer.history
            trainer.run(
                lambda state: self.store.save(name, {**state, "fingerprint": task.fingerprint}),
                EpochReporter(on_epoch),
                stop_epoch=task.stop_epoch,
            )
            return Outcome(
                task.key, tuple(history), early_stopped=trainer.finished and len(history) < trainer.recipe.epochs
            )
        except OSError:
            raise
        except Exception as error:
            if "CUDA error" in str(error):
                raise  # after a GPU error this process is unusable: a new one retries
            return Outcome(task.key, tuple(history), error=_failure_message(error))

    def make_trainer(self, recipe: Recipe) -> Trainer:
        """Return a Trainer of the recipe on this data, with freshly initialized weights; NephrosError when they don't fit."""
        model = init_model(recipe, self.dataset.train, input_spec(self.dataset))
        train, val = (self._split_batches(name, recipe.channels_last) for name in ("train", "val"))
        return Trainer(recipe, model, train, val, self.dataset.class_names)

    def _split_batches(self, split: str, channels_last: bool) -> BatchLoader:
        key = (split, channels_last)
        if key not in self._batches:
            self._batches[key] = BatchLoader(self.dataset.split(split), self.device, channels_last=channels_last)
        return self._batches[key]


def matching_state(state: dict[str, Any] | None, task: Task) -> dict[str, Any] | None:
    """Return a checkpoint's state if the task wrote it; None if it is damaged, or an earlier study left it in the same place."""
    if state is None or state.get("fingerprint") != task.fingerprint:
        return None
    try:
        return {**state, "history": [dataclasses.asdict(epoch) for epoch in decode_history(state.get("history"))]}
    except MalformedContent:
        return None


def restore(trainer: Trainer, state: dict[str, Any]) -> bool:
    """Give a trainer the state of a checkpoint; return whether that was possible, since damaged ones can be trained again."""
    try:
        with file_errors("checkpoint", "train it again"):
            trainer.load_state_dict(state)
    except FileError as error:
        logger.warning("A configuration is trained again from the start: %s", error)
        return False
    return True


def _failure_message(error: Exception) -> str:
    if isinstance(error, NephrosError):
        return str(error)
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text:
        return "It ran out of memory."
    return f"{type(error).__name__}: {text[:300]}"


def outcome_to_dict(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as JSON values."""
    return dataclasses.asdict(outcome)


def outcome_from_dict(values: dict[str, Any]) -> Outcome:
    """Return the outcome that `outcome_to_dict` converted."""
    history = tuple(EpochMetrics(**row) for row in values["history"])
    return Outcome(_to_key(values["key"]), history, values["early_stopped"], values["error"])


def task_from_dict(values: dict[str, Any]) -> Task:
    """Return the task that `dataclasses.asdict` converted."""
    return Task(_to_key(values["key"]), values["recipe"], values["stop_epoch"], values["fingerprint"])


def _to_key(pair: list[int]) -> ConfigKey:
    return pair[0], pair[1]
