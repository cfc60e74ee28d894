"""What `nephros reproduce` runs: plans of rows, each a recipe on some data with some seeds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nephros.data.load import request_of
from nephros.evaluation.published import Published, published
from nephros.presets import RECIPES
from nephros.recipe import Recipe
from nephros.recipe_io import read
from nephros.runs import RunFolder

SUBSET = 10_000
"""Training images of the poster's rough tuning."""
RESPLIT = (120_000, 30_000)
"""The poster's own train and validation, drawn at random."""
SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Of the train split, for the curves of accuracy against labels."""


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    key: str
    """What --only names; the run folders are KEY-SEED."""
    label: str
    """What the table calls it."""
    recipe: Recipe
    seeds: tuple[int, ...]
    data: dict[str, Any] = dataclasses.field(default_factory=dict)
    """subset and resplit, as `nephros.train` takes them."""
    published: Published | None = None
    teachers: tuple[str, ...] = ()
    """The runs (KEY-SEED) of the plan that it learns from."""
    gpu: bool = False
    """Whether it would take days without a GPU."""

    @property
    def needed(self) -> str:
        """What --only takes to have it made from nothing: the rows of its teachers, and itself."""
        return ",".join([*dict.fromkeys(name.rpartition("-")[0] for name in self.teachers), self.key])

    def seeded(self, seed: int) -> Recipe:
        """Return the recipe of one of its runs."""
        return dataclasses.replace(self.recipe, seed=seed)

    def request(self, source: str, seed: int) -> dict[str, Any]:
        """Return how one of its runs opens its data, as run.json says it."""
        return request_of(source, seed=seed if self.data else 0, **self.data)

    def made(self, folder: RunFolder, source: str, seed: int) -> bool:
        """Return whether a run is one of its own, on that data; UserError for a damaged recipe.

        Not by the recipe's hash: a field that a later version adds, at its default, makes no other run of it.
        """
        own, info = self.recipe, folder.info()
        recipe = dataclasses.replace(read(folder.file("recipe.yaml")), name=own.name, source=own.source)
        taught_by = tuple(Path(teacher["run"]).name for teacher in info.teachers)
        return (recipe, info.request, taught_by) == (self.seeded(seed), self.request(source, seed), self.teachers)

    def command(self, seed: int, flags: str = "") -> str:
        """Return what a user would type to make one of its runs; `flags` are those that the whole plan was given."""
        words = ["nephros train", self.recipe.name]
        named = RECIPES[self.recipe.name]
        for field in ("epochs", "passes"):
            if getattr(self.recipe, field) != getattr(named, field):
                words.append(f"--{field} {getattr(self.recipe, field)}")
        for key, value in self.data.items():
            words.append(f"--{key} {','.join(map(str, value)) if isinstance(value, tuple) else value}")
        if self.data:
            words.append(f"--data-seed {seed}")
        return " ".join([*words, f"--seed {seed}", "--test", *([flags] if flags else [])])


def seeds_plan(device_type: str) -> list[Row]:
    """Return the seed documents' systems, and the networks that they descend from or compare with.

    Three seeds where a run is under ten minutes on two CPU cores, and one of the longer ones. On a CPU nephnet2d gets the
    epochs that an hour allows, and the ResNets are left out; on a GPU all are trained in full.
    """
    by_recipe = {row.recipe: row for row in published() if row.recipe}
    rows = []
    for number in range(1, 8):
        recipe = RECIPES[f"course-{number}"]
        rows.append(_row(recipe, (0, 1, 2) if recipe.epochs == 5 else (0,), by_recipe))
    poster, printed = RECIPES["poster"], RECIPES["poster-printed"]
    short = dataclasses.replace(poster, epochs=40)
    rows += [
        _row(short, (0,), by_recipe),
        Row("poster-resplit", "poster, 120,000 / 30,000", short, (0,), {"resplit": RESPLIT}, by_recipe["poster"]),
        Row("poster-subset", "poster, 10,000 images", poster, (0, 1, 2), {"subset": SUBSET}, by_recipe["poster"]),
        Row(
            "poster-printed-subset",
            "poster-printed, 10,000 images",
            printed,
            (0, 1, 2),
            {"subset": SUBSET},
            by_recipe["poster"],
        ),
    ]
    nephnet = RECIPES["nephnet2d"]
    on_gpu = device_type == "cuda"
    rows.append(_row(nephnet if on_gpu else dataclasses.replace(nephnet, epochs=4), (0,), by_recipe))
    heavy = ("medmnist-resnet18", "medmnist-resnet50", "strong-baseline")
    return rows + [dataclasses.replace(_row(RECIPES[name], (0,), by_recipe), gpu=True) for name in heavy]


def _row(recipe: Recipe, seeds: tuple[int, ...], by_recipe: dict[str, Published]) -> Row:
    return Row(recipe.name, recipe.name, recipe, seeds, published=by_recipe.get(recipe.name))


def labels_plan(images: int) -> list[Row]:
    """Return `course-1` and `nephros` on shares of a train split of so many images, three seeds each.

    Every run takes the steps of one on all images, five epochs of course-1 and three of nephros, to 2 %: a smaller split
    is gone through more often. So the figures differ by the images alone.
    """
    rows = []
    for name, epochs in (("course-1", 5), ("nephros", 3)):
        for share in SHARES:
            turns, passes = _turns(epochs, share)
            recipe = dataclasses.replace(RECIPES[name], epochs=turns, passes=passes)
            part: dict[str, Any] = {} if share == 1 else {"subset": round(share * images)}
            rows.append(Row(f"{name}-{share:g}", f"{name}, {share:.0%} of the images", recipe, (0, 1, 2), part))
    return rows


def ours_plan() -> list[Row]:
    """Return our own recipes, with three seeds, and those that learn from two runs of nephros."""
    own = [Row(name, name, RECIPES[name], (0, 1, 2)) for name in ("nephros-fast", "nephros")]
    taught = [RECIPES[name] for name in ("nephros-distilled", "nephros-large")]
    return own + [Row(one.name, one.name, one, (0,), teachers=("nephros-0", "nephros-1")) for one in taught]


def _turns(epochs: int, share: float) -> tuple[int, int]:
    """Return the epochs, and passes in each, on a share of a split that come nearest to `epochs` on all of it."""
    total = epochs / share
    choices = [(turns, max(1, round(total / turns))) for turns in range(epochs, 4 * epochs + 1)]
    return min(choices, key=lambda choice: abs(choice[0] * choice[1] - total))
