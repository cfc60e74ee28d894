"""What a study will do, decided before any data is opened."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna

from nephros import device as devices
from nephros.console import table_console
from nephros.environment import git_commit, package_versions
from nephros.errors import NephrosError
from nephros.recipe import MetricName, Recipe
from nephros.recipe_io import get_recipe, recipe_from_dict
from nephros.tuning import space as spaces
from nephros.tuning.defaults import default_space
from nephros.tuning.progress import plan_table
from nephros.tuning.settings import SamplerName, StudySettings
from nephros.tuning.study_folder import STUDIES_DIR


def plan_study(
    recipe: str | Recipe = "poster",
    *,
    max_epochs: int = 27,
    eta: int = 3,
    brackets: str = "all",
    subset: int | None = None,
    metric: MetricName | None = None,
    space: str | Path | dict[str, Any] | None = None,
    sampler: SamplerName = "random",
    seed: int = 0,
    threads: int = 1,
    name: str | None = None,
    device: str = "auto",
    command: str = "",
) -> StudySettings:
    """Return the settings of a study of `recipe`, without its data; UserError for what can't be used.

    `space` is a file, a mapping such as a file holds, or None for the network's default. `metric` is the recipe's own
    unless given. `seed` is that of the sampler, the subset and every trial.
    """
    base = get_recipe(recipe) if isinstance(recipe, str) else recipe
    if base.is_classical:
        raise NephrosError(
            f"{base.name} is no network to be tuned: `nephros train {base.name}` tries all its combinations on validation."
        )
    if base.distillation_weight:
        raise NephrosError(f"{base.name} learns from teachers, which a study has not: set --distillation_weight to 0.")
    overrides: dict[str, Any] = {"seed": seed, "metric": metric or base.metric, "epochs": max(1, max_epochs)}
    base = recipe_from_dict(base.to_dict() | overrides, "The recipe")
    device_type = devices.resolve_device(device).type
    if space is None:
        dimensions = default_space(base, device_type)
    elif isinstance(space, dict):
        dimensions = spaces.parse_space(space, base, "The space")
    else:
        dimensions = spaces.read_space(Path(space).expanduser(), base)
    return StudySettings(
        name=_study_name(base, name),
        recipe=base.to_dict(),
        space=spaces.space_to_dict(dimensions),
        max_epochs=max_epochs,
        eta=eta,
        brackets=brackets,
        metric=base.metric,
        sampler=sampler,
        seed=seed,
        threads=threads,
        device_type=device_type,
        data_request={},
        subset=subset,
        data={},
        versions=package_versions() | {"optuna": optuna.__version__},
        commit=git_commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
    )


def _study_name(base: Recipe, name: str | None) -> str:
    """Return the study's name, which is a folder's too; UserError when it can't be one."""
    if name is None:
        slug = re.sub(r"[^\w.-]+", "-", base.name).strip("-.") or "study"
        return f"{slug}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
    if not re.fullmatch(r"\w[\w.+ -]*", name):
        raise NephrosError(
            f"--name is '{name}', but it must be a plain word of letters, digits and - _ . +: "
            f"it names a folder in {STUDIES_DIR}/."
        )
    return name


def check_versions(settings: StudySettings) -> None:
    """Raise UserError when what runs now may draw or compute otherwise than what made the study."""
    current = package_versions() | {"optuna": optuna.__version__}
    for package in ("nephros", "torch", "optuna"):
        recorded = settings.versions.get(package, current[package])
        if recorded != current[package]:
            raise NephrosError(
                f"The study {settings.name} was made with {package} {recorded} and this is {current[package]}, "
                "which may compute otherwise: install that version, or start a new study."
            )


def print_plan(settings: StudySettings) -> None:
    """Print the brackets and rungs with their cost, and how configurations are ranked."""
    table_console().print(plan_table(settings))
    print(f"ranked by {settings.metric}; of equal configurations the earlier one goes on")


def with_data(settings: StudySettings, request: dict[str, Any], provenance: dict[str, Any]) -> StudySettings:
    """Return the settings of a study on this data."""
    return dataclasses.replace(settings, data_request=request, data=provenance)
