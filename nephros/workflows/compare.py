"""Comparing runs with one another and with published results."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nephros.errors import IncompatibleError, IncompleteError, InvalidArgument
from nephros.evaluation.leaderboard import PUBLISHED_DATASET, Comparison, LeaderboardRow, leaderboard, row_from_run
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
    """Return runs' results on a split beside one another and, for TissueMNIST, beside published results.

    The best run is tested against each other run on the same images. Nothing is evaluated anew.

    Args:
        runs: run folders.
        split: val or test; by default test if every run has been evaluated on it, else val.
        published: whether to list published results, where there are any.
        ensemble: add a row for the mean of all runs' probabilities, at the cost of all runs together.

    Raises:
        InvalidArgument: no run, a run twice, or another split.
        IncompleteError: a run has not been evaluated on the split.
        IncompatibleError: `ensemble` of runs that were not evaluated on the same images.
    """
    if not runs:
        raise InvalidArgument("runs", "empty", "one run folder or more")
    if split not in (None, "val", "test"):
        raise InvalidArgument("split", split, "val or test")
    folders = [RunFolder.open(run) for run in runs]
    if len({folder.root.resolve() for folder in folders}) < len(folders):
        raise InvalidArgument("runs", ", ".join(map(str, runs)), "different run folders", hint="One is named twice.")
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
    """Return the folders' names, with their parents' names where two are the same."""
    names = [folder.root.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    return ["/".join(folder.root.resolve().parts[-2:]) for folder in folders]


def _load_scored_run(folder: RunFolder, name: str, split: str) -> _ScoredRun:
    info, recipe = folder.info(), read_recipe(folder.file("recipe.yaml"))
    if not folder.file(split, "metrics.json").is_file():
        alternative = ", or compare on validation (`split` val)" if split == "test" else ""
        raise IncompleteError(
            f"{folder.root} has not been evaluated on {split}: do so with `nephros.evaluate('{folder.root}', split='{split}')`"
            f"{alternative}."
        )
    evaluation = Evaluation.from_run(folder, split)
    method = info.recipe if info.recipe == name else f"{name} ({info.recipe})"
    row = row_from_run(info, recipe, evaluation.metrics, split, method, source=info.command or "a call from Python")
    return _ScoredRun(name, info, row, evaluation)


def _ensemble_run(runs: Sequence[_ScoredRun], split: str) -> _ScoredRun:
    """Return all runs as one, whose probabilities are the mean of theirs."""
    first = runs[0]
    if len(runs) < 2 or not all(_same_images(first, run) for run in runs):
        raise IncompatibleError("`ensemble` needs two or more runs that were evaluated on the same images.")
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
    """Return whether both were evaluated on the same images in the same order."""
    return first.evaluation.metrics.images_sha256 == second.evaluation.metrics.images_sha256


def _compare_runs(first: _ScoredRun, second: _ScoredRun) -> PairedComparison:
    correct = [run.evaluation.probabilities.argmax(axis=1) == run.evaluation.labels for run in (first, second)]
    return compare_paired(*correct)


def _notes(runs: Sequence[_ScoredRun], best: _ScoredRun, split: str, show_published: bool) -> list[str]:
    notes = []
    if any(run.info.data["split"] == "synthetic" for run in runs):
        notes.append("Some runs are on synthetic cells: their results say nothing about kidneys.")
    if split == "val":
        notes.append(
            "Results are on validation, which also guided training and the choice of recipes, so they are optimistic."
        )
    if len(runs) > 2:
        notes.append(f"{best.name} was selected as the best of {len(runs)} before the tests, which favors it.")
    incomparable = [run.name for run in runs if not _same_images(best, run)]
    if incomparable:
        notes.append(
            f"Evaluated on other images than {best.name}, and so not tested against it: {', '.join(incomparable)}."
        )
    if show_published and any(
        run.info.data["key"] == PUBLISHED_DATASET and run.info.data["split"] != "official" for run in runs
    ):
        notes.append(
            "Published results are on the official test split, these runs' on another split of the same images: a difference "
            "of one or two points says little."
        )
    if split == "test" and len(runs) > 1:
        notes.append("Selecting a run by its test accuracy makes that accuracy optimistic: select on validation.")
    return notes
