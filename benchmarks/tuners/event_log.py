"""The one account of a run that all its processes share: epochs asked for, and what each came to, in a folder."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tuners.budget_config import Terms
from nephros.files import locked


@dataclass(frozen=True)
class Event:
    """One epoch of one trial."""

    seconds: float
    """Since the run began, when the epoch was judged."""
    trial: str
    epoch: int
    """Of this trial, from 1."""
    value: float | None
    """Validation accuracy; None for an epoch in which the trial diverged."""
    took: float
    """Seconds of training in it, validation not counted."""


class Ledger:
    """Lines of JSON that are only ever added to, under a lock, so that processes may share it and a crash spoils none."""

    def __init__(self, terms: Terms) -> None:
        self._folder, self._epochs, self._started = Path(terms.folder), terms.epochs, terms.started
        self._folder.mkdir(parents=True, exist_ok=True)

    def take(self) -> bool:
        """Take an epoch from the budget; False, and nothing is taken, when all of it has been."""
        count = self._folder / "taken"
        with locked(self._folder / "lock"):
            taken = int(count.read_text(encoding="ascii")) if count.exists() else 0
            if taken >= self._epochs:
                return False
            count.write_text(str(taken + 1), encoding="ascii")
        return True

    def begin(self, trial: str, params: Mapping[str, Any]) -> None:
        """Note a trial's values (dotted field -> value)."""
        self._add({"trial": trial, "params": dict(params)})

    def tell(self, trial: str, epoch: int, value: float | None, took: float) -> None:
        """Note an epoch that is over."""
        number = None if value is None or not math.isfinite(value) else value
        self._add({"seconds": self.now(), "trial": trial, "epoch": epoch, "value": number, "took": took})

    def now(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self._started

    def _add(self, line: dict[str, Any]) -> None:
        with locked(self._folder / "lock"), open(self._folder / "events.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def events(self) -> list[Event]:
        """Return all epochs so far, in the order in which they ended."""
        return [Event(**line) for line in self._lines() if "epoch" in line]

    def params(self) -> dict[str, dict[str, Any]]:
        """Return the values of all trials so far."""
        return {line["trial"]: line["params"] for line in self._lines() if "params" in line}

    def _lines(self) -> list[dict[str, Any]]:
        file = self._folder / "events.jsonl"
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
