"""The finished runs of one row of a plan, and their means and spread over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from nephros.data.dataset import SPLITS
from nephros.evaluation.scoring import Evaluation, together
from nephros.experiments.plans import Row
from nephros.runs import RunFolder, RunInfo


@dataclass(frozen=True)
class Finished:
    """A row with what its complete runs came to; there may be none."""

    row: Row
    folders: list[RunFolder]
    seeds: list[int]
    infos: list[RunInfo]
    metrics: list[dict[str, dict[str, Any]]]
    """A run: split -> metrics.json."""
    diverged: list[int]
    """Seeds whose training came to NaN."""

    def values(self, key: str, split: str = "test") -> list[float]:
        """Return one metric of every run, those left out that have none."""
        return [run[split][key] for run in self.metrics if split in run and run[split][key] is not None]

    def mean(self, key: str, split: str = "test") -> float | None:
        """Return a metric's mean over seeds; None without runs."""
        values = self.values(key, split)
        return mean(values) if values else None

    def sd(self, key: str, split: str = "test") -> float | None:
        """Return a metric's standard deviation over seeds (of a sample, n - 1); None of fewer than two runs."""
        values = self.values(key, split)
        return stdev(values) if len(values) > 1 else None

    def together(self, split: str) -> dict[str, Any] | None:
        """Return what the mean of the runs' probabilities comes to; None of fewer than two runs that were scored there."""
        scored = [folder for folder in self.folders if folder.file(split, "predictions.npz").is_file()]
        if len(scored) < 2:
            return None
        each = [Evaluation.of_run(folder, split) for folder in scored]
        return together(each, tuple(self.infos[0].class_names)).metrics

    @property
    def minutes(self) -> float | None:
        """Mean minutes of training; None without runs."""
        spent = [info.training_minutes for info in self.infos if info.training_minutes is not None]
        return mean(spent) if spent else None


def finished(row: Row, place: Path, source: str) -> Finished:
    """Read the complete runs of a row on that data from PLACE/KEY-SEED; UserError for a damaged one.

    A run of another recipe, such as one cut short to try the plan out, or on other data is passed over.
    """
    found = Finished(row, [], [], [], [], [])
    for seed in row.seeds:
        root = place / f"{row.key}-{seed}"
        if not RunFolder.begun(root):
            continue
        folder = RunFolder.open(root)
        if not row.made(folder, source, seed):
            continue
        info = folder.info()
        if info.status == "diverged":
            found.diverged.append(seed)
        if info.status == "complete":
            found.folders.append(folder)
            found.seeds.append(seed)
            found.infos.append(info)
            scored = [split for split in SPLITS if folder.file(split, "metrics.json").is_file()]
            found.metrics.append({split: folder.metrics(split) for split in scored})
    return found
