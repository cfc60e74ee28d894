"""The finished runs of one row of a plan, and their means and spread over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from nephros.data.dataset import SPLITS
from nephros.evaluation.scoring import Evaluation, ensemble
from nephros.experiments.plans import PlanRow
from nephros.runs import RunFolder, RunInfo


@dataclass(frozen=True)
class SeedResults:
    """A row with what its complete runs came to; there may be none."""

    plan_row: PlanRow
    run_folders: list[RunFolder]
    seeds: list[int]
    infos: list[RunInfo]
    metrics: list[dict[str, dict[str, Any]]]
    """A run: split -> metrics.json."""
    diverged_seeds: list[int]
    """Seeds whose training came to NaN."""

    def values(self, metric: str, split: str = "test") -> list[float]:
        """Return one metric of every run, those left out that have none."""
        return [run[split][metric] for run in self.metrics if split in run and run[split][metric] is not None]

    def mean(self, metric: str, split: str = "test") -> float | None:
        """Return a metric's mean over seeds; None without runs."""
        values = self.values(metric, split)
        return mean(values) if values else None

    def sd(self, metric: str, split: str = "test") -> float | None:
        """Return a metric's standard deviation over seeds (of a sample, n - 1); None of fewer than two runs."""
        values = self.values(metric, split)
        return stdev(values) if len(values) > 1 else None

    def ensemble_metrics(self, split: str) -> dict[str, Any] | None:
        """Return what the mean of the runs' probabilities comes to; None of fewer than two runs that were scored there."""
        scored_folders = [folder for folder in self.run_folders if folder.file(split, "predictions.npz").is_file()]
        if len(scored_folders) < 2:
            return None
        evaluations = [Evaluation.from_run(folder, split) for folder in scored_folders]
        return ensemble(evaluations, tuple(self.infos[0].class_names)).metrics

    @property
    def mean_training_minutes(self) -> float | None:
        """Mean minutes of training; None without runs."""
        minutes = [info.training_minutes for info in self.infos if info.training_minutes is not None]
        return mean(minutes) if minutes else None


def load_seed_results(plan_row: PlanRow, runs_dir: Path, source: str) -> SeedResults:
    """Read the complete runs of a row on that data from PLACE/KEY-SEED; UserError for a damaged one.

    A run of another recipe, such as one cut short to try the plan out, or on other data is passed over.
    """
    results = SeedResults(plan_row, [], [], [], [], [])
    for seed in plan_row.seeds:
        root = runs_dir / f"{plan_row.key}-{seed}"
        if not RunFolder.exists(root):
            continue
        folder = RunFolder.open(root)
        if not plan_row.matches_run(folder, source, seed):
            continue
        info = folder.info()
        if info.status == "diverged":
            results.diverged_seeds.append(seed)
        if info.status == "complete":
            results.run_folders.append(folder)
            results.seeds.append(seed)
            results.infos.append(info)
            scored_splits = [split for split in SPLITS if folder.file(split, "metrics.json").is_file()]
            results.metrics.append({split: folder.metrics(split) for split in scored_splits})
    return results
