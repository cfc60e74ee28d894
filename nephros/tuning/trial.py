"""What a rung asks of one configuration: take it from its checkpoint to so many epochs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.errors import NephrosError
from nephros.recipe import Recipe
from nephros.recipe_io import recipe_from_dict
from nephros.training.history import EpochMetrics
from nephros.training.model_init import check_last_batch, init_model, input_spec
from nephros.training.trainer import Trainer
from nephros.tuning.checkpoint_store import CheckpointStore, checkpoint_name
from nephros.tuning.study_state import ConfigKey


@dataclass(frozen=True)
class Task:
    """A configuration's share of a rung, as plain values."""

    key: ConfigKey
    recipe: dict[str, Any]
    """Recipe.to_dict."""
    stop_epoch: int
    """Epochs, from the first, that it shall have been trained for."""
    fingerprint: str = ""
    """Of the recipe and the data: a checkpoint with another one is somebody else's."""


@dataclass(frozen=True)
class Outcome:
    """What came of a task."""

    key: ConfigKey
    history: tuple[EpochMetrics, ...]
    """All its epochs, those of earlier rungs too."""
    early_stopped: bool = False
    """Whether its recipe's early stop ended it."""
    error: str | None = None
    """Why the configuration failed: it diverged, or took more memory than there is, or its values can't be combined."""


@dataclass
class EpochReporter:
    """A Listener that passes epochs on."""

    on_epoch: Callable[[EpochMetrics], None]

    def on_step_end(self, epoch: int, n_images: int, loss: Tensor) -> None:
        """Nothing is told of single steps."""

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        """Pass on an epoch that is over and safe in the checkpoint."""
        self.on_epoch(epoch)


class TrialRunner:
    """A place to work at: the data on a device, opened once for many trials."""

    def __init__(self, dataset: Dataset, device: torch.device, store: CheckpointStore) -> None:
        self.dataset, self.device, self.store = dataset, device, store
        self._batches: dict[tuple[str, bool], BatchLoader] = {}

    def run_task(self, task: Task, on_epoch: Callable[[EpochMetrics], None]) -> Outcome:
        """Train a configuration on from its checkpoint, from the beginning where there is none; `on_epoch` each new epoch.

        A configuration's own failure is an Outcome with its reason. OSError (a full disk) passes: it is not its fault.
        """
        history: list[EpochMetrics] = []
        try:
            trainer = self.make_trainer(recipe_from_dict(task.recipe, "The configuration"))
            name = checkpoint_name(*task.key)
            state = matching_state(self.store.load(name), task)
            if state is not None:
                trainer.load_state_dict(state)
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
                raise  # a GPU that has failed once fails this process for ever: another one is to try again
            return Outcome(task.key, tuple(history), error=_failure_message(error))

    def make_trainer(self, recipe: Recipe) -> Trainer:
        """Return the recipe's fit on this data, with fresh weights; UserError when they don't go together."""
        model = init_model(recipe, self.dataset.train, input_spec(self.dataset))
        check_last_batch(recipe, self.dataset, model)
        train, val = (self._split_batches(name, recipe.channels_last) for name in ("train", "val"))
        return Trainer(recipe, model, train, val, self.dataset.class_names)

    def _split_batches(self, split: str, channels_last: bool) -> BatchLoader:
        key = (split, channels_last)
        if key not in self._batches:
            self._batches[key] = BatchLoader(self.dataset.split(split), self.device, channels_last=channels_last)
        return self._batches[key]


def matching_state(state: dict[str, Any] | None, task: Task) -> dict[str, Any] | None:
    """Return a checkpoint's state if it is the task's own, and not that of a study which used the same place before."""
    return state if state is not None and state.get("fingerprint") == task.fingerprint else None


def _failure_message(error: Exception) -> str:
    if isinstance(error, NephrosError):
        return str(error)
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text:
        return "It took more memory than there is."
    return f"{type(error).__name__}: {text[:300]}"


def outcome_to_dict(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as JSON values."""
    return dataclasses.asdict(outcome)


def outcome_from_dict(values: dict[str, Any]) -> Outcome:
    """Return what `outcome_to_dict` was given."""
    history = tuple(EpochMetrics(**row) for row in values["history"])
    return Outcome(_to_key(values["key"]), history, values["early_stopped"], values["error"])


def task_from_dict(values: dict[str, Any]) -> Task:
    """Return the task that `dataclasses.asdict` took apart."""
    return Task(_to_key(values["key"]), values["recipe"], values["stop_epoch"], values["fingerprint"])


def _to_key(pair: list[int]) -> ConfigKey:
    return pair[0], pair[1]
