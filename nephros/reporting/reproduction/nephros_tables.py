"""The table of `nephros reproduce ours`: our recipes, the mean of their answers, and what learns from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nephros.experiments.results import Finished
from nephros.reporting.reproduction.baselines import command_of, made_by, seeds_of, state_of, write_both
from nephros.text_tables import csv_of, markdown, shown


def write_ours(found: Sequence[Finished], out: Path, flags: str = "") -> list[Path]:
    """Write ours.csv and ours.md into `out`: each recipe's runs, and what the mean of their answers comes to."""
    heads = [
        "recipe", "accuracy_mean", "accuracy_sd", "val_accuracy", "macro_f1", "auc", "calibration_error", "parameters",
        "multiply_adds", "views", "seeds", "epochs", "minutes", "taught_by", "command",
    ]  # fmt: skip
    rows = [line for one in found for line in _ours_rows(one, flags)]
    note = (
        "Multiply-adds are of one view; an answer is the mean over the views. Calibration error is before any temperature. "
        "Minutes are of one run, and of all runs where they answer together; what teachers took comes on top.\n"
    )
    return write_both(out, "ours", csv_of(heads, rows), "\n".join([markdown(heads, rows), note, made_by(found)]), found)


def _ours_rows(one: Finished, flags: str) -> list[list[str]]:
    recipe, command = one.row.recipe, command_of("ours", one, flags)
    taught_by = " ".join(one.row.teachers)

    def rest(runs: int) -> list[str]:
        spent = None if one.minutes is None else runs * one.minutes
        return [str(recipe.views), seeds_of(one), str(recipe.epochs), shown(spent, 1), taught_by, command]

    if not one.seeds:
        return [[one.row.label, state_of(one), *[""] * 7, *rest(1)]]
    info, keys = one.infos[0], ("macro_f1", "auc", "expected_calibration_error")
    figures = [shown(one.mean("accuracy")), shown(one.sd("accuracy")), shown(one.mean("accuracy", "val"))]
    rows = [[
        one.row.label, *figures, *(shown(one.mean(key)) for key in keys),
        str(info.parameters), str(info.multiply_adds), *rest(1),
    ]]  # fmt: skip
    test, val = one.together("test"), one.together("val")
    if test and val:
        n = len(one.seeds)
        figures = [shown(test["accuracy"]), "", shown(val["accuracy"]), *(shown(test[key]) for key in keys)]
        costs = [str(n * info.parameters), str(n * info.multiply_adds)]
        rows.append([f"the {n} of {one.row.label} together", *figures, *costs, *rest(n)])
    return rows
