"""The log of a run, in a folder that all its processes share: epochs claimed from the budget, and their results."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tuners.budget_config import BudgetConfig
from nephros.files import file_lock


@dataclass(frozen=True)
class EpochEvent:
    """One epoch of one trial."""

    seconds: float
    """Seconds from the start of the run to the end of the epoch's validation."""
    trial: str
    epoch: int
    """Epoch of the trial, from 1."""
    value: float | None
    """Validation accuracy; None for an epoch in which the trial diverged."""
    training_seconds: float
    """Training time of the epoch, validation not included."""


class EventLog:
    """An append-only file of JSON lines, written under a lock, so that processes can share it and crashes lose nothing."""

    def __init__(self, config: BudgetConfig) -> None:
        self._folder, self._total_epochs, self._started_at = Path(config.folder), config.total_epochs, config.started_at
        self._folder.mkdir(parents=True, exist_ok=True)

    def claim_epoch(self) -> bool:
        """Take an epoch from the budget; return False when the budget is spent."""
        counter = self._folder / "taken"
        with file_lock(self._folder / "lock"):
            claimed = int(counter.read_text(encoding="ascii")) if counter.exists() else 0
            if claimed >= self._total_epochs:
                return False
            counter.write_text(str(claimed + 1), encoding="ascii")
        return True

    def log_trial(self, trial: str, params: Mapping[str, Any]) -> None:
        """Log a trial's values (dotted field -> value)."""
        self._append({"trial": trial, "params": dict(params)})

    def log_epoch(self, trial: str, epoch: int, value: float | None, training_seconds: float) -> None:
        """Log a finished epoch."""
        finite_value = None if value is None or not math.isfinite(value) else value
        self._append(
            {
                "seconds": self.elapsed_seconds(),
                "trial": trial,
                "epoch": epoch,
                "value": finite_value,
                "training_seconds": training_seconds,
            }
        )

    def elapsed_seconds(self) -> float:
        """Return the seconds since the start of the run."""
        return time.monotonic() - self._started_at

    def _append(self, entry: dict[str, Any]) -> None:
        with file_lock(self._folder / "lock"), open(self._folder / "events.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def events(self) -> list[EpochEvent]:
        """Return all epochs so far, in the order in which they finished."""
        return [EpochEvent(**entry) for entry in self._lines() if "epoch" in entry]

    def params(self) -> dict[str, dict[str, Any]]:
        """Return the values of all trials so far."""
        return {entry["trial"]: entry["params"] for entry in self._lines() if "params" in entry}

    def _lines(self) -> list[dict[str, Any]]:
        file = self._folder / "events.jsonl"
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
