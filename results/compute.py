"""Accuracy against the multiply-adds of training, ours beside the published: python results/compute.py RUN...

Writes compute.csv (our runs, each judged on test) and draws compute.png from it; without runs it only draws. A training
image counts three times the network's multiply-adds: once forward, twice backward; what a network's teachers spent,
and what they cost to ask, is added. Published results whose recipe is known stand at their compute, the others at the
edge, with the side of their images.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator

from nephros.evaluation.published import published
from nephros.files import write_text
from nephros.models import build
from nephros.models.flops import multiply_adds
from nephros.models.input_spec import Shape
from nephros.presets import RECIPES
from nephros.recipe_io import read
from nephros.reporting.plots.classification import WIDE
from nephros.reporting.plots.style import INK, LIGHT, LINE, MUTED, place, sheet, styled
from nephros.runs import RunFolder
from nephros.text_tables import csv_of
from nephros.training.history import from_csv, images_seen

HERE = Path(__file__).parent
TRAIN_IMAGES = {"official": 165_466, "another": 120_000}
"""By the published result's split; the other one is the poster's."""
GREY28 = Shape(1, 28, 28, 8)
FROM = 0.57
"""The accuracy at which the picture begins."""
APART = 0.0065
"""Of accuracy, between two names at the edge."""


def row(root: str) -> dict[str, str]:
    """Return one run's line of the table."""
    folder = RunFolder.open(root)
    info, test = folder.info(), folder.metrics("test")
    history, teachers = from_csv(folder.file("history.csv")), [RunFolder.open(one["run"]) for one in info.teachers]
    own = _cost(folder)
    interval = test["accuracy_interval"]
    return {
        "run": Path(root).name,
        "recipe": read(folder.file("recipe.yaml")).name,
        "parameters": str(info.parameters),
        "multiply_adds": str(info.multiply_adds),
        "images_seen": str(images_seen(history)),
        "training_multiply_adds": f"{own:.3e}",
        "with_teachers": f"{own + sum(_cost(one) + _asked(one) for one in teachers):.3e}",
        "training_minutes": f"{info.training_minutes:.1f}",
        "device": info.device,
        "test_accuracy": f"{test['accuracy']:.4f}",
        "low": f"{interval['low']:.4f}",
        "high": f"{interval['high']:.4f}",
        "command": info.command,
    }


def _cost(folder: RunFolder) -> float:
    return 3.0 * folder.info().multiply_adds * images_seen(from_csv(folder.file("history.csv")))


def _asked(teacher: RunFolder) -> float:
    """Return what it costs to ask a teacher about every training image."""
    info = teacher.info()
    return float(info.multiply_adds * info.views * sum(info.class_counts["train"]))


def theirs() -> list[tuple[str, float, float]]:
    """Return name, training multiply-adds and accuracy of the published results whose recipe is known."""
    found = []
    for one in published():
        if one.recipe and one.headline and one.recipe in RECIPES:
            recipe = RECIPES[one.recipe]
            cost = multiply_adds(build(recipe.model, GREY28), GREY28)
            plain, *more = one.method.split(" + ")
            found.append(
                (
                    f"{plain}, augmented" if more else plain,
                    3.0 * cost * TRAIN_IMAGES[one.split] * recipe.epochs,
                    one.accuracy,
                )
            )
    return found


@styled
def picture(ours: list[dict[str, str]], file: Path) -> None:
    """Draw the chart."""
    figure = sheet(WIDE, 4.6, "TissueMNIST; ours: test of our own split, published: official test split")
    axes = place(figure, 0.65, 0.1, WIDE - 0.65 - 2.6, 3.7)
    for name, compute, accuracy in theirs():
        axes.plot([compute], [accuracy], "o", color=MUTED, markersize=5)
        _name(axes, name, compute, accuracy, MUTED, (0, -11))
    for line in ours:
        compute, accuracy = float(line["with_teachers"]), float(line["test_accuracy"])
        axes.plot([compute] * 2, [float(line["low"]), float(line["high"])], color=LIGHT["test"], linewidth=2, alpha=0.5)
        axes.plot([compute], [accuracy], "o", color=LIGHT["test"], markersize=6)
        _name(axes, line["run"], compute, accuracy, LIGHT["test"], (0, 9))
    lowest = 1.0
    for one in sorted(published(), key=lambda one: -one.accuracy):
        if one.recipe or not one.headline or one.accuracy < FROM:
            continue
        lowest = min(one.accuracy, lowest - APART)
        axes.axhline(one.accuracy, color=LINE, linewidth=0.6, zorder=0)
        axes.annotate(
            f"{one.method} ({one.input.split(',')[0]})  {100 * one.accuracy:.1f} %", (1, one.accuracy), (1.05, lowest),
            xycoords=("axes fraction", "data"), textcoords=("axes fraction", "data"), fontsize=6.2, color=INK, va="center",
            arrowprops={"arrowstyle": "-", "color": LINE, "linewidth": 0.6, "relpos": (0, 0.5)},
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_ylim(bottom=FROM)
    axes.yaxis.set_major_locator(MultipleLocator(0.02))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0e}".replace("e+", "e"))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlabel("multiply-adds of training, forward and backward")
    axes.set_ylabel("test accuracy")
    figure.savefig(file, dpi=160)


def _name(axes: Axes, text: str, x: float, y: float, colour: str, offset: tuple[int, int]) -> None:
    axes.annotate(text, (x, y), offset, textcoords="offset points", fontsize=6.5, color=colour, ha="center")


def main(roots: list[str]) -> None:
    """Write the table where runs are named, and draw the picture."""
    table = HERE / "compute.csv"
    if roots:
        lines = [row(root) for root in roots]
        write_text(table, csv_of(list(lines[0]), [list(line.values()) for line in lines]))
    with open(table, encoding="utf-8", newline="") as opened:
        picture(list(csv.DictReader(opened)), HERE / "compute.png")


if __name__ == "__main__":
    main(sys.argv[1:])
