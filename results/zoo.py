"""Write zoo.csv, the bundled models with the command that trained each, and zoo-speed.csv and .png, how fast they are.

python -m results.zoo. Images per second are those of the latest record of `benchmarks.predict_modes`; a model and precision that
it lacks has a row without them. Accuracies are those of the cards.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.common import RESULTS, format_table
from benchmarks.predict_modes import MODES
from nephros.files import write_text
from nephros.inference.bundled import DEFAULT_MODEL
from nephros.inference.model_table import models_csv
from nephros.reporting.plots.style import LIGHT_COLORS, PAGE_WIDTH, add_axes, new_figure, percent_axis, with_style
from nephros.text_tables import csv_table
from results.figure_data import save_figure, shows

HERE = Path(__file__).parent
SPEED_RECORD = RESULTS / "predict_modes.json"
COMMANDS = {
    "nephros-distilled": "python -m benchmarks.gpu --runs RUNS --stages third; "
    "python -m results.bundle nephros-distilled=RUNS/frontier/third-64",
    "nephros-fast": "python -m benchmarks.gpu --runs RUNS --stages fast; "
    "python -m results.bundle nephros-fast=RUNS/frontier/second-32",
    "nephros-large": "python -m benchmarks.gpu --runs RUNS --stages student; "
    "python -m results.bundle nephros-large=RUNS/frontier/second-128",
}
"""Model -> the command that trained it."""
ACCURACY_COLUMNS = {"int8": "val_int8", "float32": "val_accuracy"}
"""Precision -> column of zoo.csv, for the image alone."""
COLORS = {"int8": LIGHT_COLORS["val"], "float32": LIGHT_COLORS["test"]}
SPEED_HEADERS = ("model", "precision", "val_accuracy", "images_per_s", "ms_per_image", "multiply_adds")
BATCH = 256
"""Images per call in the figure, and in the column of images per second; milliseconds are of one image per call."""


def speed_rows(zoo: Sequence[dict[str, str]], record: dict[str, Any]) -> list[dict[str, str]]:
    """Return a row per bundled model and precision, by rising multiply-adds, as text for the table."""
    rates = _rows_by_model(record)
    rows = []
    for model in sorted(zoo, key=lambda row: int(row["multiply-adds"])):
        for precision, column in ACCURACY_COLUMNS.items():
            if not model[column]:
                continue
            many, single = (rates.get((model["name"], precision, batch), {}) for batch in (BATCH, 1))
            measured = {"images_per_s": many.get("images_per_s"), "ms_per_image": single.get("ms_per_image")}
            cells = [model["name"], precision, model[column], *format_table([measured])[1][0], model["multiply-adds"]]
            rows.append(dict(zip(SPEED_HEADERS, cells, strict=True)))
    return rows


def _rows_by_model(record: dict[str, Any]) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Return rows of a record by model, precision and batch, of the image alone with nothing beside it."""
    keys = {
        f"runtime, {name}": (options.get("model", DEFAULT_MODEL), options["precision"])
        for name, options in MODES.items()
        if not options.get("tta")
    }
    quiet = [row for row in record["rows"] if row["beside"] == "nothing" and row["what"] in keys]
    return {(*keys[row["what"]], row["batch"]): row for row in quiet}


def speed_points(zoo: Sequence[dict[str, str]], record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the figure shows: model, precision, accuracy on validation, images per second and their range."""
    points = []
    for (model, precision, batch), row in _rows_by_model(record).items():
        accuracy = next((card[ACCURACY_COLUMNS[precision]] for card in zoo if card["name"] == model), "")
        if batch == BATCH and accuracy:
            rate = row["images_per_s"]
            point = {"model": model, "precision": precision, "val_accuracy": float(accuracy)}
            points.append({**point, "images_per_s": rate["median"], "low": rate["min"], "high": rate["max"]})
    return sorted(points, key=lambda point: (point["precision"], -point["images_per_s"]))


@with_style
def plot_speed(points: Sequence[dict[str, Any]], hardware: dict[str, Any], file: Path) -> Figure:
    """Draw accuracy against images per second, a line per precision."""
    title = f"TissueMNIST, our own split; {hardware['threads']} threads of an {hardware['cpu']}"
    figure = new_figure(PAGE_WIDTH, 3.6, title)
    axes = add_axes(figure, 0.65, 0.15, PAGE_WIDTH - 0.65 - 0.4, 2.7)
    for precision, color in COLORS.items():
        line = [point for point in points if point["precision"] == precision]
        rates, accuracies = [point["images_per_s"] for point in line], [point["val_accuracy"] for point in line]
        axes.plot(rates, accuracies, "o-", color=color, markersize=5.5, linewidth=0.9, label=f"validation, {precision}")
        for point in line:
            axes.plot([point["low"], point["high"]], [point["val_accuracy"]] * 2, color=color, linewidth=3, alpha=0.4)
            place: dict[str, Any] = (
                {"xytext": (7, 5), "ha": "left"} if precision == "int8" else {"xytext": (-7, -7), "ha": "right"}
            )
            at = (point["images_per_s"], point["val_accuracy"])
            axes.annotate(point["model"], at, textcoords="offset points", fontsize=6.5, color=color, **place)
    axes.set_xscale("log")
    axes.margins(0.22, 0.14)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    percent_axis(axes.yaxis)
    axes.set_xlabel(f"images per second, {BATCH} per call, image alone")
    axes.set_ylabel("accuracy")
    axes.legend(loc="lower left")
    save_figure(figure, file, figure_numbers(points))
    return figure


def figure_numbers(points: Sequence[dict[str, Any]]) -> str:
    """Return the points as text."""
    return "".join(f"{json.dumps(point)}\n" for point in points)


def latest_record() -> dict[str, Any]:
    """Return the latest record of the speed of the bundled models."""
    record: dict[str, Any] = json.loads(SPEED_RECORD.read_text(encoding="utf-8"))[-1]
    return record


def main() -> None:
    """Write the tables beside this file, and draw the figure where it does not show these points."""
    text, record = models_csv(command=COMMANDS), latest_record()
    write_text(HERE / "zoo.csv", text)
    zoo = list(csv.DictReader(text.splitlines()))
    rows = [list(row.values()) for row in speed_rows(zoo, record)]
    write_text(HERE / "zoo-speed.csv", csv_table(SPEED_HEADERS, rows))
    points = speed_points(zoo, record)
    if not shows(HERE / "zoo-speed.png", figure_numbers(points)):
        plot_speed(points, record["hardware"], HERE / "zoo-speed.png")


if __name__ == "__main__":
    main()
