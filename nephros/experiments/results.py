"""Results of one row of a plan: its finished runs, with means and standard deviations over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from nephros.data.split import SPLITS
from nephros.evaluation.metrics import Metrics
from nephros.evaluation.scoring import Evaluation, ensemble
from nephros.experiments.plans import PlanRow
from nephros.runs import RunFolder, RunInfo


@dataclass(frozen=True)
class SeedResults:
    """A row of a plan with the metrics of its complete runs, of which there may be none."""

    plan_row: PlanRow
    run_folders: list[RunFolder]
    seeds: list[int]
    infos: list[RunInfo]
    metrics: list[dict[str, Metrics]]
    """Per run: split -> metrics."""
    diverged_seeds: list[int]
    """Seeds whose training diverged."""

    def values(self, metric: str, split: str = "test") -> list[float]:
        """Return one metric (a number of Metrics) of every run that has it."""
        values = (getattr(run[split], metric) for run in self.metrics if split in run)
        return [value for value in values if value is not None]

    def mean(self, metric: str, split: str = "test") -> float | None:
        """Return a metric's mean over seeds; None without runs."""
        values = self.values(metric, split)
        return mean(values) if values else None

    def sd(self, metric: str, split: str = "test") -> float | None:
        """Return a metric's sample standard deviation over seeds; None for fewer than two runs."""
        values = self.values(metric, split)
        return stdev(values) if len(values) > 1 else None

    def ensemble_metrics(self, split: str) -> Metrics | None:
        """Return the metrics of the runs' mean probabilities; None for fewer than two runs evaluated on the split."""
        evaluated_folders = [folder for folder in self.run_folders if folder.file(split, "predictions.npz").is_file()]
        if len(evaluated_folders) < 2:
            return None
        evaluations = [Evaluation.from_run(folder, split) for folder in evaluated_folders]
        return ensemble(evaluations, tuple(self.infos[0].class_names)).metrics

    @property
    def mean_training_minutes(self) -> float | None:
        """Mean over the runs; None without runs."""
        minutes = [info.training_minutes for info in self.infos if info.training_minutes is not None]
        return mean(minutes) if minutes else None


def load_seed_results(plan_row: PlanRow, runs_dir: Path, source: str, sha256: str = "") -> SeedResults:
    """Read a row's complete runs on this data from RUNS_DIR/KEY-SEED; FileError for a damaged one.

    `source` and `sha256` are the data's path or name, and its digest, where that is known.

    Runs of another recipe, such as shortened ones, or on other data are skipped.
    """
    results = SeedResults(plan_row, [], [], [], [], [])
    for seed in plan_row.seeds:
        root = runs_dir / f"{plan_row.key}-{seed}"
        if not RunFolder.exists(root):
            continue
        folder = RunFolder.open(root)
        if not plan_row.matches_run(folder, source, seed, sha256):
            continue
        info = folder.info()
        if info.status == "diverged":
            results.diverged_seeds.append(seed)
        if info.status == "complete":
            results.run_folders.append(folder)
            results.seeds.append(seed)
            results.infos.append(info)
            evaluated_splits = [split for split in SPLITS if folder.file(split, "metrics.json").is_file()]
            results.metrics.append({split: Metrics.from_run(folder, split) for split in evaluated_splits})
    return results
