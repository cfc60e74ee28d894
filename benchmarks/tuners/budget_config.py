"""What is the same for every tuner: the recipe, its space, the data, the budget of epochs, and two trials at once.

This module runs in Ray's environment too, which holds nothing that only our own studies need.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nephros.data.dataset import Dataset
from nephros.data.load import load
from nephros.data.subset import tuning_subset
from nephros.files import write_json
from nephros.presets import RECIPES
from nephros.recipe import MetricName, Recipe
from nephros.tuning.checkpoint_store import CheckpointStore
from nephros.tuning.defaults import default_space
from nephros.tuning.dimension import Dimension
from nephros.tuning.hyperband import make_brackets
from nephros.tuning.trial import TrialRunner

DEVICE = "cpu"
THREADS = 1
"""A trial's."""


@dataclass(frozen=True)
class BudgetConfig:
    """One run of one tuner."""

    method: str
    recipe: str
    source: str
    """As `nephros.load` takes it."""
    subset: int
    """Training images; validation is cut to a quarter of it."""
    seed: int
    """Of the tuner's draws, of the subset and of every trial."""
    max_epochs: int
    """R: the most that a trial is trained for."""
    eta: int
    metric: MetricName
    """What trials are ranked by."""
    workers: int
    """Trials at once."""
    folder: str
    """Where the run keeps what it needs until it is over."""
    started_at: float
    """The machine's monotonic clock when the run's process was started; later by what earlier attempts took."""

    @property
    def total_epochs(self) -> int:
        """The budget: what one pass over all of Hyperband's brackets trains."""
        return sum(bracket.total_epochs for bracket in make_brackets(self.max_epochs, self.eta))

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is a loss."""
        return self.metric == "val_loss"

    @property
    def base_recipe(self) -> Recipe:
        """The recipe that configurations are laid over."""
        return dataclasses.replace(RECIPES[self.recipe], seed=self.seed, epochs=self.max_epochs, metric=self.metric)

    @property
    def space(self) -> tuple[Dimension, ...]:
        """What is searched: the default space of the recipe's network."""
        return default_space(self.base_recipe, DEVICE)

    def load_data(self) -> Dataset:
        """Open the data, whole."""
        return load(self.source, seed=self.seed)

    def tuning_subset(self, dataset: Dataset) -> Dataset:
        """Return what trials see of it."""
        return tuning_subset(dataset, self.subset, self.seed)

    def make_runner(self, dataset: Dataset) -> TrialRunner:
        """Return a place for trials; `dataset` is what `tuning_subset` returned."""
        torch.set_num_threads(THREADS)
        return TrialRunner(dataset, torch.device(DEVICE), CheckpointStore(str(Path(self.folder) / "checkpoints")))

    def write(self, file: Path) -> None:
        """Write them for a tuner's process to read."""
        write_json(file, dataclasses.asdict(self))

    @classmethod
    def read(cls, argv: list[str] | None = None) -> BudgetConfig:
        """Return the terms in the file that the command line names."""
        (file,) = sys.argv[1:] if argv is None else argv
        values: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
        return cls(**values)
