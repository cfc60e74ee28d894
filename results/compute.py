"""Accuracy against the multiply-adds of training, for runs and published results: python results/compute.py RUN...

Writes compute.csv (the runs, each evaluated on test) and draws compute.png from it; without runs it only draws. A training
image counts three times the network's multiply-adds: once forward, twice backward. The cost of a network's teachers, their
training and their predictions, is added. Published results whose recipe is known are at their compute, the others at the
edge, with the side of their images.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator

from nephros.evaluation.leaderboard import published_results
from nephros.evaluation.metrics import Metrics
from nephros.files import write_text
from nephros.models import build_network
from nephros.models.classifier import InputSpec
from nephros.models.flops import count_multiply_adds
from nephros.presets import RECIPES
from nephros.recipe_io import read_recipe
from nephros.reporting.plots.style import INK, LIGHT_COLORS, LINE, MUTED, PAGE_WIDTH, add_axes, new_figure, with_style
from nephros.runs import RunFolder
from nephros.text_tables import csv_table
from nephros.training.history import count_images_seen, read_history

HERE = Path(__file__).parent
TRAIN_IMAGES = {"official": 165_466, "another": 120_000}
"""Training images by the split of the published result; ``another`` is the poster's."""
GRAY_28 = InputSpec(1, 28, 28, 8)
Y_MIN = 0.57
"""Lower end of the accuracy axis."""
LABEL_GAP = 0.0065
"""Smallest distance, in accuracy, between two labels at the edge."""


def table_row(root: str) -> dict[str, str]:
    """Return a run's row of the table."""
    folder = RunFolder.open(root)
    info, test = folder.info(), Metrics.from_run(folder, "test")
    history, teachers = (
        read_history(folder.file("history.csv")),
        [RunFolder.open(teacher["run"]) for teacher in info.teachers],
    )
    training_cost = _training_multiply_adds(folder)
    teacher_cost = sum(
        _training_multiply_adds(teacher) + _inference_multiply_adds(teacher, info.tta_views) for teacher in teachers
    )
    interval = test.accuracy_interval
    return {
        "run": Path(root).name,
        "recipe": read_recipe(folder.file("recipe.yaml")).name,
        "parameters": str(info.parameters),
        "multiply_adds": str(info.multiply_adds),
        "images_seen": str(count_images_seen(history)),
        "training_multiply_adds": f"{training_cost:.3e}",
        "training_multiply_adds_with_teachers": f"{training_cost + teacher_cost:.3e}",
        "training_minutes": f"{info.training_minutes:.1f}",
        "device": info.device,
        "test_accuracy": f"{test.accuracy:.4f}",
        "low": f"{interval.low:.4f}",
        "high": f"{interval.high:.4f}",
        "command": info.command,
    }


def _training_multiply_adds(folder: RunFolder) -> float:
    return 3.0 * folder.info().multiply_adds * count_images_seen(read_history(folder.file("history.csv")))


def _inference_multiply_adds(teacher: RunFolder, tta_views: int) -> float:
    """Return the multiply-adds of a teacher's predictions on every training image, for each of its student's views."""
    info = teacher.info()
    return float(info.multiply_adds * tta_views * sum(info.class_counts["train"]))


def published_points() -> list[tuple[str, float, float]]:
    """Return (name, multiply-adds of training, accuracy) of the published results whose recipe is known."""
    points = []
    for result in published_results():
        if result.recipe and result.headline and result.recipe in RECIPES:
            recipe = RECIPES[result.recipe]
            cost = count_multiply_adds(build_network(recipe.model, GRAY_28), GRAY_28)
            name, *extras = result.method.split(" + ")
            points.append(
                (
                    f"{name}, augmented" if extras else name,
                    3.0 * cost * TRAIN_IMAGES[result.split] * recipe.epochs,
                    result.accuracy,
                )
            )
    return points


@with_style
def plot_compute(rows: list[dict[str, str]], file: Path) -> None:
    """Draw the chart."""
    figure = new_figure(PAGE_WIDTH, 4.6, "TissueMNIST; ours: test of our own split, published: official test split")
    axes = add_axes(figure, 0.65, 0.1, PAGE_WIDTH - 0.65 - 2.6, 3.7)
    for name, compute, accuracy in published_points():
        axes.plot([compute], [accuracy], "o", color=MUTED, markersize=5)
        _annotate(axes, name, compute, accuracy, MUTED, (0, -11))
    for row in rows:
        compute, accuracy = float(row["training_multiply_adds_with_teachers"]), float(row["test_accuracy"])
        axes.plot(
            [compute] * 2, [float(row["low"]), float(row["high"])], color=LIGHT_COLORS["test"], linewidth=2, alpha=0.5
        )
        axes.plot([compute], [accuracy], "o", color=LIGHT_COLORS["test"], markersize=6)
        _annotate(axes, row["run"], compute, accuracy, LIGHT_COLORS["test"], (0, 9))
    label_y = 1.0
    for result in sorted(published_results(), key=lambda result: -result.accuracy):
        if result.recipe or not result.headline or result.accuracy < Y_MIN:
            continue
        label_y = min(result.accuracy, label_y - LABEL_GAP)
        axes.axhline(result.accuracy, color=LINE, linewidth=0.6, zorder=0)
        label = f"{result.method} ({result.input.split(',')[0]})  {100 * result.accuracy:.1f}%"
        axes.annotate(
            label, (1, result.accuracy), (1.05, label_y),
            xycoords=("axes fraction", "data"), textcoords=("axes fraction", "data"), fontsize=6.2, color=INK, va="center",
            arrowprops={"arrowstyle": "-", "color": LINE, "linewidth": 0.6, "relpos": (0, 0.5)},
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(left=0.8 * axes.get_xlim()[0])  # for the labels of the leftmost points
    axes.set_ylim(bottom=Y_MIN)
    axes.yaxis.set_major_locator(MultipleLocator(0.02))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0e}".replace("e+", "e"))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    axes.set_xlabel("multiply-adds of training, forward and backward")
    axes.set_ylabel("test accuracy")
    figure.savefig(file, dpi=160)


def _annotate(axes: Axes, text: str, x: float, y: float, color: str, offset: tuple[int, int]) -> None:
    axes.annotate(text, (x, y), offset, textcoords="offset points", fontsize=6.5, color=color, ha="center")


def main(run_dirs: list[str]) -> None:
    """Write the table if runs are named, and draw the chart."""
    table = HERE / "compute.csv"
    if run_dirs:
        records = [table_row(run_dir) for run_dir in run_dirs]
        write_text(table, csv_table(list(records[0]), [list(record.values()) for record in records]))
    with open(table, encoding="utf-8", newline="") as file:
        plot_compute(list(csv.DictReader(file)), HERE / "compute.png")


if __name__ == "__main__":
    main(sys.argv[1:])
