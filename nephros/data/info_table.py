"""A data set as a table on the terminal."""

from __future__ import annotations

from rich.table import Table

from nephros.console import table_console
from nephros.data.dataset import SPLITS, Dataset
from nephros.data.load import describe


def print_dataset(dataset: Dataset) -> None:
    """Print what `describe` says."""
    summary = describe(dataset)
    console = table_console()
    height, width = summary["image_size"]
    console.print(f"{summary['title']}: {summary['task']}, {height}x{width} pixels, {summary['channels']} channel(s)")
    for key in ("path", "sha256", "detail", "license"):
        if summary[key]:
            console.print(f"{key}: {summary[key]}")
    console.print(f"pixels of the train split: mean {summary['pixel_mean']:.4f}, std {summary['pixel_std']:.4f} (of 1)")
    table = Table(title=summary["title"])
    table.add_column("class")
    table.add_column("name")
    for name in SPLITS:
        table.add_column(name, justify="right")
    for c, class_name in enumerate(summary["class_names"]):
        table.add_row(str(c), class_name, *(f"{summary['class_counts'][name][c]:,}" for name in SPLITS))
    table.add_row("", "all", *(f"{summary['split_sizes'][name]:,}" for name in SPLITS), style="bold")
    console.print(table)
    for warning in summary["warnings"]:
        console.print(f"warning: {warning}")
