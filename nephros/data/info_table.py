"""A data set as a table on the terminal."""

from __future__ import annotations

from rich.table import Table

from nephros.console import table_console
from nephros.data.dataset import SPLITS, Dataset
from nephros.data.load import describe


def show_dataset(dataset: Dataset) -> None:
    """Print what `describe` says."""
    about = describe(dataset)
    console = table_console()
    height, width = about["size"]
    console.print(f"{about['title']}: {about['task']}, {height}x{width} pixels, {about['channels']} channel(s)")
    for key in ("path", "sha256", "detail", "licence"):
        if about[key]:
            console.print(f"{key}: {about[key]}")
    console.print(f"pixels of the train split: mean {about['pixel_mean']:.4f}, std {about['pixel_std']:.4f} (of 1)")
    table = Table(title=about["title"])
    table.add_column("class")
    table.add_column("name")
    for name in SPLITS:
        table.add_column(name, justify="right")
    for c, class_name in enumerate(about["classes"]):
        table.add_row(str(c), class_name, *(f"{about['counts'][name][c]:,}" for name in SPLITS))
    table.add_row("", "all", *(f"{about['images'][name]:,}" for name in SPLITS), style="bold")
    console.print(table)
    for warning in about["warnings"]:
        console.print(f"warning: {warning}")
