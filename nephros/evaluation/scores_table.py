"""An Evaluation as a table on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from nephros.console import table_console
from nephros.evaluation.scoring import Evaluation


def format_or_dash(value: float | None) -> str:
    """Return four decimals, or a dash for what could not be computed."""
    return "-" if value is None else f"{value:.4f}"


def print_evaluation(evaluation: Evaluation, console: Console | None = None) -> None:
    """Print the headline figures and the table by class."""
    console = console or table_console()
    metrics = evaluation.metrics
    interval = metrics["accuracy_interval"]
    console.print(f"{metrics['provenance']['title']}: {metrics['split']}, {metrics['n']:,} images")
    console.print(
        f"accuracy {metrics['accuracy']:.4f}  ({interval['low']:.4f} to {interval['high']:.4f}, {interval['method']})"
    )
    for key in ("auc", "macro_f1", "macro_precision", "macro_recall", "loss", "expected_calibration_error"):
        console.print(f"{key} {format_or_dash(metrics[key])}")
    table = Table(title=f"by class ({metrics['provenance']['title']})")
    for heading in ("class", "name"):
        table.add_column(heading)
    for heading in ("precision", "recall", "F1", "AUC", "support"):
        table.add_column(heading, justify="right")
    for row in metrics["per_class"]:
        values = [format_or_dash(row[key]) for key in ("precision", "recall", "f1", "auc")]
        table.add_row(str(row["class"]), row["name"], *values, f"{row['support']:,}")
    console.print(table)
