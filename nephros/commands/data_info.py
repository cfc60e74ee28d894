"""nephros data info."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nephros.commands.parser import DATA_HELP, CommandParser

if TYPE_CHECKING:
    from nephros.data.load import DatasetSummary


def data_info(argv: list[str]) -> int:
    """nephros data info"""
    parser = CommandParser(
        "data info", "Describe a data set: its source, the size of its images, and the images per class and split."
    )
    parser.add_argument("source", help=DATA_HELP)
    parser.option("size", "pixels per side: 28, 64, 128 or 224 (default: 28)", int)
    args = parser.parse_argv(argv)
    from nephros.data.load import describe, load

    _print_summary(describe(load(args["source"], size=args.get("size"))))
    return 0


def _print_summary(summary: DatasetSummary) -> None:
    from nephros.console import table_console
    from nephros.text_tables import terminal_table

    console = table_console()
    height, width = summary.image_size
    console.print(f"{summary.title}: {summary.task}, {height}x{width} pixels, {summary.channels} channel(s)")
    for name in ("path", "sha256", "detail", "license"):
        if value := getattr(summary, name):
            console.print(f"{name}: {value}")
    console.print(f"training pixels: mean {summary.pixel_mean:.4f}, std {summary.pixel_std:.4f} (from 0 to 1)")
    rows = [
        [str(label), class_name, *(f"{counts[label]:,}" for counts in summary.class_counts.values())]
        for label, class_name in enumerate(summary.class_names)
    ]
    rows.append(["", "all", *(f"{n:,}" for n in summary.split_sizes.values())])
    splits = list(summary.split_sizes)
    console.print(terminal_table(summary.title, ["class", "name", *splits], rows, numeric=splits))
    for warning in summary.warnings:
        console.print(f"warning: {warning}")
