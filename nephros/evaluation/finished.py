"""The finished runs of one row of a plan, and their means and spread over seeds."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from nephros.errors import UserError
from nephros.evaluation.plans import Row
from nephros.runs import RunFolder, RunInfo


@dataclass(frozen=True)
class Finished:
    """A row with what its complete runs came to; there may be none."""

    row: Row
    seeds: list[int]
    infos: list[RunInfo]
    metrics: list[dict[str, dict[str, Any]]]
    """A run: split -> metrics.json."""

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

    @property
    def minutes(self) -> float | None:
        """Mean minutes of training; None without runs."""
        spent = [info.training_minutes for info in self.infos if info.training_minutes is not None]
        return mean(spent) if spent else None


def finished(row: Row, place: Path) -> Finished:
    """Read the complete runs of a row from PLACE/KEY-SEED; UserError for a damaged one."""
    found = Finished(row, [], [], [])
    for seed in row.seeds:
        root = place / f"{row.key}-{seed}"
        if not RunFolder.begun(root):
            continue
        folder = RunFolder.open(root)
        info = folder.info()
        if info.status != "complete":
            continue
        found.seeds.append(seed)
        found.infos.append(info)
        found.metrics.append(
            {split: _metrics(folder, split) for split in ("train", "val", "test") if _scored(folder, split)}
        )
    return found


def _scored(folder: RunFolder, split: str) -> bool:
    return folder.file(split, "metrics.json").is_file()


def _metrics(folder: RunFolder, split: str) -> dict[str, Any]:
    file = folder.file(split, "metrics.json")
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{file} is damaged: run `nephros evaluate --split {split}` on the run again.") from None


def shown(value: float | None, digits: int = 4) -> str:
    """Return a number with so many decimals; empty for none."""
    return "" if value is None or math.isnan(value) else f"{value:.{digits}f}"
