"""Rows of a table of results: our runs, and what others have published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nephros.data.dataset import WORD
from nephros.evaluation.published import Published, published
from nephros.recipe import Recipe
from nephros.runs import RunInfo


@dataclass(frozen=True)
class Standing:
    """One row: somebody's result, or a run's. None and empty texts stand for what is not known."""

    method: str
    input: str
    """Side of the image in pixels."""
    accuracy: float
    split: str
    """Such as ``official test``."""
    source: str
    """Who published it, or the run's folder."""
    low: float | None = None
    high: float | None = None
    """Ends of what `interval` names."""
    interval: str = ""
    """``95 %`` of a run, or ``1 sd``: one published standard deviation either way."""
    auc: float | None = None
    macro_f1: float | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    """Of one image, in all its views."""
    minutes: float | None = None
    """Of training."""
    device: str = ""
    checkpoint: str = ""
    """Which weights were kept, and by what."""
    address: str = ""
    note: str = ""
    own: bool = False
    """Whether it is one of our runs."""


def of_run(info: RunInfo, recipe: Recipe, metrics: dict[str, Any], split: str, method: str, source: str) -> Standing:
    """Return a run as a row, by its metrics.json on `split`."""
    shape, interval = info.shape, metrics["accuracy_interval"]
    height, width = shape["height"], shape["width"]
    return Standing(
        method=method,
        input=f"{height}" if height == width else f"{height} x {width}",
        accuracy=metrics["accuracy"],
        split=f"{info.data['split']} {WORD[split]}",
        source=source,
        low=interval["low"],
        high=interval["high"],
        interval=f"{100 * interval['level']:g} %",
        auc=metrics["auc"],
        macro_f1=metrics["macro_f1"],
        parameters=info.parameters,
        multiply_adds=info.multiply_adds * info.views,
        minutes=info.training_minutes,
        device=info.device,
        checkpoint=_checkpoint(info, recipe),
        note=f"95 % interval of {metrics['n']:,} cells" + ("" if split == "test" else "; not the test split"),
        own=True,
    )


def _checkpoint(info: RunInfo, recipe: Recipe) -> str:
    if recipe.classical:
        return f"best {recipe.metric}: {info.combination}"
    by = f"best {recipe.metric}" if recipe.checkpoint == "best" else "last"
    return f"{by}, epoch {info.chosen_epoch}"


def standings(own: Sequence[Standing], *, all_published: bool = False) -> list[Standing]:
    """Return `own` rows among the published ones (the headline ones, or all), the highest accuracy first."""
    others = [_of_published(row) for row in published() if row.headline or all_published]
    return sorted([*own, *others], key=lambda row: -row.accuracy)


def _of_published(row: Published) -> Standing:
    spread = row.accuracy_sd
    return Standing(
        method=row.method,
        input=row.input,
        accuracy=row.accuracy,
        split=f"{row.split} test",
        source=row.source,
        low=None if spread is None else row.accuracy - spread,
        high=None if spread is None else row.accuracy + spread,
        interval="" if spread is None else "1 sd",
        auc=row.auc,
        macro_f1=row.macro_f1,
        address=row.address,
        note=row.note,
    )
