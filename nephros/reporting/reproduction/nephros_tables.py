"""The table of `nephros reproduce nephros`: our recipes, the mean of their answers, and what learns from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nephros.experiments.results import SeedResults
from nephros.reporting.reproduction.baselines import (
    environment_lines,
    reproduce_command,
    seed_count_text,
    status_text,
    write_csv_and_markdown,
)
from nephros.text_tables import csv_table, format_number, markdown_table


def write_nephros_table(results: Sequence[SeedResults], out: Path, flags: str = "") -> list[Path]:
    """Write nephros.csv and nephros.md into `out`: each recipe's runs, and what the mean of their answers comes to."""
    headers = [
        "recipe", "accuracy_mean", "accuracy_sd", "val_accuracy", "macro_f1", "auc", "expected_calibration_error", "parameters",
        "multiply_adds", "tta_views", "seeds", "epochs", "minutes", "distilled_from", "command",
    ]  # fmt: skip
    rows = [row for result in results for row in _nephros_rows(result, flags)]
    note = (
        "Multiply-adds are of one view; an answer is the mean over the views. Calibration error is before any temperature. "
        "Minutes are of one run, and of all runs where they answer together; what teachers took comes on top.\n"
    )
    return write_csv_and_markdown(
        out,
        "nephros",
        csv_table(headers, rows),
        "\n".join([markdown_table(headers, rows), note, environment_lines(results)]),
        results,
    )


def _nephros_rows(result: SeedResults, flags: str) -> list[list[str]]:
    recipe, command = result.plan_row.recipe, reproduce_command("nephros", result, flags)
    distilled_from = " ".join(result.plan_row.teachers)

    def _last_columns(n_runs: int) -> list[str]:
        minutes = None if result.mean_training_minutes is None else n_runs * result.mean_training_minutes
        return [
            str(recipe.tta_views),
            seed_count_text(result),
            str(recipe.epochs),
            format_number(minutes, 1),
            distilled_from,
            command,
        ]

    if not result.seeds:
        return [[result.plan_row.label, status_text(result), *[""] * 7, *_last_columns(1)]]
    info, metric_names = result.infos[0], ("macro_f1", "auc", "expected_calibration_error")
    metrics = [
        format_number(result.mean("accuracy")),
        format_number(result.sd("accuracy")),
        format_number(result.mean("accuracy", "val")),
    ]
    rows = [[
        result.plan_row.label, *metrics, *(format_number(result.mean(key)) for key in metric_names),
        str(info.parameters), str(info.multiply_adds), *_last_columns(1),
    ]]  # fmt: skip
    test, val = result.ensemble_metrics("test"), result.ensemble_metrics("val")
    if test and val:
        n = len(result.seeds)
        metrics = [
            format_number(test["accuracy"]),
            "",
            format_number(val["accuracy"]),
            *(format_number(test[key]) for key in metric_names),
        ]
        costs = [str(n * info.parameters), str(n * info.multiply_adds)]
        rows.append([f"ensemble of {n} {result.plan_row.label}", *metrics, *costs, *_last_columns(n)])
    return rows
