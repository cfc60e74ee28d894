"""An Evaluation as a table on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from nephros.console import table_console
from nephros.evaluation.scoring import Evaluation


def number(value: float | None) -> str:
    """Return four decimals, or a dash for what could not be computed."""
    return "-" if value is None else f"{value:.4f}"


def show_evaluation(evaluation: Evaluation, console: Console | None = None) -> None:
    """Print the headline figures and the table by class."""
    console = console or table_console()
    m = evaluation.metrics
    interval = m["accuracy_interval"]
    console.print(f"{m['provenance']['title']}: {m['split']}, {m['n']:,} images")
    console.print(
        f"accuracy {m['accuracy']:.4f}  ({interval['low']:.4f} to {interval['high']:.4f}, {interval['method']})"
    )
    for key in ("auc", "macro_f1", "macro_precision", "macro_recall", "loss", "expected_calibration_error"):
        console.print(f"{key} {number(m[key])}")
    table = Table(title=f"by class ({m['provenance']['title']})")
    for heading in ("class", "name"):
        table.add_column(heading)
    for heading in ("precision", "recall", "F1", "AUC", "support"):
        table.add_column(heading, justify="right")
    for row in m["per_class"]:
        figures = [number(row[key]) for key in ("precision", "recall", "f1", "auc")]
        table.add_row(str(row["class"]), row["name"], *figures, f"{row['support']:,}")
    console.print(table)
