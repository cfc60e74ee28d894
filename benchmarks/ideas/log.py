"""The log of all ideas: a line each, paired with what it started from."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.ideas.idea import Idea
from nephros.files import write_text

Record = dict[str, Any]


def write_log(root: Path, ideas: Sequence[Idea]) -> None:
    """Write speedrun.md beside the folder of records."""
    write_text(root.with_suffix(".md"), "\n".join(_lines(root, ideas)) + "\n")


def _lines(root: Path, ideas: Sequence[Idea]) -> list[str]:
    lines = ["| idea | group | stage | what | val accuracy | gain (each seed) | val loss | gain | minutes |"]
    lines.append("|---" * 9 + "|")
    for stage in ("screen", "full"):
        for idea in ideas:
            own, paired = _records(root, stage, idea.name), _records(root, stage, idea.against)
            if not own:
                continue
            accuracy = [own[seed].get("val_accuracy", float("nan")) for seed in own]
            loss = [own[seed].get("val_loss", float("nan")) for seed in own]
            gains = [_gain(own[s], paired[s], "val_accuracy") for s in own if s in paired]
            drops = [_gain(own[s], paired[s], "val_loss") for s in own if s in paired]
            minutes = statistics.mean(own[seed].get("minutes", float("nan")) for seed in own)
            lines.append(
                f"| {idea.name} | {idea.group} | {stage} | {idea.words} | {statistics.mean(accuracy):.4f} | "
                f"{', '.join(f'{g:+.4f}' for g in gains)} | {statistics.mean(loss):.4f} | "
                f"{', '.join(f'{g:+.4f}' for g in drops)} | {minutes:.1f} |"
            )
    return lines


def _gain(own: Record, paired: Record, key: str) -> float:
    return float(own.get(key, float("nan")) - paired.get(key, float("nan")))


def _records(root: Path, stage: str, name: str) -> dict[int, Record]:
    found = {}
    for file in sorted((root / stage).glob(f"{name}-*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["idea"] == name:
            found[record["seed"]] = record
    return found
