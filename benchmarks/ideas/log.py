"""The log of all ideas: a line each, beside what it is paired with."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.ideas.idea import Idea
from nephros.files import write_text
from nephros.text_tables import csv_of

Record = dict[str, Any]
COLUMNS = (
    "idea",
    "group",
    "what",
    "beside",
    "stage",
    "seeds",
    "val_accuracy",
    "gains",
    "val_loss",
    "changes_of_loss",
    "val_macro_f1",
    "changes_of_macro_f1",
    "minutes",
    "passes",
    "command",
)


def write_log(root: Path, ideas: Sequence[Idea]) -> None:
    """Write speedrun.csv beside the folder of records; results/fill.py puts it into speedrun.md."""
    rows = []
    for stage in ("screen", "full", "hour"):
        for idea in ideas:
            own, paired = _records(root, stage, idea.name), _records(root, stage, idea.against)
            if own:
                rows.append(_cells(idea, stage, own, paired))
    write_text(root.with_suffix(".csv"), csv_of(COLUMNS, rows))


def _cells(idea: Idea, stage: str, own: dict[int, Record], paired: dict[int, Record]) -> list[str]:
    beside = [seed for seed in own if seed in paired and idea.against != idea.name]
    gains, changes, macro = (
        [_value(own[seed], key) - _value(paired[seed], key) for seed in beside]
        for key in ("val_accuracy", "val_loss", "val_macro_f1")
    )
    passed = all(gain > 0 for gain in gains) and all(change < 0 for change in changes)
    return [
        idea.name,
        idea.group,
        idea.words,
        "" if idea.against == idea.name else idea.against,
        stage,
        str(len(own)),
        _mean(own, "val_accuracy", 4),
        _signed(gains),
        _mean(own, "val_loss", 4),
        _signed(changes),
        _mean(own, "val_macro_f1", 4),
        _signed(macro),
        _mean(own, "minutes", 1),
        "" if len(gains) < 2 else "yes" if passed else "no",
        f"python -m benchmarks.ideas {idea.name}{'' if stage == 'screen' else f' --stage {stage}'}",
    ]


def _signed(changes: list[float]) -> str:
    return ", ".join(f"{change:+.4f}" for change in changes)


def _value(record: Record, key: str) -> float:
    """Return a figure of a run; one that diverged has none."""
    return float(record.get(key, math.nan))


def _mean(records: dict[int, Record], key: str, digits: int) -> str:
    found = statistics.mean(_value(record, key) for record in records.values())
    return "diverged" if math.isnan(found) else f"{found:.{digits}f}"


def _records(root: Path, stage: str, name: str) -> dict[int, Record]:
    read = (json.loads(file.read_text(encoding="utf-8")) for file in sorted((root / stage).glob(f"{name}-*.json")))
    return {record["seed"]: record for record in read if record["idea"] == name}
