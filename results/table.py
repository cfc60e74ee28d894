"""Print a table of runs as Markdown: python results/table.py RUN..."""

from __future__ import annotations

import sys
from pathlib import Path

from nephros.evaluation.metrics import Metrics
from nephros.recipe_io import read_recipe
from nephros.reporting.reproduction import environment_lines
from nephros.runs import RunFolder
from nephros.text_tables import format_number, markdown_table

COLUMNS = (
    "recipe", "epochs", "val accuracy", "test accuracy (95%)", "test AUC", "test macro F1", "training minutes", "seed",
    "evaluations on test", "command",
)  # fmt: skip


def table_row(run_dir: str) -> list[str]:
    """Return the row of a run: recipe, minutes, and metrics on validation and test."""
    folder = RunFolder.open(run_dir)
    info = folder.info()
    val, test = Metrics.from_run(folder, "val"), Metrics.from_run(folder, "test")
    interval = test.accuracy_interval
    return [
        info.recipe,
        str(read_recipe(folder.file("recipe.yaml")).epochs),
        format_number(val.accuracy),
        f"{test.accuracy:.4f} ({interval.low:.4f} to {interval.high:.4f})",
        format_number(test.auc),
        format_number(test.macro_f1),
        format_number(info.training_minutes, 1),
        str(info.seed),
        str(len(folder.test_reads())),
        f"`{info.command}`",
    ]


def main(run_dirs: list[str]) -> None:
    """Print the table, then data, device and versions."""
    print(markdown_table(COLUMNS, [table_row(run_dir) for run_dir in run_dirs]))
    print(environment_lines([RunFolder.open(run_dir).info() for run_dir in run_dirs]), end="")


if __name__ == "__main__":
    main([str(Path(root)) for root in sys.argv[1:]])
