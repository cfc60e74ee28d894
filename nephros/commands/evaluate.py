"""nephros evaluate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nephros.commands.messages import print_line
from nephros.commands.parser import DATA_HELP, DEVICE_HELP, GROUP_RULES_HELP, RUN_HELP, CommandParser

if TYPE_CHECKING:
    from nephros.evaluation.metrics import Metrics


def evaluate(argv: list[str]) -> int:
    """nephros evaluate"""
    parser = CommandParser(
        "evaluate",
        "Print a trained run's metrics on a split. Each evaluation on the test split is logged in the run's folder.",
    )
    parser.add_argument("run", help=RUN_HELP)
    parser.option("split", "val, test or train (default: val)")
    parser.option(
        "data",
        f"other data, whose classes are matched by name, or where the run's own is now: {DATA_HELP} (default: the run's)",
    )
    parser.option(
        "groups",
        "for --data: which images are of one patient, stack or slide, so that a split drawn here keeps them together: "
        f"{GROUP_RULES_HELP} (default: as the run has it)",
    )
    parser.option("device", DEVICE_HELP)
    parser.option(
        "medmnist",
        "also write the predictions to this folder as the CSV file of MedMNIST's Evaluator, whose name holds AUC and accuracy; "
        "for MedMNIST's data sets",
        metavar="DIR",
    )
    args = parser.parse_argv(argv)
    from nephros.runs import RunFolder
    from nephros.workflows.evaluate import evaluate as evaluate_run

    run = args.pop("run")
    _print_metrics(evaluate_run(run, **args).metrics, RunFolder.open(run).info().training_subset)
    return 0


def _print_metrics(metrics: Metrics, training_subset: str = "") -> None:
    """Print the overall metrics and the table by class, and that the run was trained on a subset if it was."""
    from nephros.console import table_console
    from nephros.text_tables import format_number, terminal_table

    def text(value: float | None) -> str:
        return format_number(value, missing="-")

    interval, title = metrics.accuracy_interval, metrics.provenance["title"]
    trained_on = f"; trained on a {training_subset}" if training_subset else ""
    print_line(f"{title}: {metrics.split}, {metrics.n:,} images{trained_on}")
    print_line(f"accuracy {text(metrics.accuracy)}  ({text(interval.low)} to {text(interval.high)}, {interval.method})")
    for name in ("auc", "macro_f1", "macro_precision", "macro_recall", "loss", "expected_calibration_error"):
        print_line(f"{name} {text(getattr(metrics, name))}")
    numeric = ("precision", "recall", "F1", "AUC", "support")
    rows = [
        [str(row.class_index), row.name, *map(text, (row.precision, row.recall, row.f1, row.auc)), f"{row.support:,}"]
        for row in metrics.per_class
    ]
    table_console().print(terminal_table(f"by class ({title})", ("class", "name", *numeric), rows, numeric=numeric))
