"""Comparing runs with one another and with published results."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nephros.errors import IncompatibleError, IncompleteError, InvalidArgument
from nephros.evaluation.leaderboard import (
    PUBLISHED_DATASET,
    Comparison,
    DatasetComparison,
    LeaderboardRow,
    leaderboard,
    row_from_run,
)
from nephros.evaluation.scoring import Evaluation, ensemble
from nephros.evaluation.significance import PairedComparison, compare_paired, holm
from nephros.recipe import Recipe
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

    Runs are ranked within their data set alone: runs on other data, or on other cells of it, are a table of their own. The best
    run of a data set is tested against each other run on the same images. Nothing is evaluated anew.

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
    groups = _group_by_dataset(scored_runs)
    datasets = [
        _compare_within(group, title, split, published)
        for group, title in zip(groups, _group_titles(groups), strict=True)
    ]
    return Comparison(split, datasets, _general_notes(groups, split))


def _group_by_dataset(runs: Sequence[_ScoredRun]) -> list[list[_ScoredRun]]:
    """Return the runs in groups that were evaluated on the same cells, in order of their first runs."""
    groups: list[list[_ScoredRun]] = []
    for run in runs:
        matching = [group for group in groups if any(_same_cells(run, other) for other in group)]
        for group in matching:
            groups.remove(group)
        merged = [*(other for group in matching for other in group), run]
        groups.append(merged)
    return sorted(groups, key=lambda group: min(runs.index(run) for run in group))


def _same_cells(first: _ScoredRun, second: _ScoredRun) -> bool:
    """Return whether both were evaluated on the same split of the same data, be it at another size in pixels.

    Files are the same data if they hold the same images and labels, whatever they are called; so are MedMNIST's official files
    of one data set in different sizes, and one folder that was read in different sizes.
    """
    first_data, second_data = first.info.data, second.info.data
    if any(first_data[key] != second_data[key] for key in ("key", "split")):
        return False
    if not np.array_equal(first.evaluation.labels, second.evaluation.labels):
        return False
    if _same_images(first, second):
        return True
    is_official = first_data["key"] is not None and first_data["split"] == "official"
    same_source = is_official or first_data["sha256"] == second_data["sha256"]
    # One draw of a folder's or a file's splits differs from the next in its seed or its sizes.
    first_request, second_request = first.info.data_request, second.info.data_request
    return same_source and all(
        first_request.get(key) == second_request.get(key) for key in ("seed", "resplit", "groups")
    )


def _group_titles(groups: Sequence[Sequence[_ScoredRun]]) -> list[str]:
    """Return a title per group: the data's, with a digest of the images where two would be the same."""
    titles = [str(group[0].info.data["title"]) for group in groups]
    counts = Counter(titles)
    return [
        title if counts[title] == 1 else f"{title} ({metrics.n:,} images, {(metrics.images_sha256 or 'unknown')[:8]})"
        for title, metrics in zip(titles, (group[0].evaluation.metrics for group in groups), strict=True)
    ]


def _compare_within(runs: Sequence[_ScoredRun], title: str, split: str, published: bool) -> DatasetComparison:
    """Rank the runs on one data set and test the best against each other run on the same images."""
    run_rows = [dataclasses.replace(run.row, dataset=title) for run in runs]
    show_published = published and runs[0].info.data["key"] == PUBLISHED_DATASET
    rows = leaderboard(run_rows) if show_published else sorted(run_rows, key=lambda row: -row.accuracy)
    rows = [dataclasses.replace(row, dataset=row.dataset or title) for row in rows]
    best = max(runs, key=lambda run: run.row.accuracy)
    comparable = [run for run in runs if run is not best and _same_images(best, run)]
    comparisons = holm([_compare_runs(best, run) for run in comparable])
    paired_tests = [(best.name, run.name, comparison) for run, comparison in zip(comparable, comparisons, strict=True)]
    return DatasetComparison(title, rows, paired_tests, _dataset_notes(runs, best, split, show_published))


def _display_names(folders: Sequence[RunFolder]) -> list[str]:
    """Return the folders' names, with their parents' names where two are the same."""
    names = [folder.root.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    return ["/".join(folder.root.resolve().parts[-2:]) for folder in folders]


def _load_scored_run(folder: RunFolder, name: str, split: str) -> _ScoredRun:
    info, recipe = folder.info(), folder.recipe()
    if info.status != "complete":
        raise IncompleteError(
            f"{folder.root} is not complete, so it has no result on {split}: `nephros.resume({str(folder.root)!r})` continues it."
        )
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
    if len(runs) < 2 or not all(_same_images_and_classes(first, run) for run in runs):
        raise IncompatibleError(
            "`ensemble` needs two or more runs that were evaluated on the same images, with the same classes in the same order."
        )
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
    subsets = list(dict.fromkeys(run.info.training_subset for run in runs))
    partial = [subset for subset in subsets if subset]
    subset = (
        subsets[0]
        if len(subsets) == 1
        else f"some runs on a {partial[0]}"
        if len(partial) == 1
        else "runs on different subsets"
    )
    row = dataclasses.replace(row, checkpoint="each run's own", training_subset=subset, is_ensemble=True)
    return _ScoredRun(name, info, row, evaluation)


def _same_images(first: _ScoredRun, second: _ScoredRun) -> bool:
    """Return whether both were evaluated on the same images in the same order."""
    return first.evaluation.metrics.images_sha256 == second.evaluation.metrics.images_sha256


def _same_images_and_classes(first: _ScoredRun, second: _ScoredRun) -> bool:
    same_labels = np.array_equal(first.evaluation.labels, second.evaluation.labels)
    return same_labels and first.info.class_names == second.info.class_names and _same_images(first, second)


def _compare_runs(first: _ScoredRun, second: _ScoredRun) -> PairedComparison:
    correct = [run.evaluation.probabilities.argmax(axis=1) == run.evaluation.labels for run in (first, second)]
    return compare_paired(*correct)


def _general_notes(groups: Sequence[Sequence[_ScoredRun]], split: str) -> list[str]:
    notes = []
    if len(groups) > 1:
        notes.append(
            f"The runs are on {len(groups)} data sets, each with its own ranking: accuracies on different data are not "
            "comparable."
        )
    if any(run.info.data["split"] == "synthetic" for group in groups for run in group):
        notes.append("Some runs are on synthetic cells: their results say nothing about kidneys.")
    trained = [
        run for group in groups for run in group if run.info.finetuning is None
    ]  # fine-tuning chooses nothing on it
    if split == "val" and trained:
        notes.append(
            "The runs' results are on validation, which also guided training and the choice of recipes, so they are optimistic."
        )
    elif split != "val" and any(len(group) > 1 for group in groups):
        notes.append("Selecting a run by its test accuracy makes that accuracy optimistic: select on validation.")
    return notes


def _dataset_notes(runs: Sequence[_ScoredRun], best: _ScoredRun, split: str, show_published: bool) -> list[str]:
    notes = []
    if len(runs) > 2:
        notes.append(f"{best.name} was selected as the best of {len(runs)} before the tests, which favors it.")
    incomparable = [run.name for run in runs if not _same_images(best, run)]
    if incomparable:
        notes.append(
            f"Not tested against {best.name}, because they were evaluated on other images: {', '.join(incomparable)}."
        )
    if show_published and runs[0].info.data["split"] != "official":
        notes.append(
            "The published results are on the official test split, those of the runs on another split of the same images: a "
            "difference of one or two points says little."
        )
    if show_published and split == "val":
        notes.append("The published results are on test, those of the runs on validation.")
    return notes
