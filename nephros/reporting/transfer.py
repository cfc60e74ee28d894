"""The table and figure of the transfer experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from nephros.experiments.transfer import TransferRow
from nephros.files import write_text
from nephros.reporting.html import save_figure
from nephros.reporting.plots.transfer import plot_transfer
from nephros.text_tables import csv_table, format_number, markdown_table

_COLUMNS = ("task", "labels_per_class", "method", "accuracy_mean", "accuracy_sd", "macro_f1", "seconds", "draws")
CHECKED_SIZE = 20
"""Labels per class at which fine-tuning is held to its lead over training from scratch."""


def write_transfer_table(rows: Sequence[TransferRow], out: Path) -> list[Path]:
    """Write transfer.csv, transfer.md and transfer.png (and .svg) to `out`: accuracy by labels per class; return their paths."""
    if not rows:
        return []
    summary = [_summary_row(group) for group in _grouped(rows)]
    csv_file, markdown_file, figure_file = (out / f"transfer.{suffix}" for suffix in ("csv", "md", "png"))
    write_text(csv_file, csv_table(_COLUMNS, summary))
    sentences = "\n".join(f"- {sentence}" for sentence in conclusions(rows))
    write_text(markdown_file, f"{sentences}\n\n{markdown_table(_COLUMNS, summary)}")
    save_figure(plot_transfer(rows), figure_file, "Accuracy on classes that the source never saw, by labels per class")
    return [csv_file, markdown_file, figure_file]


def conclusions(rows: Sequence[TransferRow]) -> list[str]:
    """Return what the rows say of fine-tuning's lead at `CHECKED_SIZE` labels, and of its choice of method, per task."""
    sentences = []
    for task in dict.fromkeys(row.task for row in rows):
        means = {
            (group[0].labels_per_class, group[0].method): mean(row.accuracy for row in group)
            for group in _grouped([row for row in rows if row.task == task])
        }
        if {(CHECKED_SIZE, "finetune"), (CHECKED_SIZE, "scratch")} <= means.keys():
            lead = means[CHECKED_SIZE, "finetune"] - means[CHECKED_SIZE, "scratch"]
            sentences.append(
                f"{task}: with {CHECKED_SIZE} labels per class, finetune is {100 * lead:+.1f} points against scratch."
            )
        losses = {
            size: max(value for (other, _), value in means.items() if other == size) - means[size, "finetune"]
            for size in dict.fromkeys(size for size, _ in means)
        }
        size, loss = max(losses.items(), key=lambda item: item[1])
        sentences.append(
            f"{task}: finetune is at most {100 * loss:.1f} points below the best method (at {size} labels per class)."
        )
    return sentences


def _grouped(rows: Sequence[TransferRow]) -> list[list[TransferRow]]:
    """Return the draws of each task, number of labels and method together."""
    groups: dict[tuple[str, int, str], list[TransferRow]] = {}
    for row in rows:
        groups.setdefault((row.task, row.labels_per_class, row.method), []).append(row)
    return list(groups.values())


def _summary_row(draws: Sequence[TransferRow]) -> list[str]:
    accuracies = [row.accuracy for row in draws]
    return [
        draws[0].task,
        str(draws[0].labels_per_class),
        draws[0].method,
        format_number(mean(accuracies)),
        format_number(stdev(accuracies) if len(draws) > 1 else None),
        format_number(mean(row.macro_f1 for row in draws)),
        format_number(mean(row.seconds for row in draws), 1),
        str(len(draws)),
    ]
