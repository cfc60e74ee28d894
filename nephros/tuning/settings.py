"""What a study is: everything that decides its answer, written once when it begins and never changed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from nephros.errors import NephrosError
from nephros.recipe import MetricName, Recipe
from nephros.recipe_io import recipe_from_dict
from nephros.tuning.hyperband import Bracket, select_brackets

SamplerName = Literal["random", "tpe"]


@dataclass(frozen=True)
class StudySettings:
    """A study's settings. Two studies with equal settings (on one kind of device and one build of torch) agree."""

    name: str
    recipe: dict[str, Any]
    """The recipe that configurations are laid over, as Recipe.to_dict; its epochs are max_epochs, its metric is metric."""
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
    """Of the sampler and of the subset."""
    threads: int
    """CPU threads that each trial computes with; more or fewer change the last bits of sums."""
    device_type: str
    """cpu or cuda."""
    data_request: dict[str, Any]
    """source, size and seed: how to open the data, as `nephros.load` takes them."""
    subset: int | None
    """Training images that trials see; validation is cut to a quarter of it. None is all."""
    data: dict[str, Any]
    """Provenance.to_dict of the data before the cut."""
    versions: dict[str, str]
    commit: str | None
    created: str
    """UTC, ISO 8601."""
    command: str
    """What a user would type to make the study again."""

    @property
    def base_recipe(self) -> Recipe:
        """The recipe that configurations are laid over."""
        return recipe_from_dict(self.recipe, f"The recipe of study {self.name}")

    @property
    def planned_brackets(self) -> tuple[Bracket, ...]:
        """The brackets that are run, in this order."""
        return select_brackets(self.max_epochs, self.eta, self.brackets)

    @property
    def lower_is_better(self) -> bool:
        """Whether the metric is a loss."""
        return self.metric == "val_loss"

    def __post_init__(self) -> None:
        for parameter, value, options in [
            ("--metric", self.metric, get_args(MetricName)),
            ("--sampler", self.sampler, get_args(SamplerName)),
        ]:
            if value not in options:
                raise NephrosError(f"{parameter} is {value}, but it must be one of {', '.join(options)}.")
        if self.threads < 1:
            raise NephrosError(f"--threads is {self.threads}, but it must be a whole number of at least 1.")
        if not 0 <= self.seed < 2**31:
            raise NephrosError(f"--seed is {self.seed}, but it must be a whole number from 0 to 2^31 - 1.")
        _ = self.planned_brackets

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)
