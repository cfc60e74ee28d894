"""Keep a study's report and a table of its configurations here: `python results/study.py STUDY NAME`.

Writes results/NAME.html (the study's own report.html), results/NAME.png (the survival plot) and results/NAME.csv.
"""

from __future__ import annotations

import csv
import io
import shutil
import sys
from pathlib import Path

from nephros.files import write_text
from nephros.tuning.study_folder import StudyFolder
from nephros.tuning.study_state import StudyState
from nephros.workflows.study import show_study

HERE = Path(__file__).parent


def table(study_state: StudyState) -> str:
    """Return a line of CSV text per configuration: its values, its state and its metric after each epoch."""
    fields = list(study_state.settings.space)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    epochs = range(1, study_state.settings.max_epochs + 1)
    writer.writerow(
        ["bracket", "index", "state", *fields, *(f"{study_state.settings.metric} {epoch}" for epoch in epochs)]
    )
    for config in study_state.configs.values():
        values = [config.params.get(field, "") for field in fields]
        curve = [f"{config.values[epoch]:.4f}" if epoch in config.values else "" for epoch in epochs]
        writer.writerow([config.bracket, config.index, config.state, *values, *curve])
    return text.getvalue()


def main(study: str, name: str) -> None:
    """Keep the study of that name, or in that folder, under `name`."""
    study_state = show_study(study)
    folder = StudyFolder.open(study).root
    shutil.copyfile(folder / "report.html", HERE / f"{name}.html")
    shutil.copyfile(folder / "figures" / "survival.png", HERE / f"{name}.png")
    write_text(HERE / f"{name}.csv", table(study_state))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
