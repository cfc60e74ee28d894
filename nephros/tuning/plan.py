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
from nephros.environment import commit, versions
from nephros.errors import UserError
from nephros.recipe import MetricName, Recipe
from nephros.recipe_io import find, from_mapping
from nephros.tuning import space as spaces
from nephros.tuning.defaults import default_space
from nephros.tuning.progress import plan_table
from nephros.tuning.settings import SamplerName, Settings
from nephros.tuning.study_folder import STUDIES


def plan(
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
) -> Settings:
    """Return the settings of a study of `recipe`, without its data; UserError for what can't be used.

    `space` is a file, a mapping such as a file holds, or None for the network's default. `metric` is the recipe's own
    unless given. `seed` is that of the sampler, the subset and every trial.
    """
    base = find(recipe) if isinstance(recipe, str) else recipe
    if base.classical:
        raise UserError(
            f"{base.name} is no network to be tuned: `nephros train {base.name}` tries all its combinations on validation."
        )
    if base.teacher_share:
        raise UserError(f"{base.name} learns from teachers, which a study has not: set --teacher_share to 0.")
    changes: dict[str, Any] = {"seed": seed, "metric": metric or base.metric, "epochs": max(1, max_epochs)}
    base = from_mapping(base.to_dict() | changes, "The recipe")
    kind = devices.choose(device).type
    if space is None:
        searched = default_space(base, kind)
    elif isinstance(space, dict):
        searched = spaces.parse(space, base, "The space")
    else:
        searched = spaces.read(Path(space).expanduser(), base)
    return Settings(
        name=_name(base, name),
        recipe=base.to_dict(),
        space=spaces.to_dict(searched),
        max_epochs=max_epochs,
        eta=eta,
        brackets=brackets,
        metric=base.metric,
        sampler=sampler,
        seed=seed,
        threads=threads,
        device_type=kind,
        request={},
        subset=subset,
        data={},
        versions=versions() | {"optuna": optuna.__version__},
        commit=commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
    )


def _name(base: Recipe, name: str | None) -> str:
    """Return the study's name, which is a folder's too; UserError when it can't be one."""
    if name is None:
        plain = re.sub(r"[^\w.-]+", "-", base.name).strip("-.") or "study"
        return f"{plain}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
    if not re.fullmatch(r"\w[\w.+ -]*", name):
        raise UserError(
            f"--name is '{name}', but it must be a plain word of letters, digits and - _ . +: it names a folder in {STUDIES}/."
        )
    return name


def same_versions(settings: Settings) -> None:
    """Raise UserError when what runs now may draw or compute otherwise than what made the study."""
    now = versions() | {"optuna": optuna.__version__}
    for part in ("nephros", "torch", "optuna"):
        then = settings.versions.get(part, now[part])
        if then != now[part]:
            raise UserError(
                f"The study {settings.name} was made with {part} {then} and this is {now[part]}, "
                "which may compute otherwise: install that version, or start a new study."
            )


def show_plan(settings: Settings) -> None:
    """Print the brackets and rungs with their cost, and how configurations are ranked."""
    table_console().print(plan_table(settings))
    print(f"ranked by {settings.metric}; of equal configurations the earlier one goes on")


def with_data(settings: Settings, request: dict[str, Any], provenance: dict[str, Any]) -> Settings:
    """Return the settings of a study on this data."""
    return dataclasses.replace(settings, request=request, data=provenance)
