"""What the child processes of a project run, and how far their output says that they are."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from nephros.annotation.project import Project
from nephros.annotation.project_runs import ProjectRun, data_path, exported_path
from nephros.errors import InvalidArgument, UnknownName

Command = list[str]
"""Arguments of `nephros.annotation.job_process`."""
_COSTS = {"head": 0.03, "last-stage": 0.2, "network": 0.3, "self-training": 0.35, "scratch": 0.12}
"""Share of the time that a method takes in cross-validation, about."""
METHODS = tuple(_COSTS)
"""Of `nephros.finetuning.cross_validation.METHODS`, in their order, which can't be imported without torch."""
DEFAULT_METHODS = tuple(method for method in METHODS if method != "self-training")
"""Those that learn from labels alone."""
_FINAL_SHARE = 0.15
"""Share of the time that fitting the best method to all labels and writing its report take."""
_METHOD_LINE = re.compile(rf"({'|'.join(METHODS)}): accuracy")


def check_methods(methods: Sequence[str]) -> None:
    """Raise UnknownName for a method that is none of METHODS, and InvalidArgument for one that is given twice."""
    for method in methods:
        if method not in METHODS:
            raise UnknownName("methods", method, METHODS, kind="method", hint=f"Choose from {', '.join(METHODS)}.")
    if len(set(methods)) != len(methods):
        raise InvalidArgument("methods", ", ".join(methods), "a list of different methods")


def finetune_command(model: str, out: Path, methods: Sequence[str] = ()) -> Command:
    """Return the command that fine-tunes a model on the `data_path` of the run folder `out`, by some methods or DEFAULT_METHODS.

    It names them in the order of METHODS, in which they are compared.
    """
    chosen = ",".join(method for method in METHODS if method in (methods or DEFAULT_METHODS))
    return ["nephros", "finetune", str(data_path(out)), "--init", model, "--out", str(out), "--methods", chosen]


def export_commands(project: Project, run: ProjectRun, export_format: str, folder: Path) -> list[Command]:
    """Return the commands that make an export of a run; the cells are in ``cells.npz`` of the job's folder.

    Predictions are those of the run's ONNX file, which is made first where there is none: that takes longest.
    """
    model = exported_path(run, "onnx")
    export = ["nephros", "export", str(run.path), "--data", str(data_path(run.path)), "--out", str(model), "--force"]
    if export_format == "onnx":
        return [export]
    table = str(folder / "predictions.csv")
    predict = ["nephros", "predict", str(folder / "cells.npz"), "--model", str(model), "--out", table]
    module = "nephros.annotation.run_table" if export_format == "csv" else "nephros.annotation.run_geojson"
    write = [module, str(project.root), table, str(exported_path(run, export_format))]
    return [predict, write] if model.is_file() else [export, predict, write]


def readable_line(line: str, root: Path) -> str:
    """Return a line of output for people who have a page and no command line: without the server's folders, and no tables."""
    text = line.strip().removeprefix("nephros: ").replace(f"{root}{os.sep}", "")
    return "" if "\u2500" <= text[:1] <= "\u257f" else text


def progress_after(line: str, methods: Sequence[str], progress: float) -> float:
    """Return how far fine-tuning is, 0 to 1, after a line of its output that may say so."""
    match = _METHOD_LINE.match(line)
    if not match or match[1] not in methods:
        return progress
    done = sum(_COSTS[method] for method in methods[: methods.index(match[1]) + 1])
    return max(progress, (1 - _FINAL_SHARE) * done / sum(_COSTS[method] for method in methods))
