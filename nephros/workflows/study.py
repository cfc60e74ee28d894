"""Look at a study: its progress, its report, and the recipe of its best configuration."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

from nephros.data.load import DataRequest, is_builtin
from nephros.data.relocation import reopen_dataset
from nephros.errors import FileError, IncompleteError, NephrosError
from nephros.recipe import Recipe
from nephros.reporting.study.page import write_study_report
from nephros.text_tables import pluralize
from nephros.tuning.database import storage_url
from nephros.tuning.optuna_storage import StudyStorage
from nephros.tuning.study_folder import StudyFolder, StudyManifest
from nephros.tuning.study_state import StudyState

logger = logging.getLogger(__name__)
_READING_PATIENCE_S = 20.0
"""Seconds for which a command that only looks at a study waits for an unreachable storage."""


def open_storage(folder: StudyFolder, manifest: StudyManifest, storage: str | None = None) -> StudyStorage:
    """Open the database of a study's trials: `storage`, else the manifest's, else the one in the study's folder.

    Raises FileError if that one holds other studies in its place.
    """
    url = storage_url(storage or manifest.storage or str(folder.database))
    study_storage, name = StudyStorage(url, manifest.settings.name), manifest.settings.name
    if not (storage or manifest.storage) and (names := study_storage.study_names) and name not in names:
        raise FileError(
            folder.database,
            f"{folder.database} holds the study {names[0]}, and not {name}, which {folder.manifest_file} describes: restore "
            "the two.",
        )
    return study_storage


def show_study(study: str | Path, *, storage: str | None = None) -> StudyState:
    """Return a study's state and write its report; another process may be running the study.

    Args:
        study: name of a study in studies/, or its folder.
        storage: URL of the trials' database, needed only where the stored one lacks its password.

    Raises:
        NephrosError: there is no such study, it has not started, or every configuration failed.
    """
    folder, study_state = _load_study(study, storage)
    write_report(folder, study_state)
    return study_state


def best_recipe(study: str | Path, *, storage: str | None = None) -> tuple[Recipe, DataRequest]:
    """Return the recipe of a study's best configuration so far, named RECIPE-tuned, and the request of the study's data.

    `study` and `storage` are as for `show_study`. Raises IncompleteError while the study has no finished rung.
    """
    folder, study_state = _load_study(study, storage)
    best, settings = study_state.best, study_state.settings
    if best is None:
        raise IncompleteError(
            f"The study {settings.name} has no finished rung to choose from: `nephros.show_study({folder.name!r})` shows its "
            "progress."
        )
    if not study_state.finished:
        logger.warning(
            f"The study {settings.name} is not finished, so a better configuration may follow: "
            f"`nephros.resume_study({folder.name!r})` continues it."
        )
    source = (
        f"best of study {settings.name} ({settings.data['title']}): {settings.metric} {best.value:.4f} "
        f"after {pluralize(best.epochs, 'epoch')}, bracket s={best.key[0]}"
    )
    recipe = study_state.recipe(best.key)
    request = settings.data_request
    if request["source"] and not is_builtin(request["source"]) and not Path(request["source"]).exists():
        dataset = reopen_dataset(request, settings.data, folder.root)
        request = {**request, "source": dataset.provenance.path}
    return dataclasses.replace(recipe, name=f"{recipe.name}-tuned", source=source), request


def write_report(folder: StudyFolder, study_state: StudyState) -> None:
    """Write a study's report to its folder; NephrosError when every configuration of a finished study failed."""
    page = write_study_report(study_state, folder.root)
    if study_state.best is None and study_state.finished:
        reasons = [config.error for config in study_state.configs.values() if config.error]
        raise NephrosError(
            f"Every configuration failed, the first with this error: {reasons[0]} Narrow the `space` and tune again."
        )
    logger.debug("wrote %s", page)


def _load_study(study: str | Path, storage: str | None) -> tuple[StudyFolder, StudyState]:
    """Return a study's folder and state; IncompleteError when the study has not started."""
    folder = StudyFolder.open(study)
    manifest = folder.read()
    study_storage = open_storage(folder, manifest, storage)
    study_storage.retry_seconds = _READING_PATIENCE_S
    if not study_storage.initialized:
        raise IncompleteError(
            f"The study {manifest.settings.name} has not started: `nephros.resume_study({folder.name!r})` starts it."
        )
    return folder, study_storage.load_state()
