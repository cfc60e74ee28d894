"""Looking at a study: what it found so far, its report, and the recipe of its best configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nephros.console import table_console
from nephros.errors import UserError
from nephros.recipe import Recipe
from nephros.reporting.study.page import write_study_report
from nephros.tuning.optuna_storage import Storage, address
from nephros.tuning.progress import progress_table
from nephros.tuning.settings import Settings
from nephros.tuning.study_folder import StudyFolder
from nephros.tuning.study_state import Records

Say = Callable[[str], None]


def storage_of(folder: StudyFolder, settings: Settings, stored: str, given: str | None, say: Say) -> Storage:
    """Return where the study's trials are kept: at `given`, else where they were `stored`, else in its folder."""
    return Storage(address(given or stored or str(folder.database)), settings.name, say)


def records_of(study: str | Path, storage: str | None = None) -> tuple[StudyFolder, Records]:
    """Return a study's folder and what is known of it; UserError when it has not begun."""
    folder = StudyFolder.open(study)
    settings, stored, _ = folder.read()
    place = storage_of(folder, settings, stored, storage, print)
    if not place.begun:
        raise UserError(f"The study {settings.name} has not begun: `nephros tune --resume {folder.handle}` starts it.")
    return folder, place.records()


def show_study(study: str | Path, *, storage: str | None = None, say: Say = print) -> Records:
    """Print how far a study is and what it found, and write its report; it may be running meanwhile."""
    folder, records = records_of(study, storage)
    table_console().print(progress_table(records))
    tell(folder, records, say)
    return records


def best_recipe(study: str | Path, *, storage: str | None = None) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe of a study's best configuration so far, named RECIPE-tuned, and how to open the study's data."""
    folder, records = records_of(study, storage)
    best, settings = records.best, records.settings
    if best is None:
        raise UserError(
            f"The study {settings.name} has no finished rung to choose from: `nephros tune --show {folder.handle}` shows "
            "how far it is."
        )
    source = (
        f"best of study {settings.name} ({settings.data['title']}): {settings.metric} {best.value:.4f} "
        f"after {best.epochs} epochs, bracket s={best.key[0]}"
    )
    recipe = records.recipe(best.key)
    return dataclasses.replace(recipe, name=f"{recipe.name}-tuned", source=source), settings.request


def tell(folder: StudyFolder, records: Records, say: Say) -> None:
    """Say what a study found, and write its report; UserError when everything in it failed."""
    tag = "synthetic-" if records.settings.data["split"] == "synthetic" else ""
    page = write_study_report(records, folder.root, tag)
    best, metric = records.best, records.settings.metric
    if best is None:
        reasons = [config.error for config in records.configs.values() if config.error]
        if records.over:
            raise UserError(
                f"Every configuration failed; the first said: {reasons[0]} Narrow the space and tune again."
            )
        say("no rung is finished yet")
    else:
        values = ", ".join(f"{key} {_short(value)}" for key, value in records.configs[best.key].params.items())
        say(f"best: {metric} {best.value:.4f} after {best.epochs} epochs (s{best.key[0]}#{best.key[1]}): {values}")
        if records.judged is not None:
            n, accuracy, loss = (records.judged[key] for key in ("n", "accuracy", "loss"))
            say(f"on all of validation ({n:,} images): accuracy {accuracy:.4f}, loss {loss:.4f}")
        say(f"train it on the whole train split: nephros train --from-study {folder.handle}")
    say(f"report: {page}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
