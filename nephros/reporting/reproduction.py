"""The tables of `nephros.reproduce`, one per plan, as CSV and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nephros.escaping import command_without_folders
from nephros.evaluation.metrics import Metrics
from nephros.experiments.results import SeedResults
from nephros.files import write_text
from nephros.reporting.html import save_figure
from nephros.reporting.plots.accuracy_charts import plot_label_efficiency
from nephros.runs import RunInfo
from nephros.text_tables import csv_table, format_number, markdown_table

NOT_RUN = "not run"
NEEDS_GPU = "not run: needs a GPU"
DIVERGED = "diverged"

BASELINES_COLUMNS = (
    "recipe", "published_accuracy", "accuracy_mean", "accuracy_sd", "published_loss", "implied_loss", "loss", "macro_f1", "auc",
    "seeds", "epochs", "minutes", "command",
)  # fmt: skip
LABELS_COLUMNS = (
    "recipe", "images", "accuracy_mean", "accuracy_sd", "macro_f1", "auc", "val_accuracy", "seeds", "minutes", "command",
)  # fmt: skip
NEPHROS_COLUMNS = (
    "recipe", "accuracy_mean", "accuracy_sd", "val_accuracy", "macro_f1", "auc", "expected_calibration_error", "parameters",
    "multiply_adds", "tta_views", "seeds", "epochs", "minutes", "distilled_from", "command",
)  # fmt: skip

_SPLIT_COLUMNS = [(split, key) for key in ("accuracy", "loss") for split in ("train", "val", "test")]
_LOSSES_NOTE = """\
Published losses are as printed, which is not a mean per image. Implied losses are the printed ones times 223, the batch size,
for rows 1, 2 and 4, and times 446 for rows 3, 5, 6 and 7. The report does not state these factors; they are inferred from the
results: with 446, the loss of row 5, which always predicts one class, is the entropy of the class shares.
"""
_NEPHROS_NOTE = """\
Multiply-adds are per view; predictions are averaged over the views. Calibration error is before temperature scaling. Minutes
are per run, and for an ensemble those of all its runs; the minutes of teachers come on top.
"""


def write_baselines_table(results: Sequence[SeedResults], out: Path, flags: str = "") -> list[Path]:
    """Write baselines.csv and baselines.md to `out`: published results beside those of the runs; return their paths.

    `flags` are the flags besides --only that a command needs to repeat a row.
    """
    rows = [_baseline_row(result, flags) for result in results]
    split_rows = [
        [result.plan_row.label, *(format_number(result.mean(key, split)) for split, key in _SPLIT_COLUMNS)]
        for result in results
        if result.seeds
    ]
    split_table = markdown_table(["recipe", *(f"{split}_{key}" for split, key in _SPLIT_COLUMNS)], split_rows)
    note = f"{_LOSSES_NOTE}\nBy split, means over seeds:\n\n{split_table}"
    return _write_table(results, out, "baselines", BASELINES_COLUMNS, rows, note)


def write_labels_table(results: Sequence[SeedResults], out: Path, flags: str = "") -> list[Path]:
    """Write labels.csv, labels.md and labels.png (and .svg) to `out`: accuracy by training images; return their paths.

    `flags` are as in `write_baselines_table`.
    """
    rows = [_labels_row(result, flags) for result in results]
    files = _write_table(results, out, "labels", LABELS_COLUMNS, rows)
    if any(result.seeds for result in results):
        figure_file = out / f"{_file_prefix(results)}labels.png"
        save_figure(plot_label_efficiency(results), figure_file, "Test accuracy against the number of training images")
        files.append(figure_file)
    return files


def write_nephros_table(results: Sequence[SeedResults], out: Path, flags: str = "") -> list[Path]:
    """Write nephros.csv and nephros.md to `out`: each recipe's runs, and the ensemble of them; return their paths.

    `flags` are as in `write_baselines_table`.
    """
    rows = [row for result in results for row in _nephros_rows(result, flags)]
    return _write_table(results, out, "nephros", NEPHROS_COLUMNS, rows, _NEPHROS_NOTE)


def _baseline_row(result: SeedResults, flags: str) -> list[str]:
    plan_row, published = result.plan_row, result.plan_row.published
    published_accuracy, published_losses = "", ["", ""]
    if published is not None:
        published_accuracy = format_number(published.accuracy)
        published_losses = [format_number(published.loss, 6), format_number(published.implied_loss, 2)]
    accuracy = [
        format_number(result.mean("accuracy")) if result.seeds else _status(result),
        format_number(result.sd("accuracy")),
    ]
    return [
        plan_row.label,
        published_accuracy,
        *accuracy,
        *published_losses,
        *(format_number(result.mean(key)) for key in ("loss", "macro_f1", "auc")),
        _seed_count(result),
        str(plan_row.recipe.epochs),
        format_number(result.mean_training_minutes, 1),
        _reproduce_command("baselines", result, flags),
    ]


def _labels_row(result: SeedResults, flags: str) -> list[str]:
    name, command = result.plan_row.recipe.name, _reproduce_command("labels", result, flags)
    if not result.seeds:
        return [name, "", NOT_RUN, "", "", "", "", "0", "", command]
    return [
        name,
        str(sum(result.infos[0].class_counts["train"])),
        format_number(result.mean("accuracy")),
        format_number(result.sd("accuracy")),
        format_number(result.mean("macro_f1")),
        format_number(result.mean("auc")),
        format_number(result.mean("accuracy", "val")),
        _seed_count(result),
        format_number(result.mean_training_minutes, 1),
        command,
    ]


def _nephros_rows(result: SeedResults, flags: str) -> list[list[str]]:
    """Return the row of a recipe's runs and, where there are several, that of their ensemble."""
    label, recipe = result.plan_row.label, result.plan_row.recipe

    def last_columns(n_runs: int) -> list[str]:
        minutes = None if result.mean_training_minutes is None else n_runs * result.mean_training_minutes
        return [
            str(recipe.tta_views),
            _seed_count(result),
            str(recipe.epochs),
            format_number(minutes, 1),
            " ".join(result.plan_row.teachers),
            _reproduce_command("nephros", result, flags),
        ]

    if not result.seeds:
        return [[label, _status(result), *[""] * 7, *last_columns(1)]]
    info, n = result.infos[0], len(result.seeds)
    means = [format_number(result.mean(key)) for key in ("macro_f1", "auc", "expected_calibration_error")]
    accuracy = [format_number(result.mean("accuracy")), format_number(result.sd("accuracy"))]
    val_accuracy = format_number(result.mean("accuracy", "val"))
    costs = [str(info.parameters), str(info.multiply_adds)]
    rows = [[label, *accuracy, val_accuracy, *means, *costs, *last_columns(1)]]
    test, val = result.ensemble_metrics("test"), result.ensemble_metrics("val")
    if test and val:
        costs = [str(n * info.parameters), str(n * info.multiply_adds)]
        rows.append([f"ensemble of {n} {label}", *_ensemble_columns(test, val), *costs, *last_columns(n)])
    return rows


def _ensemble_columns(test: Metrics, val: Metrics) -> list[str]:
    values = (test.accuracy, None, val.accuracy, test.macro_f1, test.auc, test.expected_calibration_error)
    return [format_number(value) for value in values]


def _status(result: SeedResults) -> str:
    """Return the text in place of the accuracy of a row without finished runs."""
    return DIVERGED if result.diverged_seeds else NEEDS_GPU if result.plan_row.needs_gpu else NOT_RUN


def _seed_count(result: SeedResults) -> str:
    """Return how many runs the means are over, and how many diverged."""
    n, n_diverged = len(result.seeds), len(result.diverged_seeds)
    return f"{n} ({n_diverged} diverged)" if n_diverged else str(n)


def _reproduce_command(plan: str, result: SeedResults, flags: str) -> str:
    """Return the command that repeats a row of a plan, as Markdown code."""
    parts = ["nephros reproduce", plan, "--only", result.plan_row.required_keys, *([flags] if flags else [])]
    return f"`{command_without_folders(' '.join(parts))}`"


def _write_table(
    results: Sequence[SeedResults],
    out: Path,
    name: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    note: str = "",
) -> list[Path]:
    """Write NAME.csv, and NAME.md with a note and the runs' environment; return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"{_file_prefix(results)}{name}.{suffix}" for suffix in ("csv", "md")]
    markdown = "\n".join(filter(None, (markdown_table(columns, rows), note, environment_lines(_infos(results)))))
    for file, text in zip(files, (csv_table(columns, rows), markdown), strict=True):
        write_text(file, text)
    return files


def _file_prefix(results: Sequence[SeedResults]) -> str:
    """Return the prefix of files on synthetic cells; empty otherwise."""
    return "synthetic-" if any(info.data["split"] == "synthetic" for info in _infos(results)) else ""


def _infos(results: Sequence[SeedResults]) -> list[RunInfo]:
    return [info for result in results for info in result.infos]


def environment_lines(infos: Sequence[RunInfo]) -> str:
    """Return lines with the data, devices and versions of some runs."""
    values_by_label = {
        "data": {str(info.data["title"]) for info in infos},
        "device": {info.device for info in infos},
        "versions": {", ".join(f"{name} {version}" for name, version in info.versions.items()) for info in infos},
    }
    return "\n".join(f"{label}: {'; '.join(sorted(values))}\n" for label, values in values_by_label.items() if values)
