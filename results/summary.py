"""Write summary.csv, the bundled models among runs of the recipes and published results: python -m results.summary

Figures of bundled models are those of their cards, for the image alone; frontier.csv has their training. Runs and published
results are the rows of compare/compare.csv.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from nephros.files import write_text
from nephros.inference.bundled import bundled_names
from nephros.inference.model_names import bundled_card
from nephros.presets import RECIPES
from nephros.text_tables import csv_table, format_number, pluralize

HERE = Path(__file__).parent
RUN = re.compile(r"(?P<run>\S+) \((?P<recipe>\S+)\)|(?P<classical>(?:svm|knn)\S*)")
"""Method of a run in compare.csv."""
HEADERS = (
    "method", "input", "views", "split", "accuracy", "low", "high", "interval", "auc", "macro_f1", "parameters", "training",
)  # fmt: skip
KEPT = ("input", "split", "accuracy", "low", "high", "interval", "auc", "macro_f1", "parameters")


def summary_rows() -> list[dict[str, str]]:
    """Return bundled models, runs and published results by falling accuracy on test."""
    frontier = _read_csv("frontier.csv")
    rows = [_bundled_row(name, frontier) for name in bundled_names()]
    rows += [_compared_row(row) for row in _read_csv("compare/compare.csv")]
    return sorted(rows, key=lambda row: -float(row["accuracy"]))


def _bundled_row(name: str, frontier: Sequence[dict[str, str]]) -> dict[str, str]:
    card = bundled_card(name)
    test, interval = card["test"], card["test"]["accuracy_interval"] if card["test"] else None
    assert test is not None
    assert interval is not None
    (trained,) = (
        row
        for row in frontier
        if row["network"].endswith(f"bundled as {name})") or row["network"] == f"{name} (bundled)"
    )
    return {
        "method": f"{name}, bundled",
        "input": str(card["input"]["height"]),
        "views": str(card["network"]["tta_views"]),
        "split": f"{card['data']['split']} test",
        "accuracy": format_number(test["accuracy"]),
        "low": format_number(interval["low"]),
        "high": format_number(interval["high"]),
        "interval": f"{interval['level']:.0%}",
        "auc": format_number(test["auc"]),
        "macro_f1": format_number(test["macro_f1"]),
        "parameters": str(card["network"]["parameters"]),
        "training": _training(trained["minutes"], trained["device"], trained["started_from"], len(card["teachers"])),
    }


def _compared_row(row: dict[str, str]) -> dict[str, str]:
    kept = {key: row[key] for key in KEPT}
    match = RUN.fullmatch(row["method"])
    if match is None:
        return {"method": row["method"], "views": "", "training": "", **kept}
    recipe = match["recipe"] or match["classical"]
    teachers = re.search(r"--teachers (\S+)", row["source"])
    training = _training(row["training_minutes"], row["device"], "", len(teachers[1].split(",")) if teachers else 0)
    return {"method": f"{recipe}, recipe", "views": str(RECIPES[recipe].tta_views), "training": training, **kept}


def _training(minutes: str, device: str, started_from: str, n_teachers: int) -> str:
    """Return such as ``2.0 minutes on an H100, from nephros-distilled, 3 teachers``, with the device since times depend on it."""
    parts = [f"{minutes} minutes on {_place(device)}"]
    parts += [f"from {started_from}"] if started_from else []
    parts += [pluralize(n_teachers, "teacher")] if n_teachers else []
    return ", ".join(parts)


def _place(device: str) -> str:
    """Return a run's device in a sentence, such as ``an H100`` or ``2 CPU threads, bf16``: minutes compare on one device only."""
    return "an H100" if "H100" in device else re.sub(r"^CPU, (\d+)", r"\1 CPU", device)


def _read_csv(name: str) -> list[dict[str, str]]:
    with open(HERE / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Write the table beside this file."""
    rows = [[row[header] for header in HEADERS] for row in summary_rows()]
    write_text(HERE / "summary.csv", csv_table(HEADERS, rows))


if __name__ == "__main__":
    main()
