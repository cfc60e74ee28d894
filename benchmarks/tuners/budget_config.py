"""What all tuners share: the recipe, its space, the data, the budget of epochs, and the number of parallel trials.

This module runs in Ray Tune's environment too, which lacks the packages that only nephros's studies need.
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
from nephros.data.load import load_dataset
from nephros.data.subset import tuning_subset
from nephros.files import write_json
from nephros.presets import RECIPES
from nephros.recipe import MetricName, Recipe
from nephros.tuning.checkpoint_store import CheckpointStore
from nephros.tuning.defaults import default_space
from nephros.tuning.hyperband import make_brackets
from nephros.tuning.space import Dimension
from nephros.tuning.trial import TrialRunner

DEVICE = "cpu"
THREADS = 1
"""Threads per trial."""


@dataclass(frozen=True)
class BudgetConfig:
    """One run of one tuner."""

    method: str
    recipe: str
    source: str
    """Data source, as `nephros.load_dataset` takes it."""
    subset: int
    """Training images, with a quarter as many validation images."""
    seed: int
    """Seed of the tuner's sampling, of the subset and of every trial."""
    max_epochs: int
    """R: the most epochs of one trial."""
    eta: int
    metric: MetricName
    """Metric that ranks trials."""
    workers: int
    """Trials at once."""
    folder: str
    """Folder of the run's temporary files."""
    started_at: float
    """Start of the run on the machine's monotonic clock, less the seconds of earlier attempts."""

    @property
    def total_epochs(self) -> int:
        """The budget: the epochs of all of Hyperband's brackets."""
        return sum(bracket.total_epochs for bracket in make_brackets(self.max_epochs, self.eta))

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is a loss."""
        return self.metric == "val_loss"

    @property
    def base_recipe(self) -> Recipe:
        """The recipe whose fields sampled values replace."""
        return dataclasses.replace(RECIPES[self.recipe], seed=self.seed, epochs=self.max_epochs, metric=self.metric)

    @property
    def space(self) -> tuple[Dimension, ...]:
        """The default space of the recipe's network."""
        return default_space(self.base_recipe, DEVICE)

    def load_data(self) -> Dataset:
        """Open the whole data set."""
        return load_dataset(self.source, seed=self.seed)

    def tuning_subset(self, dataset: Dataset) -> Dataset:
        """Return the part of the data that trials see."""
        return tuning_subset(dataset, self.subset, self.seed)

    def make_runner(self, dataset: Dataset) -> TrialRunner:
        """Return a runner of trials on `dataset`, which `tuning_subset` returned."""
        torch.set_num_threads(THREADS)
        return TrialRunner(dataset, torch.device(DEVICE), CheckpointStore(str(Path(self.folder) / "checkpoints")))

    def write(self, file: Path) -> None:
        """Write the configuration for a tuner's process to read."""
        write_json(file, dataclasses.asdict(self))

    @classmethod
    def read(cls, argv: list[str] | None = None) -> BudgetConfig:
        """Return the configuration in the file that the command line names."""
        (file,) = sys.argv[1:] if argv is None else argv
        values: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
        return cls(**values)
