"""Judging a run's model on a split, and keeping count of every reading of the test split."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from torch import nn

from nephros import device as devices
from nephros.data.batches import Batches
from nephros.data.dataset import Dataset, sha256_of
from nephros.data.load import load
from nephros.environment import commit, versions
from nephros.errors import UserError
from nephros.evaluation.compatibility import check_fit
from nephros.evaluation.scoring import Evaluation
from nephros.evaluation.scoring import evaluate as evaluate_model
from nephros.models.serialization import load_model
from nephros.models.tta import Averaged
from nephros.runs import RunFolder, RunInfo
from nephros.workflows.report import report


def judge(
    folder: RunFolder,
    info: RunInfo,
    model: nn.Module,
    batches: Batches,
    dataset: Dataset,
    split: str,
    place: str | None = None,
) -> Evaluation:
    """Score `batches`, which are `split` of `dataset`, and save the result under RUN/`place`, by default the split's name.

    Images are seen in the run's views; those of the train split, which only tell how well it was learnt, as they are.
    A reading of a test split is logged in that place first. Predictions are saved too, except those of the train split,
    which are large and rarely wanted. Ranks that share the batches call this together; the first one writes.
    """
    place = place or split
    first = batches.ranks.first
    if split == "test" and first:
        _log_reading(folder.file(place, "reads.jsonl"), info, dataset)
    views = 1 if split == "train" else info.views
    found = evaluate_model(Averaged(model, views), batches, dataset.class_names, "scoring")
    about = {
        "split": split,
        "views": views,
        "recipe": info.recipe,
        "recipe_hash": info.recipe_hash,
        "epoch": info.chosen_epoch,
        "provenance": dataset.provenance.to_dict(),
        "images_sha256": sha256_of(dataset.split(split).images) if first else "",
        "versions": versions(),
        "commit": commit(),
    }
    evaluation = Evaluation({**about, **found.metrics}, found.probabilities, found.labels)
    predictions = None if split == "train" else folder.file(place, "predictions.npz")
    if first:
        evaluation.save(folder.file(place, "metrics.json"), predictions)
    return evaluation


def _log_reading(log: Path, info: RunInfo, dataset: Dataset) -> None:
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "recipe_hash": info.recipe_hash,
        "data": dataset.provenance.title,
        "sha256": dataset.provenance.sha256,
    }
    log.parent.mkdir(exist_ok=True)
    with open(log, "a+b") as file:
        file.seek(0)
        written = file.read()
        torn = bool(written) and not written.endswith(b"\n")  # by a process killed while it wrote
        file.write(b"\n" * torn + json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


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
    check_fit(folder, info, class_names, dataset)
    place = split if _own(info, dataset, split) else _elsewhere(split, dataset)
    batches = Batches(dataset.split(split), processor)
    evaluation = judge(folder, info, model.to(processor), batches, dataset, split, place)
    if place == "test":
        report(folder.root, dataset)  # which shows the figures and the count of readings
    return evaluation


def _own(info: RunInfo, dataset: Dataset, split: str) -> bool:
    """Return whether this split is the run's own: the same bytes, split in the same way."""
    counts = dataset.split(split).counts(dataset.classes).tolist()
    same_split = info.data["detail"].startswith(dataset.provenance.detail) and counts == info.class_counts[split]
    return bool(dataset.provenance.sha256 == info.data["sha256"] and same_split)


def _elsewhere(split: str, dataset: Dataset) -> str:
    name = re.sub("[^a-z0-9]+", "-", dataset.provenance.name.lower()).strip("-")
    return f"{split}-on-{name}-{dataset.provenance.sha256[:8]}"
