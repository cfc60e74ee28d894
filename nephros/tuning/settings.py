"""What a study is: the settings that decide its result, written once at its start and never changed."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

from nephros.data.load import DataRequest, data_request
from nephros.data.provenance import ProvenanceRecord
from nephros.device import resolve_device
from nephros.environment import git_commit, package_versions
from nephros.errors import IncompatibleError, InvalidArgument
from nephros.recipe import MetricName, Recipe
from nephros.recipe_io import recipe_from_dict, resolve_recipe
from nephros.tuning.defaults import default_space
from nephros.tuning.hyperband import Bracket, select_brackets
from nephros.tuning.space import parse_space, read_space, space_to_dict

SamplerName = Literal["random", "tpe"]


@dataclass(frozen=True)
class StudySettings:
    """A study's settings: studies with equal settings, on one kind of device and one build of torch, have equal results."""

    name: str
    recipe: dict[str, Any]
    """The base recipe, as Recipe.to_dict: sampled values replace its own; its epochs are max_epochs, its metric is metric."""
    space: dict[str, Any]
    """What is searched, as in a space file: dotted field -> dimension."""
    max_epochs: int
    """R of Algorithm 1."""
    eta: int
    brackets: str
    """all, or one such as s=3."""
    metric: MetricName
    sampler: SamplerName
    seed: int
    """Seed of the sampler, the subset and every trial."""
    threads_per_trial: int
    """CPU threads per trial; more or fewer change the last bits of sums."""
    device_type: str
    """cpu or cuda."""
    data_request: DataRequest
    """source, size, seed and groups, as `nephros.load_dataset` takes them."""
    subset: int | None
    """Training images that trials see, with a quarter as many validation images; None is all of both."""
    data: ProvenanceRecord
    """Of the data before the subset is drawn."""
    versions: dict[str, str]
    commit: str | None
    created: str
    """UTC, ISO 8601."""
    command: str
    """The command that would start the study again; "" for one started in Python."""

    @property
    def base_recipe(self) -> Recipe:
        """The recipe whose fields sampled values replace."""
        return recipe_from_dict(self.recipe, f"The recipe of study {self.name}")

    @property
    def planned_brackets(self) -> tuple[Bracket, ...]:
        """The brackets to run, in this order."""
        return select_brackets(self.max_epochs, self.eta, self.brackets)

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is a loss."""
        return self.metric == "val_loss"

    def __post_init__(self) -> None:
        _check_option("metric", self.metric, get_args(MetricName))
        _check_option("sampler", self.sampler, get_args(SamplerName))
        if self.threads_per_trial < 1:
            raise InvalidArgument("threads_per_trial", self.threads_per_trial, "a whole number of at least 1")
        if self.subset is not None and self.subset < 1:
            raise InvalidArgument("subset", self.subset, "a whole number of at least 1")
        if not 0 <= self.seed < 2**31:
            raise InvalidArgument("seed", self.seed, "a whole number from 0 to 2^31 - 1")
        _ = self.planned_brackets

    def check(self) -> None:
        """Raise the error of recipe or space for stored settings that no study has."""
        parse_space(self.space, self.base_recipe, f"The space of study {self.name}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    def check_versions(self) -> None:
        """Raise IncompatibleError when the installed packages may sample or compute differently from those of the study."""
        current = _current_versions()
        for package in ("nephros", "torch", "optuna"):
            recorded = self.versions.get(package, current[package])
            if recorded != current[package]:
                raise IncompatibleError(
                    f"The study {self.name} was made with {package} {recorded}, but {current[package]} is installed, which "
                    "may compute differently: install that version, or start a new study."
                )


def plan_study(
    recipe: str | Path | Recipe = "poster",
    *,
    max_epochs: int = 27,
    eta: int = 3,
    brackets: str = "all",
    subset: int | None = None,
    metric: MetricName | None = None,
    space: str | Path | dict[str, Any] | None = None,
    sampler: SamplerName = "random",
    seed: int = 0,
    threads_per_trial: int = 1,
    name: str | None = None,
    device: str = "auto",
    command: str = "",
) -> StudySettings:
    """Return the settings of a study of `recipe`, without its data.

    `space` is a file, a mapping such as a file holds, or None for the default space of the recipe's network. `metric` is the
    recipe's own unless given. Raises InvalidArgument or SpaceError for what can't be used.
    """
    base = resolve_recipe(recipe)
    if base.is_classical:
        hint = f"`nephros.train({base.name!r})` tries all values of a classical baseline on validation."
        raise InvalidArgument("recipe", base.name, "the recipe of a network", hint=hint)
    if base.distillation_weight:
        raise InvalidArgument("distillation_weight", base.distillation_weight, "0 in a study, which has no teachers")
    if metric is not None:
        _check_option("metric", metric, get_args(MetricName))
    overrides: dict[str, Any] = {"seed": seed, "metric": metric or base.metric, "epochs": max(1, max_epochs)}
    base = recipe_from_dict(base.to_dict() | overrides, "The recipe")
    device_type = resolve_device(device).type
    if space is None:
        dimensions = default_space(base, device_type)
    elif isinstance(space, dict):
        dimensions = parse_space(space, base, "The space")
    else:
        dimensions = read_space(Path(space).expanduser(), base)
    return StudySettings(
        name=_study_name(base, name),
        recipe=base.to_dict(),
        space=space_to_dict(dimensions),
        max_epochs=max_epochs,
        eta=eta,
        brackets=brackets,
        metric=base.metric,
        sampler=sampler,
        seed=seed,
        threads_per_trial=threads_per_trial,
        device_type=device_type,
        data_request=data_request(""),
        subset=subset,
        data=cast(ProvenanceRecord, {}),  # until the data is open
        versions=_current_versions(),
        commit=git_commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
    )


def _check_option(parameter: str, value: str, options: tuple[str, ...]) -> None:
    if value not in options:
        raise InvalidArgument(parameter, value, f"one of {', '.join(options)}")


def _study_name(base: Recipe, name: str | None) -> str:
    """Return the study's name, which its folder has too; InvalidArgument when no folder can."""
    if name is None:
        slug = re.sub(r"[^\w.-]+", "-", base.name).strip("-.") or "study"
        return f"{slug}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
    if not re.fullmatch(r"\w[\w.+ -]*", name):
        expected = "letters, digits, spaces and - _ . + only, as the study's folder has this name"
        raise InvalidArgument("name", name, expected)
    return name


def _current_versions() -> dict[str, str]:
    return package_versions() | {"optuna": importlib.metadata.version("optuna")}
