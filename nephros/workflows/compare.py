"""Runs beside one another and beside published results."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nephros.errors import NephrosError
from nephros.evaluation.comparison import Comparison
from nephros.evaluation.leaderboard import LeaderboardRow, leaderboard, row_from_run
from nephros.evaluation.published import PUBLISHED_DATASET
from nephros.evaluation.scoring import Evaluation, ensemble
from nephros.evaluation.significance import PairedComparison, compare_paired, holm
from nephros.recipe import Recipe
from nephros.recipe_io import read_recipe
from nephros.runs import RunFolder, RunInfo


@dataclass(frozen=True)
class _ScoredRun:
    name: str
    info: RunInfo
    row: LeaderboardRow
    evaluation: Evaluation


def compare(
    runs: Sequence[str | Path], split: str | None = None, *, published: bool = True, ensemble: bool = False
) -> Comparison:
    """Return the runs' results on a split beside each other and, for TissueMNIST, beside what others have published.

    `split` is test where every run has been scored on it, and val otherwise, unless given. Nothing is scored: a split that
    a run was not scored on is a UserError that says how to. With `ensemble` the mean of all runs' probabilities is one more
    row, which costs what they cost together.
    """
    if not runs:
        raise NephrosError("`nephros compare` needs at least one RUN: name folders that `nephros train` made.")
    if split not in (None, "val", "test"):
        raise NephrosError(f"--split is {split}, but it must be one of val, test.")
    folders = [RunFolder.open(run) for run in runs]
    if len({folder.root.resolve() for folder in folders}) < len(folders):
        raise NephrosError("A run is named twice: name each once.")
    if split is None:
        split = "test" if all(folder.file("test", "metrics.json").is_file() for folder in folders) else "val"
    names = _display_names(folders)
    scored_runs = [_load_scored_run(folder, name, split) for folder, name in zip(folders, names, strict=True)]
    scored_runs += [_ensemble_run(scored_runs, split)] if ensemble else []
    run_rows = [run.row for run in scored_runs]
    show_published = published and any(run.info.data["key"] == PUBLISHED_DATASET for run in scored_runs)
    rows = leaderboard(run_rows) if show_published else sorted(run_rows, key=lambda row: -row.accuracy)
    titles = list(dict.fromkeys(str(run.info.data["title"]) for run in scored_runs))
    best = max(scored_runs, key=lambda run: run.row.accuracy)
    others = [run for run in scored_runs if run is not best]
    comparable = [run for run in others if _same_images(best, run)]
    comparisons = holm([_compare_runs(best, run) for run in comparable])
    paired_tests = [(best.name, run.name, comparison) for run, comparison in zip(comparable, comparisons, strict=True)]
    return Comparison(split, "; ".join(titles), rows, paired_tests, _notes(scored_runs, best, split, show_published))


def _display_names(folders: Sequence[RunFolder]) -> list[str]:
    """Return the folders' own names, with their parents' where two are the same."""
    names = [folder.root.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    return ["/".join(folder.root.resolve().parts[-2:]) for folder in folders]


def _load_scored_run(folder: RunFolder, name: str, split: str) -> _ScoredRun:
    info, recipe = folder.info(), read_recipe(folder.file("recipe.yaml"))
    if not folder.file(split, "metrics.json").is_file():
        raise NephrosError(
            f"{folder.root} has not been scored on {split}: run `nephros evaluate {folder.root} --split {split}`"
            + (", or compare on validation with --split val." if split == "test" else ".")
        )
    evaluation = Evaluation.from_run(folder, split)
    method = info.recipe if info.recipe == name else f"{name} ({info.recipe})"
    row = row_from_run(info, recipe, evaluation.metrics, split, method, source=info.command or "a call from Python")
    return _ScoredRun(name, info, row, evaluation)


def _ensemble_run(runs: Sequence[_ScoredRun], split: str) -> _ScoredRun:
    """Return all runs as one, which answers with the mean of their probabilities."""
    first = runs[0]
    if len(runs) < 2 or not all(_same_images(first, run) for run in runs):
        raise NephrosError("--ensemble needs two runs or more, all scored on the same images: name such.")
    evaluation = ensemble([run.evaluation for run in runs], tuple(first.info.class_names))
    name, minutes = f"ensemble of {len(runs)}", [run.info.training_minutes for run in runs]
    info = dataclasses.replace(
        first.info,
        parameters=sum(run.info.parameters for run in runs),
        multiply_adds=sum(run.info.multiply_adds * run.info.tta_views for run in runs),
        tta_views=1,
        training_minutes=None if None in minutes else sum(filter(None, minutes)),
    )
    row = row_from_run(info, Recipe(), evaluation.metrics, split, name, "the mean of the runs' probabilities")
    return _ScoredRun(name, info, dataclasses.replace(row, checkpoint="each run's own"), evaluation)


def _same_images(first: _ScoredRun, second: _ScoredRun) -> bool:
    """Return whether both were scored on the same images in the same order."""
    first_hash, second_hash = (run.evaluation.metrics.get("images_sha256") for run in (first, second))
    if first_hash is None or second_hash is None:  # scored before the images were recorded
        requests = [
            {**run.info.data_request, "subset": None, "sha256": run.info.data["sha256"]} for run in (first, second)
        ]
        return requests[0] == requests[1]
    return bool(first_hash == second_hash)


def _compare_runs(first: _ScoredRun, second: _ScoredRun) -> PairedComparison:
    correct = [run.evaluation.probabilities.argmax(axis=1) == run.evaluation.labels for run in (first, second)]
    return compare_paired(*correct)


def _notes(runs: Sequence[_ScoredRun], best: _ScoredRun, split: str, show_published: bool) -> list[str]:
    notes = []
    if any(run.info.data["split"] == "synthetic" for run in runs):
        notes.append("Some runs are on synthetic cells, made up by nephros: their numbers say nothing about kidneys.")
    if split == "val":
        notes.append(
            "Runs are judged on validation, which steers training and the choice of recipe and flatters accordingly."
        )
    if len(runs) > 2:
        notes.append(
            f"{best.name} was picked as the best of {len(runs)} before it was tested against them, which flatters it."
        )
    incomparable = [run.name for run in runs if not _same_images(best, run)]
    if incomparable:
        notes.append(
            f"Not scored on the same images as {best.name}, and so not tested against it: {', '.join(incomparable)}."
        )
    if show_published and any(
        run.info.data["key"] == PUBLISHED_DATASET and run.info.data["split"] != "official" for run in runs
    ):
        notes.append(
            "Published results are on the official test split, these runs' on another of the same images: a difference of a "
            "point or two says little."
        )
    if split == "test" and len(runs) > 1:
        notes.append("Choosing a run by its test accuracy makes that figure too good: choose on validation.")
    return notes
