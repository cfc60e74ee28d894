"""Looking at a study: what it found so far, its report, and the recipe of its best configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nephros.console import table_console
from nephros.errors import NephrosError
from nephros.recipe import Recipe
from nephros.reporting.study.page import write_study_report
from nephros.tuning.optuna_storage import StudyStorage, storage_url
from nephros.tuning.progress import progress_table
from nephros.tuning.settings import StudySettings
from nephros.tuning.study_folder import StudyFolder
from nephros.tuning.study_state import StudyState

Say = Callable[[str], None]


def open_storage(
    folder: StudyFolder, settings: StudySettings, stored_url: str, storage_override: str | None, say: Say
) -> StudyStorage:
    """Return where the study's trials are kept: at `storage_override`, else where they were `stored_url`, else in its folder."""
    return StudyStorage(storage_url(storage_override or stored_url or str(folder.database)), settings.name, say)


def load_study(study: str | Path, storage: str | None = None) -> tuple[StudyFolder, StudyState]:
    """Return a study's folder and what is known of it; UserError when it has not begun."""
    folder = StudyFolder.open(study)
    settings, stored_url, _ = folder.read()
    study_storage = open_storage(folder, settings, stored_url, storage, print)
    if not study_storage.initialized:
        raise NephrosError(
            f"The study {settings.name} has not begun: `nephros tune --resume {folder.cli_name}` starts it."
        )
    return folder, study_storage.load_state()


def show_study(study: str | Path, *, storage: str | None = None, say: Say = print) -> StudyState:
    """Print how far a study is and what it found, and write its report; it may be running meanwhile."""
    folder, study_state = load_study(study, storage)
    table_console().print(progress_table(study_state))
    report_study(folder, study_state, say)
    return study_state


def best_recipe(study: str | Path, *, storage: str | None = None) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe of a study's best configuration so far, named RECIPE-tuned, and how to open the study's data."""
    folder, study_state = load_study(study, storage)
    best, settings = study_state.best, study_state.settings
    if best is None:
        raise NephrosError(
            f"The study {settings.name} has no finished rung to choose from: `nephros tune --show {folder.cli_name}` shows "
            "how far it is."
        )
    source = (
        f"best of study {settings.name} ({settings.data['title']}): {settings.metric} {best.value:.4f} "
        f"after {best.epochs} epochs, bracket s={best.key[0]}"
    )
    recipe = study_state.recipe(best.key)
    return dataclasses.replace(recipe, name=f"{recipe.name}-tuned", source=source), settings.data_request


def report_study(folder: StudyFolder, study_state: StudyState, say: Say) -> None:
    """Say what a study found, and write its report; UserError when everything in it failed."""
    tag = "synthetic-" if study_state.settings.data["split"] == "synthetic" else ""
    page = write_study_report(study_state, folder.root, tag)
    best, metric = study_state.best, study_state.settings.metric
    if best is None:
        reasons = [config.error for config in study_state.configs.values() if config.error]
        if study_state.finished:
            raise NephrosError(
                f"Every configuration failed; the first said: {reasons[0]} Narrow the space and tune again."
            )
        say("no rung is finished yet")
    else:
        values = ", ".join(
            f"{key} {_format_value(value)}" for key, value in study_state.configs[best.key].params.items()
        )
        say(f"best: {metric} {best.value:.4f} after {best.epochs} epochs (s{best.key[0]}#{best.key[1]}): {values}")
        if study_state.best_metrics is not None:
            n, accuracy, loss = (study_state.best_metrics[key] for key in ("n", "accuracy", "loss"))
            say(f"on all of validation ({n:,} images): accuracy {accuracy:.4f}, loss {loss:.4f}")
        say(f"train it on the whole train split: nephros train --from-study {folder.cli_name}")
    say(f"report: {page}")


def _format_value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
