"""The run folder of a fine-tuned network."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import torch
from torch import nn

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.data.load import DataRequest
from nephros.errors import say_how_to_continue
from nephros.evaluation.held_out import HeldOutPredictions, write_held_out
from nephros.files import write_text
from nephros.finetuning.cross_validation import Candidate
from nephros.finetuning.label_review import SuspiciousLabel, suspicious_labels_csv
from nephros.finetuning.network import FittedMethod
from nephros.finetuning.problem import Problem
from nephros.recipe import to_yaml
from nephros.runs import FinetuningRecord, RunFolder, RunInfo
from nephros.training.history import history_to_csv
from nephros.workflows.prepare import PreparedStacks
from nephros.workflows.run import Run
from nephros.workflows.training_run import create_folder, finish_run, save_weights


def finetuning_record(
    kept: Candidate, candidates: list[Candidate], problem: Problem, curve: list[tuple[int, float]]
) -> FinetuningRecord:
    """Return what run.json holds of the comparison of methods."""
    return {
        "method": kept.method,
        "folds": len(problem.folds),
        "by_group": problem.folds.by_group,
        "interval_method": kept.metrics.accuracy_interval.method,
        "methods": [
            {
                "method": candidate.method,
                "accuracy": candidate.metrics.accuracy,
                "accuracy_low": candidate.metrics.accuracy_interval.low,
                "accuracy_high": candidate.metrics.accuracy_interval.high,
                "macro_f1": candidate.metrics.macro_f1,
                "loss": candidate.metrics.loss,
                "seconds": candidate.seconds,
                "detail": candidate.detail,
            }
            for candidate in candidates
        ],
        "learning_curve": [{"labels": n, "accuracy": accuracy} for n, accuracy in curve],
    }


def write_finetuned_run(
    out: str | Path | None,
    info: RunInfo,
    fitted: FittedMethod,
    dataset: Dataset,
    kept: Candidate,
    suspicious: list[SuspiciousLabel],
    device: torch.device,
    prepared: PreparedStacks | None,
) -> Run:
    """Write the run folder, with the splits scored, the cells of stacks and the report, and return it."""
    folder = create_folder(out, fitted.recipe, dataset)
    with folder.lock():
        if prepared is not None:
            source = str(_keep_cells(prepared, folder))
            request: DataRequest = {**info.data_request, "source": source}
            info = dataclasses.replace(info, data_request=request, data={**info.data, "path": source})
        write_text(folder.file("recipe.yaml"), to_yaml(fitted.recipe))
        info = save_weights(folder, info, fitted.model, fitted.recipe, dataset)
        if fitted.history:
            write_text(folder.file("history.csv"), history_to_csv(fitted.history))
        write_held_out(folder, HeldOutPredictions(kept.probabilities, kept.labels, kept.groups))
        write_text(folder.file("suspicious_labels.csv"), suspicious_labels_csv(suspicious))
        folder.write_info(info)
        with say_how_to_continue(f"`nephros.resume({str(folder.root)!r})` finishes the run"):
            finish_finetuned_run(folder, info, fitted.model, dataset, device)
    return Run(folder.root, folder.synthetic, dataset)


def finish_finetuned_run(
    folder: RunFolder, info: RunInfo, model: nn.Module, dataset: Dataset, device: torch.device
) -> None:
    """Score the splits and write the report of a run whose other files are there already."""
    splits = ("train", "val", "test") if info.test else ("train", "val")
    batches = {split: BatchLoader(dataset.split(split), device) for split in splits}
    finish_run(folder, info, model.to(device), batches, dataset)


def _keep_cells(prepared: PreparedStacks, folder: RunFolder) -> Path:
    """Copy the prepared cells of stacks to the run folder, and return the path of the npz file there."""
    for path in prepared.paths:
        shutil.copyfile(path, folder.root / path.name)
    return folder.root.absolute() / prepared.paths[-1].name
