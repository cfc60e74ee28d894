"""Judging a run's model on a split, and keeping count of every reading of the test split."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from nephros import device as devices
from nephros.data.batches import Batches
from nephros.data.dataset import Dataset
from nephros.data.load import load
from nephros.errors import UserError
from nephros.evaluation.evaluate import Evaluation
from nephros.evaluation.evaluate import evaluate as evaluate_model
from nephros.models.saved import load_model
from nephros.runs import RunFolder, RunInfo
from nephros.versions import commit, versions


def judge(
    folder: RunFolder,
    info: RunInfo,
    model: nn.Module,
    dataset: Dataset,
    split: str,
    processor: torch.device,
    place: str | None = None,
) -> Evaluation:
    """Score `split` and save the result under RUN/`place` (by default the split's name); a reading of test is logged first.

    Predictions are saved too, except those of the train split, which are large and rarely wanted.
    """
    place = place or split
    if split == "test":
        _log_reading(folder, info, dataset)
    found = evaluate_model(model, Batches(dataset.split(split), processor), dataset.class_names)
    about = {
        "split": split,
        "recipe": info.recipe,
        "recipe_hash": info.recipe_hash,
        "epoch": info.chosen_epoch,
        "provenance": dataset.provenance.to_dict(),
        "versions": versions(),
        "commit": commit(),
    }
    evaluation = Evaluation({**about, **found.metrics}, found.probabilities, found.labels)
    predictions = None if split == "train" else folder.file(place, "predictions.npz")
    evaluation.save(folder.file(place, "metrics.json"), predictions)
    return evaluation


def _log_reading(folder: RunFolder, info: RunInfo, dataset: Dataset) -> None:
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "recipe_hash": info.recipe_hash,
        "data": dataset.provenance.title,
        "sha256": dataset.provenance.sha256,
    }
    log = folder.file("test", "reads.jsonl")
    log.parent.mkdir(exist_ok=True)
    with open(log, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def evaluate(
    run: str | Path, split: str = "val", data: str | Path | Dataset | None = None, *, device: str = "auto"
) -> Evaluation:
    """Score a split with a finished run's weights, save the result in the run folder and return it.

    `data` defaults to what the run was trained on; results on other data go to RUN/SPLIT-on-NAME. Raises UserError when
    the run has no weights yet, or the data does not fit the model.
    """
    if split not in ("val", "test", "train"):
        raise UserError(f"--split is {split}, but it must be one of train, val, test.")
    folder = RunFolder.open(run)
    info = folder.info()
    processor = devices.choose(device)
    model, class_names = load_model(folder.file("weights.safetensors"))
    if isinstance(data, Dataset):
        dataset = data
    elif data is None:
        if not info.request["source"]:
            raise UserError(f"{folder.root} was trained on data given in Python: name the data with --data.")
        dataset = load(**info.request)
    else:
        dataset = load(data, size=info.request["size"], seed=info.request["seed"])
    shape = (dataset.channels, dataset.classes)
    if shape != (info.shape["channels"], len(class_names)):
        raise UserError(
            f"--data {dataset.provenance.title} has {shape[0]} channels and {shape[1]} classes, but {folder.root} was trained "
            f"with {info.shape['channels']} and {len(class_names)}: name data like its own."
        )
    if dataset.size != (info.shape["height"], info.shape["width"]):
        raise UserError(
            f"--data {dataset.provenance.title} has images of {dataset.size[0]}x{dataset.size[1]} pixels, but {folder.root} was "
            f"trained on {info.shape['height']}x{info.shape['width']}: resize them first."
        )
    own = dataset.provenance.sha256 == info.data["sha256"]
    place = split if own else f"{split}-on-{re.sub('[^a-z0-9]+', '-', dataset.provenance.name.lower())}"
    return judge(folder, info, model.to(processor), dataset, split, processor, place)
