"""The tables of `nephros reproduce`, as CSV and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nephros.experiments.results import SeedResults
from nephros.files import write_text
from nephros.reporting.plots.label_efficiency import plot_label_efficiency
from nephros.reporting.plots.save import save_figure
from nephros.text_tables import csv_table, format_number, markdown_table

NOT_RUN = "not run"
NEEDS_GPU = "not run: needs a GPU"
DIVERGED = "diverged"


def write_baselines_table(results: Sequence[SeedResults], out: Path, flags: str = "") -> list[Path]:
    """Write baselines.csv and baselines.md into `out`: each row's published figures beside ours; return their paths.

    `flags` are what the command needs besides --only to make the same.
    """
    headers = [
        "recipe",
        "published_accuracy",
        "accuracy_mean",
        "accuracy_sd",
        "published_loss",
        "implied_loss",
        "loss",
        "macro_f1",
        "auc",
        "seeds",
        "epochs",
        "minutes",
        "command",
    ]
    rows = [_baseline_row(result, flags) for result in results]
    split_rows = [
        [result.plan_row.label, *(format_number(result.mean(key, split)) for split, key in _SPLIT_COLUMNS)]
        for result in results
        if result.seeds
    ]
    text = "\n".join(
        [
            markdown_table(headers, rows),
            "Published losses are as printed, and no mean an image. Implied is the printed figure times 223, the batch, for rows",
            "1, 2 and 4, and times 446 for rows 3, 5, 6 and 7: factors inferred from the figures (by 446 row 5, which always",
            "answers one class, comes to the entropy of the classes' shares), not stated by the report.",
            "",
            "By split, means over seeds:",
            "",
            markdown_table(["recipe", *(f"{split}_{key}" for split, key in _SPLIT_COLUMNS)], split_rows),
            environment_lines(results),
        ]
    )
    return write_csv_and_markdown(out, "baselines", csv_table(headers, rows), text, results)


_SPLIT_COLUMNS = [(split, key) for key in ("accuracy", "loss") for split in ("train", "val", "test")]


def _baseline_row(result: SeedResults, flags: str) -> list[str]:
    plan_row, published = result.plan_row, result.plan_row.published
    published_columns = ["", "", ""]
    if published is not None:
        implied_loss = published.implied_loss
        published_columns = [
            f"{published.accuracy:.4f}",
            "" if published.loss is None else f"{published.loss:.6f}",
            format_number(implied_loss, 2),
        ]
    command = reproduce_command("baselines", result, flags)
    if not result.seeds:
        return [
            plan_row.label,
            published_columns[0],
            status_text(result),
            "",
            *published_columns[1:],
            "",
            "",
            "",
            seed_count_text(result),
            str(plan_row.recipe.epochs),
            "",
            command,
        ]
    return [
        plan_row.label,
        published_columns[0],
        format_number(result.mean("accuracy")),
        format_number(result.sd("accuracy")),
        *published_columns[1:],
        *(format_number(result.mean(key)) for key in ("loss", "macro_f1", "auc")),
        seed_count_text(result),
        str(plan_row.recipe.epochs),
        format_number(result.mean_training_minutes, 1),
        command,
    ]


def status_text(result: SeedResults) -> str:
    """Return what stands in place of the figures of a row without finished runs."""
    return DIVERGED if result.diverged_seeds else NEEDS_GPU if result.plan_row.needs_gpu else NOT_RUN


def seed_count_text(result: SeedResults) -> str:
    """Return how many runs the means are over, and how many are missing from them since they diverged."""
    return (
        f"{len(result.seeds)} ({len(result.diverged_seeds)} diverged)"
        if result.diverged_seeds
        else str(len(result.seeds))
    )


def reproduce_command(plan: str, result: SeedResults, flags: str) -> str:
    """Return what a user types to have a row of a plan made, as code."""
    return f"`{' '.join(['nephros reproduce', plan, '--only', result.plan_row.required_keys, *([flags] if flags else [])])}`"


def write_labels_table(results: Sequence[SeedResults], out: Path, flags: str = "") -> list[Path]:
    """Write labels.csv, labels.md and labels.png (and .svg) into `out`: accuracy by training images; return their paths."""
    headers = [
        "recipe",
        "images",
        "accuracy_mean",
        "accuracy_sd",
        "macro_f1",
        "auc",
        "val_accuracy",
        "seeds",
        "minutes",
        "command",
    ]
    rows = [_labels_row(result, flags) for result in results]
    files = write_csv_and_markdown(
        out,
        "labels",
        csv_table(headers, rows),
        "\n".join([markdown_table(headers, rows), environment_lines(results)]),
        results,
    )
    if any(result.seeds for result in results):
        figure_file = out / f"{_file_prefix(results)}labels.png"
        save_figure(plot_label_efficiency(results), figure_file, "Test accuracy against the number of training images")
        files.append(figure_file)
    return files


def _labels_row(result: SeedResults, flags: str) -> list[str]:
    plan_row = result.plan_row
    command = reproduce_command("labels", result, flags)
    if not result.seeds:
        return [plan_row.recipe.name, "", NOT_RUN, "", "", "", "", "0", "", command]
    return [
        plan_row.recipe.name,
        str(sum(result.infos[0].class_counts["train"])),
        format_number(result.mean("accuracy")),
        format_number(result.sd("accuracy")),
        format_number(result.mean("macro_f1")),
        format_number(result.mean("auc")),
        format_number(result.mean("accuracy", "val")),
        seed_count_text(result),
        format_number(result.mean_training_minutes, 1),
        command,
    ]


def environment_lines(results: Sequence[SeedResults]) -> str:
    """Return lines on what the runs have in common, or not: data, device and versions."""
    infos = [info for result in results for info in result.infos]
    facts = {
        "data": {str(info.data["title"]) for info in infos},
        "device": {info.device for info in infos},
        "versions": {", ".join(f"{name} {version}" for name, version in info.versions.items()) for info in infos},
    }
    return "\n".join(f"{label}: {'; '.join(sorted(values))}\n" for label, values in facts.items() if values)


def _file_prefix(results: Sequence[SeedResults]) -> str:
    """Return what marks the files of made-up cells."""
    return "synthetic-" if any(info.data["split"] == "synthetic" for result in results for info in result.infos) else ""


def write_csv_and_markdown(
    out: Path, name: str, csv_text: str, markdown_text: str, results: Sequence[SeedResults]
) -> list[Path]:
    """Write NAME.csv and NAME.md, marked where the cells are made up; return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"{_file_prefix(results)}{name}.{suffix}" for suffix in ("csv", "md")]
    for file, content in zip(files, (csv_text, markdown_text), strict=True):
        write_text(file, content)
    return files
