"""The table and figure of the transfer experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from statistics import mean, stdev

from nephros.experiments.transfer import TransferRow
from nephros.files import write_text
from nephros.reporting.html import save_figure
from nephros.reporting.plots.transfer import plot_transfer
from nephros.text_tables import csv_table, format_number, markdown_table

_ROW_COLUMNS = tuple(field.name for field in fields(TransferRow))
CHECKED_SIZE = 20
"""Labels per class at which fine-tuning is held to its lead over training from scratch."""


def write_transfer_table(rows: Sequence[TransferRow], out: Path) -> list[Path]:
    """Write the experiment's tables and figure to `out`, and return their paths; nothing without rows.

    transfer.csv and transfer.md have each method's mean accuracy by labels per class, transfer-draws.csv each draw, and
    transfer.png (and .svg) shows the means.
    """
    if not rows:
        return []
    tasks = list(dict.fromkeys(row.task for row in rows))
    rows = sorted(rows, key=lambda row: (tasks.index(row.task), row.labels_per_class, row.draw))
    methods = [method for method in dict.fromkeys(row.method for row in rows) if method != "finetune"]
    columns = ("task", "labels_per_class", "draws", *methods, "finetune", "finetune_sd", "finetune_macro_f1")
    means = [_mean_row(group, methods) for group in _by_size(rows).values()]
    csv_file, markdown_file, draws_file, figure_file = (
        out / f"transfer{suffix}" for suffix in (".csv", ".md", "-draws.csv", ".png")
    )
    write_text(csv_file, csv_table(columns, means))
    sentences = "\n".join(f"- {sentence}" for sentence in conclusions(rows))
    write_text(markdown_file, f"{sentences}\n\n{markdown_table(columns, means)}")
    write_text(draws_file, csv_table(_ROW_COLUMNS, [[str(value) for value in astuple(row)] for row in rows]))
    save_figure(plot_transfer(rows), figure_file, "Accuracy on classes that the source never saw, by labels per class")
    return [csv_file, markdown_file, draws_file, figure_file]


def conclusions(rows: Sequence[TransferRow]) -> list[str]:
    """Return what the rows say of fine-tuning's lead at `CHECKED_SIZE` labels, and of its choice of method, per task."""
    sentences = []
    for task in dict.fromkeys(row.task for row in rows):
        means = {
            (size, method): mean(values)
            for (_, size), group in _by_size([row for row in rows if row.task == task]).items()
            for method, values in _accuracies(group).items()
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


def _by_size(rows: Sequence[TransferRow]) -> dict[tuple[str, int], list[TransferRow]]:
    """Return the rows of each task and number of labels together."""
    groups: dict[tuple[str, int], list[TransferRow]] = {}
    for row in rows:
        groups.setdefault((row.task, row.labels_per_class), []).append(row)
    return groups


def _accuracies(rows: Sequence[TransferRow]) -> dict[str, list[float]]:
    """Return each method's accuracies, by draw."""
    return {
        name: [row.accuracy for row in rows if row.method == name] for name in dict.fromkeys(row.method for row in rows)
    }


def _mean_row(rows: Sequence[TransferRow], methods: Sequence[str]) -> list[str]:
    """Return the table's row of one task and number of labels."""
    accuracies = _accuracies(rows)
    finetune = accuracies.get("finetune", [])
    macro_f1 = [row.macro_f1 for row in rows if row.method == "finetune"]
    cells = [
        format_number(mean(values) if (values := accuracies.get(name)) else None) for name in (*methods, "finetune")
    ]
    spread = format_number(stdev(finetune) if len(finetune) > 1 else None)
    n_draws = len({row.draw for row in rows})
    return [
        rows[0].task,
        str(rows[0].labels_per_class),
        str(n_draws),
        *cells,
        spread,
        format_number(mean(macro_f1) if macro_f1 else None),
    ]
