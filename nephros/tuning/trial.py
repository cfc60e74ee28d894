"""What a rung asks of one configuration: take it from its checkpoint to so many epochs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nephros.data.batches import Batches
from nephros.data.dataset import Dataset
from nephros.errors import UserError
from nephros.recipe import Recipe
from nephros.recipe_io import from_mapping
from nephros.training.history import Epoch
from nephros.training.model_init import check_last_batch, fresh_model, shape_of
from nephros.training.trainer import Fit
from nephros.tuning.checkpoint_store import Store, checkpoint_name
from nephros.tuning.study_state import Key


@dataclass(frozen=True)
class Task:
    """A configuration's share of a rung, as plain values."""

    key: Key
    recipe: dict[str, Any]
    """Recipe.to_dict."""
    until: int
    """Epochs, from the first, that it shall have been trained for."""
    mark: str = ""
    """Of the recipe and the data: a checkpoint with another one is somebody else's."""


@dataclass(frozen=True)
class Outcome:
    """What came of a task."""

    key: Key
    rows: tuple[Epoch, ...]
    """All its epochs, those of earlier rungs too."""
    ended: bool = False
    """Whether its recipe's early stop ended it."""
    error: str | None = None
    """Why the configuration failed: it diverged, or took more memory than there is, or its values can't be combined."""


@dataclass
class Reporter:
    """A Listener that passes epochs on."""

    hear: Callable[[Epoch], None]

    def step(self, epoch: int, images: int, loss: Tensor) -> None:
        """Nothing is told of single steps."""

    def epoch(self, row: Epoch, rows: list[Epoch]) -> None:
        """Pass on an epoch that is over and safe in the checkpoint."""
        self.hear(row)


class Bench:
    """A place to work at: the data on a device, opened once for many trials."""

    def __init__(self, dataset: Dataset, device: torch.device, store: Store) -> None:
        self.dataset, self.device, self.store = dataset, device, store
        self._batches: dict[tuple[str, bool], Batches] = {}

    def advance(self, task: Task, hear: Callable[[Epoch], None]) -> Outcome:
        """Train a configuration on from its checkpoint, from the beginning where there is none; `hear` each new epoch.

        A configuration's own failure is an Outcome with its reason. OSError (a full disk) passes: it is not its fault.
        """
        rows: list[Epoch] = []
        try:
            fit = self.fit(from_mapping(task.recipe, "The configuration"))
            name = checkpoint_name(*task.key)
            state = own_state(self.store.load(name), task)
            if state is not None:
                fit.load(state)
            rows = fit.history
            fit.run(lambda state: self.store.save(name, {**state, "mark": task.mark}), Reporter(hear), until=task.until)
            return Outcome(task.key, tuple(rows), ended=fit.over and len(rows) < fit.recipe.epochs)
        except OSError:
            raise
        except Exception as error:
            if "CUDA error" in str(error):
                raise  # a GPU that has failed once fails this process for ever: another one is to try again
            return Outcome(task.key, tuple(rows), error=_reason(error))

    def fit(self, recipe: Recipe) -> Fit:
        """Return the recipe's fit on this data, with fresh weights; UserError when they don't go together."""
        model = fresh_model(recipe, self.dataset.train, shape_of(self.dataset))
        check_last_batch(recipe, self.dataset, model)
        train, val = (self._of(name, recipe.channels_last) for name in ("train", "val"))
        return Fit(recipe, model, train, val, self.dataset.class_names)

    def _of(self, split: str, channels_last: bool) -> Batches:
        key = (split, channels_last)
        if key not in self._batches:
            self._batches[key] = Batches(self.dataset.split(split), self.device, channels_last=channels_last)
        return self._batches[key]


def own_state(state: dict[str, Any] | None, task: Task) -> dict[str, Any] | None:
    """Return a checkpoint's state if it is the task's own, and not that of a study which used the same place before."""
    return state if state is not None and state.get("mark") == task.mark else None


def _reason(error: Exception) -> str:
    if isinstance(error, UserError):
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
    rows = tuple(Epoch(**row) for row in values["rows"])
    return Outcome(_key(values["key"]), rows, values["ended"], values["error"])


def task_from_dict(values: dict[str, Any]) -> Task:
    """Return the task that `dataclasses.asdict` took apart."""
    return Task(_key(values["key"]), values["recipe"], values["until"], values["mark"])


def _key(pair: list[int]) -> Key:
    return pair[0], pair[1]
