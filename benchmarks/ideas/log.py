"""The log of all ideas: a row per idea and stage, with its differences from its baseline."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.ideas.idea import Idea
from nephros.files import write_text
from nephros.text_tables import csv_table

Record = dict[str, Any]
COLUMNS = (
    "idea",
    "group",
    "description",
    "baseline",
    "stage",
    "seeds",
    "val_accuracy",
    "gains",
    "val_loss",
    "loss_changes",
    "val_macro_f1",
    "macro_f1_changes",
    "minutes",
    "improved",
    "command",
)


def write_log(root: Path, ideas: Sequence[Idea]) -> None:
    """Write ROOT.csv from the records in the folder `root`; results/fill.py copies it into docs/results/ideas.md."""
    rows = []
    for stage in ("screen", "full", "hour"):
        for idea in ideas:
            records, baseline_records = _records(root, stage, idea.name), _records(root, stage, idea.baseline)
            if records:
                rows.append(_row(idea, stage, records, baseline_records))
    write_text(root.with_suffix(".csv"), csv_table(COLUMNS, rows))


def _row(idea: Idea, stage: str, records: dict[int, Record], baseline_records: dict[int, Record]) -> list[str]:
    paired_seeds = [seed for seed in records if seed in baseline_records and idea.baseline != idea.name]
    gains, loss_changes, macro_f1_changes = (
        [_value(records[seed], key) - _value(baseline_records[seed], key) for seed in paired_seeds]
        for key in ("val_accuracy", "val_loss", "val_macro_f1")
    )
    improved = all(gain > 0 for gain in gains) and all(change < 0 for change in loss_changes)
    return [
        idea.name,
        idea.group,
        idea.description,
        "" if idea.baseline == idea.name else idea.baseline,
        stage,
        str(len(records)),
        _mean(records, "val_accuracy", 4),
        _signed(gains),
        _mean(records, "val_loss", 4),
        _signed(loss_changes),
        _mean(records, "val_macro_f1", 4),
        _signed(macro_f1_changes),
        _mean(records, "minutes", 1),
        "" if len(gains) < 2 else "yes" if improved else "no",
        f"python -m benchmarks.ideas {idea.name}{'' if stage == 'screen' else f' --stage {stage}'}",
    ]


def _signed(changes: list[float]) -> str:
    return ", ".join(f"{change:+.4f}" for change in changes)


def _value(record: Record, key: str) -> float:
    """Return a metric of a run; NaN for a run that diverged."""
    return float(record.get(key, math.nan))


def _mean(records: dict[int, Record], key: str, digits: int) -> str:
    mean = statistics.mean(_value(record, key) for record in records.values())
    return "diverged" if math.isnan(mean) else f"{mean:.{digits}f}"


def _records(root: Path, stage: str, name: str) -> dict[int, Record]:
    read = (json.loads(file.read_text(encoding="utf-8")) for file in sorted((root / stage).glob(f"{name}-*.json")))
    return {record["seed"]: record for record in read if record["idea"] == name}
