"""Plans of training runs that `nephros.reproduce` carries out: rows, each a recipe on some data with some seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from nephros.data.load import DataRequest, data_request
from nephros.errors import UnknownName
from nephros.evaluation.leaderboard import PublishedResult, published_results
from nephros.presets import RECIPES
from nephros.recipe import Recipe
from nephros.recipe_io import read_recipe
from nephros.runs import RunFolder

TUNING_SUBSET = 10_000
"""Training images of the poster's coarse tuning."""
RESPLIT = (120_000, 30_000)
"""The poster's training and validation images, drawn at random."""
TRAIN_FRACTIONS = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Fractions of the train split in the label-efficiency plan."""


@dataclass(frozen=True)
class PlanRow:
    """One row of a plan and of its table: a recipe with its seeds."""

    key: str
    """Selects the row (`only` of `nephros.reproduce`); its run folders are KEY-SEED."""
    label: str
    """Name in the table."""
    recipe: Recipe
    seeds: tuple[int, ...]
    data_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """subset and resplit, as `nephros.train` takes them."""
    published: PublishedResult | None = None
    teachers: tuple[str, ...] = ()
    """Runs (KEY-SEED) of the plan that its runs are distilled from."""
    needs_gpu: bool = False
    """Whether a run takes days without a GPU."""

    @property
    def required_keys(self) -> str:
        """Comma-separated keys that train it from scratch: its teachers' rows and its own."""
        return ",".join([*dict.fromkeys(name.rpartition("-")[0] for name in self.teachers), self.key])

    def with_seed(self, seed: int) -> Recipe:
        """Return the recipe of the run with this seed."""
        return dataclasses.replace(self.recipe, seed=seed)

    def data_request(self, source: str, seed: int) -> DataRequest:
        """Return the data_request of the run with this seed, as run.json stores it."""
        return data_request(source, seed=seed if self.data_options else 0, **self.data_options)

    def matches_run(self, folder: RunFolder, source: str, seed: int, sha256: str = "") -> bool:
        """Return whether a run is the row's run with this seed on this data; FileError for a damaged run.

        The data is the same where its path or name is, or, after a move, its digest `sha256`; empty where that is unknown.
        Recipes are compared by their fields, not by hash: a field that a later version adds, at its default, changes nothing.
        """
        expected, info = self.recipe, folder.info()
        recipe = dataclasses.replace(
            read_recipe(folder.file("recipe.yaml")), name=expected.name, source=expected.source
        )
        teachers = tuple(Path(teacher["run"]).name for teacher in info.teachers)
        if sha256 and info.data["sha256"] == sha256:
            source = info.data_request["source"]
        request: Mapping[str, object] = self.data_request(source, seed)
        # What a folder is read by; for a file, a run from before there was a choice is the same run.
        optional = {key for key in request if key not in info.data_request and not Path(source).is_dir()}
        request = {key: value for key, value in request.items() if key not in optional}
        return (recipe, info.data_request, teachers) == (self.with_seed(seed), request, self.teachers)

    def command(self, seed: int, flags: str = "") -> str:
        """Return the command that trains the run with this seed; `flags` are further flags, common to the whole plan."""
        parts = ["nephros train", self.recipe.name]
        preset = RECIPES[self.recipe.name]
        for field in ("epochs", "passes_per_epoch"):
            if getattr(self.recipe, field) != getattr(preset, field):
                parts.append(f"--{field} {getattr(self.recipe, field)}")
        for key, value in self.data_options.items():
            parts.append(f"--{key} {','.join(map(str, value)) if isinstance(value, tuple) else value}")
        if self.data_options:
            parts.append(f"--data-seed {seed}")
        return " ".join([*parts, f"--seed {seed}", "--test", *([flags] if flags else [])])


class _Keyed(Protocol):
    @property
    def key(self) -> str: ...


KeyedT = TypeVar("KeyedT", bound=_Keyed)


def select_by_key(items: Sequence[KeyedT], only: Sequence[str], kind: str, heading: str) -> list[KeyedT]:
    """Return the items with the keys `only`, or all; UnknownName, with `kind` and `heading`, for a key that does not exist."""
    keys = [item.key for item in items]
    for key in only:
        if key not in keys:
            raise UnknownName("only", key, keys, kind=kind, hint=f"{heading}: {', '.join(keys)}.")
    return [item for item in items if not only or item.key in only]


def baselines_plan(device_type: str) -> list[PlanRow]:
    """Return the systems of the course report and the poster, and the networks that they build on or compare with.

    Runs under ten minutes on two CPU cores have three seeds, longer ones one. On a CPU nephnet2d trains for about an hour and
    the ResNets are skipped; on a GPU every row is trained in full.
    """
    by_recipe = {row.recipe: row for row in published_results() if row.recipe}
    rows = []
    for number in range(1, 8):
        recipe = RECIPES[f"course-{number}"]
        rows.append(_plan_row(recipe, (0, 1, 2) if recipe.epochs == 5 else (0,), by_recipe))
    poster, poster_printed = RECIPES["poster"], RECIPES["poster-printed"]
    poster_40_epochs = dataclasses.replace(poster, epochs=40)
    rows += [
        _plan_row(poster_40_epochs, (0,), by_recipe),
        PlanRow(
            "poster-resplit",
            "poster, 120,000 / 30,000",
            poster_40_epochs,
            (0,),
            {"resplit": RESPLIT},
            by_recipe["poster"],
        ),
        PlanRow(
            "poster-subset", "poster, 10,000 images", poster, (0, 1, 2), {"subset": TUNING_SUBSET}, by_recipe["poster"]
        ),
        PlanRow(
            "poster-printed-subset",
            "poster-printed, 10,000 images",
            poster_printed,
            (0, 1, 2),
            {"subset": TUNING_SUBSET},
            by_recipe["poster"],
        ),
    ]
    nephnet = RECIPES["nephnet2d"]
    on_gpu = device_type == "cuda"
    rows.append(_plan_row(nephnet if on_gpu else dataclasses.replace(nephnet, epochs=4), (0,), by_recipe))
    gpu_recipes = ("medmnist-resnet18", "medmnist-resnet50", "strong-baseline")
    return rows + [
        dataclasses.replace(_plan_row(RECIPES[name], (0,), by_recipe), needs_gpu=True) for name in gpu_recipes
    ]


def _plan_row(recipe: Recipe, seeds: tuple[int, ...], by_recipe: dict[str, PublishedResult]) -> PlanRow:
    return PlanRow(recipe.name, recipe.name, recipe, seeds, published=by_recipe.get(recipe.name))


def labels_plan(n_train: int) -> list[PlanRow]:
    """Return the label-efficiency plan: `course-1` and `nephros` on fractions of a train split of `n_train` images.

    Three seeds each. Every run takes as many steps, within 2%, as five epochs of course-1 or three of nephros on all images:
    a smaller subset is passed over more often. So results differ by the number of images alone.
    """
    rows = []
    for name, epochs in (("course-1", 5), ("nephros", 3)):
        for fraction in TRAIN_FRACTIONS:
            n_epochs, passes = _epochs_and_passes(epochs, fraction)
            recipe = dataclasses.replace(RECIPES[name], epochs=n_epochs, passes_per_epoch=passes)
            data_options: dict[str, Any] = {} if fraction == 1 else {"subset": round(fraction * n_train)}
            rows.append(
                PlanRow(
                    f"{name}-{fraction:g}", f"{name}, {fraction:.0%} of the images", recipe, (0, 1, 2), data_options
                )
            )
    return rows


def nephros_plan() -> list[PlanRow]:
    """Return the nephros recipes: two with three seeds each, and two that are distilled from two runs of `nephros`."""
    rows = [PlanRow(name, name, RECIPES[name], (0, 1, 2)) for name in ("nephros-fast", "nephros")]
    distilled = [RECIPES[name] for name in ("nephros-distilled", "nephros-large")]
    return rows + [
        PlanRow(recipe.name, recipe.name, recipe, (0,), teachers=("nephros-0", "nephros-1")) for recipe in distilled
    ]


def _epochs_and_passes(full_epochs: int, fraction: float) -> tuple[int, int]:
    """Return (epochs, passes per epoch) on a fraction of a split whose steps come nearest to `full_epochs` on all of it."""
    total = full_epochs / fraction
    choices = [(n_epochs, max(1, round(total / n_epochs))) for n_epochs in range(full_epochs, 4 * full_epochs + 1)]
    return min(choices, key=lambda choice: abs(choice[0] * choice[1] - total))
