"""Write zoo.csv, the bundled models with the command that trained each: python results/zoo.py"""

from __future__ import annotations

from pathlib import Path

from nephros.files import write_text
from nephros.inference.model_table import models_csv

COMMANDS = {
    "nephros-distilled": "python -m benchmarks.gpu --runs RUNS; python -m results.bundle nephros-distilled=RUNS/student-64",
    "nephros-fast": "nephros train nephros-fast --teachers nephros-distilled --distillation_weight 0.9 --optimizer.lr 0.02 "
    "--tta_views 1 --test",
    "nephros-large": "python -m benchmarks.gpu --runs RUNS; python -m results.bundle nephros-large=RUNS/student-128",
}
"""Model -> the command that trained it."""


def main() -> None:
    """Write the table beside this file."""
    write_text(Path(__file__).with_name("zoo.csv"), models_csv(command=COMMANDS))


if __name__ == "__main__":
    main()
