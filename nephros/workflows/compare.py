"""Runs beside one another and beside published results."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nephros.errors import UserError
from nephros.evaluation.comparison import Comparison
from nephros.evaluation.leaderboard import Standing, of_run, standings
from nephros.evaluation.published import KEY
from nephros.evaluation.scoring import Evaluation, together
from nephros.evaluation.significance import Pair, holm, pair
from nephros.recipe import Recipe
from nephros.recipe_io import read
from nephros.runs import RunFolder, RunInfo


@dataclass(frozen=True)
class _Run:
    name: str
    info: RunInfo
    standing: Standing
    evaluation: Evaluation


def compare(
    runs: Sequence[str | Path], split: str | None = None, *, with_published: bool = True, ensemble: bool = False
) -> Comparison:
    """Return the runs' results on a split beside each other and, for TissueMNIST, beside what others have published.

    `split` is test where every run has been scored on it, and val otherwise, unless given. Nothing is scored: a split that
    a run was not scored on is a UserError that says how to. With `ensemble` the mean of all runs' probabilities is one more
    row, which costs what they cost together.
    """
    if not runs:
        raise UserError("`nephros compare` needs at least one RUN: name folders that `nephros train` made.")
    if split not in (None, "val", "test"):
        raise UserError(f"--split is {split}, but it must be one of val, test.")
    folders = [RunFolder.open(run) for run in runs]
    if len({folder.root.resolve() for folder in folders}) < len(folders):
        raise UserError("A run is named twice: name each once.")
    if split is None:
        split = "test" if all(folder.file("test", "metrics.json").is_file() for folder in folders) else "val"
    names = _names(folders)
    found = [_open(folder, name, split) for folder, name in zip(folders, names, strict=True)]
    found += [_ensemble(found, split)] if ensemble else []
    own = [run.standing for run in found]
    published = with_published and any(run.info.data["key"] == KEY for run in found)
    rows = standings(own) if published else sorted(own, key=lambda row: -row.accuracy)
    titles = list(dict.fromkeys(str(run.info.data["title"]) for run in found))
    best = max(found, key=lambda run: run.standing.accuracy)
    others = [run for run in found if run is not best]
    tested = [run for run in others if _same_images(best, run)]
    found_pairs = holm([_pair(best, run) for run in tested])
    pairs = [(best.name, run.name, one) for run, one in zip(tested, found_pairs, strict=True)]
    return Comparison(split, "; ".join(titles), rows, pairs, _notes(found, best, split, published))


def _names(folders: Sequence[RunFolder]) -> list[str]:
    """Return the folders' own names, with their parents' where two are the same."""
    names = [folder.root.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    return ["/".join(folder.root.resolve().parts[-2:]) for folder in folders]


def _open(folder: RunFolder, name: str, split: str) -> _Run:
    info, recipe = folder.info(), read(folder.file("recipe.yaml"))
    if not folder.file(split, "metrics.json").is_file():
        raise UserError(
            f"{folder.root} has not been scored on {split}: run `nephros evaluate {folder.root} --split {split}`"
            + (", or compare on validation with --split val." if split == "test" else ".")
        )
    evaluation = Evaluation.of_run(folder, split)
    method = info.recipe if info.recipe == name else f"{name} ({info.recipe})"
    standing = of_run(info, recipe, evaluation.metrics, split, method, source=info.command or "a call from Python")
    return _Run(name, info, standing, evaluation)


def _ensemble(found: Sequence[_Run], split: str) -> _Run:
    """Return all runs as one, which answers with the mean of their probabilities."""
    first = found[0]
    if len(found) < 2 or not all(_same_images(first, run) for run in found):
        raise UserError("--ensemble needs two runs or more, all scored on the same images: name such.")
    evaluation = together([run.evaluation for run in found], tuple(first.info.class_names))
    name, minutes = f"ensemble of {len(found)}", [run.info.training_minutes for run in found]
    info = dataclasses.replace(
        first.info,
        parameters=sum(run.info.parameters for run in found),
        multiply_adds=sum(run.info.multiply_adds * run.info.views for run in found),
        views=1,
        training_minutes=None if None in minutes else sum(filter(None, minutes)),
    )
    one = of_run(info, Recipe(), evaluation.metrics, split, name, "the mean of the runs' probabilities")
    return _Run(name, info, dataclasses.replace(one, checkpoint="each run's own"), evaluation)


def _same_images(first: _Run, second: _Run) -> bool:
    """Return whether both were scored on the same images in the same order."""
    one, two = (run.evaluation.metrics.get("images_sha256") for run in (first, second))
    if one is None or two is None:  # scored before the images were recorded
        asked = [{**run.info.request, "subset": None, "sha256": run.info.data["sha256"]} for run in (first, second)]
        return asked[0] == asked[1]
    return bool(one == two)


def _pair(first: _Run, second: _Run) -> Pair:
    right = [run.evaluation.probabilities.argmax(axis=1) == run.evaluation.labels for run in (first, second)]
    return pair(*right)


def _notes(found: Sequence[_Run], best: _Run, split: str, published: bool) -> list[str]:
    notes = []
    if any(run.info.data["split"] == "synthetic" for run in found):
        notes.append("Some runs are on synthetic cells, made up by nephros: their numbers say nothing about kidneys.")
    if split == "val":
        notes.append(
            "Runs are judged on validation, which steers training and the choice of recipe and flatters accordingly."
        )
    if len(found) > 2:
        notes.append(
            f"{best.name} was picked as the best of {len(found)} before it was tested against them, which flatters it."
        )
    elsewhere = [run.name for run in found if not _same_images(best, run)]
    if elsewhere:
        notes.append(
            f"Not scored on the same images as {best.name}, and so not tested against it: {', '.join(elsewhere)}."
        )
    if published and any(run.info.data["key"] == KEY and run.info.data["split"] != "official" for run in found):
        notes.append(
            "Published results are on the official test split, these runs' on another of the same images: a difference of a "
            "point or two says little."
        )
    if split == "test" and len(found) > 1:
        notes.append("Choosing a run by its test accuracy makes that figure too good: choose on validation.")
    return notes
