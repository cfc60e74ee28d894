"""Write frontier.csv, .md and .png, validation accuracy against multiply-adds per image: python -m results.frontier

Records of the networks that a GPU trained are in results/frontier-runs/; `results.ensembles` adds ensembles, from their weights.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MultipleLocator, NullLocator

from nephros.evaluation.leaderboard import published_results
from nephros.evaluation.metrics import Metrics
from nephros.files import write_text
from nephros.inference.model_names import bundled_card
from nephros.reporting.plots.style import LIGHT_COLORS, LINE, MUTED, PAGE_WIDTH, add_axes, new_figure, with_style
from nephros.runs import RunFolder
from nephros.text_tables import csv_table, format_number, markdown_table
from nephros.training.history import read_history
from results.figure_data import save_figure, shows
from results.lineage import cost_of_all, training_costs

HERE = Path(__file__).parent
NETWORKS = (
    "wide-128", "wide-160", "deep-96", "student-64", "student-128", "student-160", "second-128", "second-64", "second-32",
    "third-64",
)  # fmt: skip
"""Trained on a GPU, each with its record; those of later runs follow."""
CPU_RECIPES = {"nephros": "nephros-history.csv", "nephros-distilled": "nephros-distilled-history.csv"}
"""Recipe in nephros.csv, trained on a CPU, and the epochs of its first seed."""
EARLIER = "frontier-earlier.csv"
"""Rows of networks whose records are not here: `nephros-fast` as it was bundled until the GPU trained it."""
STUDENTS = NETWORKS[3:6]
"""Taught by the first three."""
LABEL_PLACES = {
    "nephros-fast": ((7, -3), "left"),
    "nephros": ((7, 0), "left"),
    "nephros-distilled": ((7, 0), "left"),
    "student-64": ((7, 0), "left"),
    "student-128": ((-7, -9), "right"),
    "second-64": ((-7, 0), "right"),
    "third-64": ((-7, 3), "right"),
    "second-32": ((7, 0), "left"),
    "second-128": ((-7, 2), "right"),
    "wide-128": ((-7, 1), "right"),
    "deep-96": ((-7, -8), "right"),
    "student-160": ((0, 8), "center"),
    "wide-160": ((0, -9), "center"),
}
"""Network -> offset of its label in points, and alignment."""
HEADERS = (
    "network", "val_accuracy", "val_tta", "test_accuracy", "test_tta", "parameters", "multiply_adds", "epochs", "minutes",
    "device", "started_from", "distilled_from", "training_multiply_adds", "with_teachers_and_starts", "command",
)  # fmt: skip


def frontier_rows() -> list[dict[str, str]]:
    """Return a row per network, by rising multiply-adds."""
    zoo, costs = {row["name"]: row for row in _read_csv("zoo.csv")}, training_costs(HERE)
    rows = [_cpu_row(row) for row in _read_csv("nephros.csv") if row["recipe"] in CPU_RECIPES]
    rows += _read_csv(EARLIER)
    later = sorted({folder.name for folder in (HERE / "frontier-runs").iterdir()} - {*NETWORKS})
    rows += [_gpu_row(name, zoo) for name in (*NETWORKS, *later)]
    for row in rows:
        if (name := row["network"].split(" (")[0]) in costs:
            row["training_multiply_adds"] = f"{costs[name].multiply_adds:.2e}"
            row["with_teachers_and_starts"] = f"{cost_of_all(name, costs):.2e}"
    return sorted(rows, key=lambda row: (int(row["multiply_adds"]), float(row["val_accuracy"])))


def _cpu_row(row: dict[str, str]) -> dict[str, str]:
    last = read_history(HERE / CPU_RECIPES[row["recipe"]])[-1]
    seeds = f", {row['seeds']} seeds" if row["seeds"] != "1" else ""
    return _row(
        network=f"{row['recipe']} (on a CPU{seeds})",
        val_accuracy=format_number(last.val_accuracy),
        val_tta=row["val_accuracy"],
        test_tta=row["accuracy_mean"],
        minutes=row["minutes"],
        device="CPU, 1 thread",
        distilled_from=row["distilled_from"].replace(" ", ", "),
        **{key: row[key] for key in ("parameters", "multiply_adds", "epochs", "command")},
    )


def _gpu_row(name: str, zoo: dict[str, dict[str, str]]) -> dict[str, str]:
    folder = RunFolder.open(HERE / "frontier-runs" / name)
    info, history = folder.info(), read_history(folder.file("history.csv"))
    bundled = [model for model in zoo if bundled_card(model)["network"]["weights_sha256"] == info.weights_sha256]
    tests = zoo[bundled[0]] if bundled else _earlier_test(folder)
    val_tta = (
        format_number(Metrics.from_run(folder, "val").accuracy) if info.tta_views > 1 else tests.get("val_tta", "")
    )
    return _row(
        network=f"{name} (bundled as {bundled[0]})" if bundled else name,
        val_accuracy=format_number(history[-1].val_accuracy),
        val_tta=val_tta,
        test_accuracy=tests.get("test_accuracy", ""),
        test_tta=tests.get("test_tta", ""),
        parameters=str(info.parameters),
        multiply_adds=str(info.multiply_adds),
        epochs=str(len(history)),
        minutes=format_number(info.training_minutes, 1),
        device=info.device,
        started_from=Path(info.init["source"]).name if info.init else "",
        distilled_from=", ".join(Path(teacher["run"]).name for teacher in info.teachers),
        command=info.command,
    )


def _earlier_test(folder: RunFolder) -> dict[str, str]:
    """Return the figures on test that a network had as a bundled model, which is another today; none for other networks."""
    file = folder.file("test.json")
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def _row(**cells: str) -> dict[str, str]:
    return {header: cells.get(header, "") for header in HEADERS}


@with_style
def plot_frontier(rows: Sequence[dict[str, str]], file: Path) -> Figure:
    """Draw validation accuracy of our networks, and published test accuracy as lines, since its cost is mostly unknown."""
    title = "TissueMNIST, our own split; published: official test split"
    figure = new_figure(PAGE_WIDTH, 4.4, title)
    axes = add_axes(figure, 0.65, 0.15, PAGE_WIDTH - 0.65 - 2.45, 3.5)
    for row in rows:
        is_cpu = row["device"].startswith("CPU")
        x, y = int(row["multiply_adds"]), float(row["val_accuracy"])
        color = LIGHT_COLORS["train" if is_cpu else "val"]
        axes.plot([x], [y], "o", color=color, markersize=5.5)
        name = row["network"].split(" (")[0]
        offset, alignment = LABEL_PLACES.get(name, ((0, 6), "center"))
        axes.annotate(
            name, (x, y), offset, textcoords="offset points", fontsize=6.5, color=color, ha=alignment, va="center"
        )
        if row["test_accuracy"]:
            axes.plot([x], [float(row["test_accuracy"])], "x", color=LIGHT_COLORS["test"], markersize=5)
    for label, name, marker in (
        ("validation, trained on an H100", "val", "o"),
        ("validation, trained on a CPU", "train", "o"),
        ("test, where it was read", "test", "x"),
    ):
        axes.plot([], [], marker, color=LIGHT_COLORS[name], label=label)
    for result in published_results():
        if result.headline and result.accuracy > 0.7:
            axes.axhline(result.accuracy, color=LINE, linewidth=0.8, zorder=0)
            label = f"{result.method.split(' + ')[0]} ({result.input}): {100 * result.accuracy:.1f}%, test"
            axes.annotate(
                label, (1.02, result.accuracy), xycoords=("axes fraction", "data"), fontsize=6.4, color=MUTED, va="center"
            )  # fmt: skip
    students = [row for row in rows if row["network"].startswith("nephros-fast") or row["started_from"]]
    best = {int(row["multiply_adds"]): float(row["val_accuracy"]) for row in students}  # the last of equal cost
    axes.plot([*best], [*best.values()], color=LIGHT_COLORS["val"], linewidth=0.8, alpha=0.5, zorder=0)
    axes.set_xscale("log")
    axes.set_xlim(12e6, 600e6)
    axes.xaxis.set_major_locator(FixedLocator([2**i * 1e6 for i in range(4, 10)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0.7, 0.762)
    axes.yaxis.set_major_locator(MultipleLocator(0.01))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:,.0f} M")
    axes.set_xlabel("multiply-adds per image (image alone)")
    axes.set_ylabel("accuracy")
    axes.legend(loc="lower right")
    save_figure(figure, file, figure_numbers(rows))
    return figure


def figure_numbers(rows: Sequence[dict[str, str]]) -> str:
    """Return the part of the rows that the figure shows."""
    columns = ("network", "multiply_adds", "val_accuracy", "test_accuracy", "device")
    return csv_table(columns, [[row[header] for header in columns] for row in rows])


def _read_csv(name: str) -> list[dict[str, str]]:
    with open(HERE / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Write the tables, and draw the figure where it does not show these rows."""
    rows = frontier_rows()
    cells = [[row[header] for header in HEADERS] for row in rows]
    write_text(HERE / "frontier.csv", csv_table(HEADERS, cells))
    write_text(HERE / "frontier.md", markdown_table([header.replace("_", " ") for header in HEADERS], cells))
    if not shows(HERE / "frontier.png", figure_numbers(rows)):
        plot_frontier(rows, HERE / "frontier.png")


if __name__ == "__main__":
    main()
