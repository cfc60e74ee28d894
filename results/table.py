"""Print a table of runs as Markdown, as the README shows it: python results/table.py RUN..."""

from __future__ import annotations

import sys
from pathlib import Path

from nephros.recipe_io import read_recipe
from nephros.runs import RunFolder


def table_row(run_dir: str) -> str:
    """Return the row of a run: recipe, minutes, and metrics on validation and test."""
    folder = RunFolder.open(run_dir)
    info = folder.info()
    recipe = read_recipe(folder.file("recipe.yaml"))
    val, test = folder.metrics("val"), folder.metrics("test")
    interval = test["accuracy_interval"]
    metrics = [
        f"{val['accuracy']:.4f}",
        f"{test['accuracy']:.4f} ({interval['low']:.4f} to {interval['high']:.4f})",
        f"{test['auc']:.4f}",
        f"{test['macro_f1']:.4f}",
        f"{info.training_minutes:.1f}",
    ]
    cells = [
        info.recipe,
        str(recipe.epochs),
        *metrics,
        str(info.seed),
        str(len(folder.test_reads())),
        f"`{info.command}`",
    ]
    return f"| {' | '.join(cells)} |"


def main(run_dirs: list[str]) -> None:
    """Print the header, one row per run, then data, device and versions."""
    headers = [
        "recipe",
        "epochs",
        "val accuracy",
        "test accuracy (95 %)",
        "test AUC",
        "test macro F1",
        "training minutes",
        "seed",
    ]
    headers += ["evaluations on test", "command"]
    print(f"| {' | '.join(headers)} |")
    print("|" + "---|" * len(headers))
    for run_dir in run_dirs:
        print(table_row(run_dir))
    infos = [RunFolder.open(run_dir).info() for run_dir in run_dirs]
    for label, values in (
        ("data", {info.data["title"] for info in infos}),
        ("device", {info.device for info in infos}),
        ("versions", {", ".join(f"{name} {version}" for name, version in info.versions.items()) for info in infos}),
    ):
        print(f"\n{label}: {'; '.join(sorted(values))}")


if __name__ == "__main__":
    main([str(Path(root)) for root in sys.argv[1:]])
