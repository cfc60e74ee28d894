"""Runs with several replicas, to compare with one: `python -m results.replicas RUN...` writes results/replicas.csv."""

from __future__ import annotations

import sys
from pathlib import Path

from nephros.evaluation.metrics import Metrics
from nephros.files import write_text
from nephros.runs import RunFolder
from nephros.text_tables import csv_table, format_number

COLUMNS = (
    "recipe",
    "seed",
    "replicas",
    "epochs",
    "val_accuracy",
    "val_macro_f1",
    "val_auc",
    "minutes",
    "device",
    "command",
)


def row(run_dir: str | Path) -> list[str]:
    """Return the row of a finished run: what validation says, with the recipe's test-time augmentation."""
    folder = RunFolder.open(run_dir)
    info, val = folder.info(), Metrics.from_run(folder, "val")
    return [
        info.recipe,
        str(info.seed),
        str(info.replicas),
        str(folder.recipe().epochs),
        format_number(val.accuracy),
        format_number(val.macro_f1),
        format_number(val.auc),
        format_number(info.training_minutes, 1),
        info.device,
        f"nephros train {info.recipe} --seed {info.seed} --threads {info.replicas}",
    ]


def main(run_dirs: list[str]) -> None:
    """Write the table."""
    file = Path(__file__).with_name("replicas.csv")
    write_text(file, csv_table(COLUMNS, [row(run_dir) for run_dir in run_dirs]))
    print(file)


if __name__ == "__main__":
    main(sys.argv[1:])
