"""Judging a run's model on a split, and keeping count of every reading of the test split."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from torch import nn

from nephros import device as devices
from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset, images_sha256
from nephros.data.load import load
from nephros.environment import git_commit, package_versions
from nephros.errors import NephrosError
from nephros.evaluation.compatibility import check_compatible
from nephros.evaluation.scoring import METRICS_FORMAT, Evaluation, evaluate_model
from nephros.models.serialization import load_model
from nephros.models.tta import TTAClassifier
from nephros.runs import RunFolder, RunInfo
from nephros.workflows.report import report


def score_split(
    folder: RunFolder,
    info: RunInfo,
    model: nn.Module,
    batches: BatchLoader,
    dataset: Dataset,
    split: str,
    output_name: str | None = None,
) -> Evaluation:
    """Score `batches`, which are `split` of `dataset`, and save the result under RUN/`output_name`, by default the split's name.

    Images are seen in the run's views; those of the train split, which only tell how well it was learnt, as they are.
    A reading of a test split is logged in that place first. Predictions are saved too, except those of the train split,
    which are large and rarely wanted. Ranks that share the batches call this together; the first one writes.
    """
    output_name = output_name or split
    is_first_rank = batches.context.is_main_process
    if split == "test" and is_first_rank:
        _log_test_read(folder.file(output_name, "reads.jsonl"), info, dataset)
    n_views = 1 if split == "train" else info.tta_views
    result = evaluate_model(TTAClassifier(model, n_views), batches, dataset.class_names, "scoring")
    context = {
        "format": METRICS_FORMAT,
        "split": split,
        "tta_views": n_views,
        "recipe": info.recipe,
        "recipe_hash": info.recipe_hash,
        "epoch": info.chosen_epoch,
        "provenance": dataset.provenance.to_dict(),
        "images_sha256": images_sha256(dataset.split(split).images) if is_first_rank else "",
        "versions": package_versions(),
        "commit": git_commit(),
    }
    evaluation = Evaluation({**context, **result.metrics}, result.probabilities, result.labels)
    predictions_file = None if split == "train" else folder.file(output_name, "predictions.npz")
    if is_first_rank:
        evaluation.save(folder.file(output_name, "metrics.json"), predictions_file)
    return evaluation


def _log_test_read(log: Path, info: RunInfo, dataset: Dataset) -> None:
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "recipe_hash": info.recipe_hash,
        "data": dataset.provenance.title,
        "sha256": dataset.provenance.sha256,
    }
    log.parent.mkdir(exist_ok=True)
    with open(log, "a+b") as file:
        file.seek(0)
        content = file.read()
        truncated = bool(content) and not content.endswith(b"\n")  # by a process killed while it wrote
        file.write(b"\n" * truncated + json.dumps(entry).encode() + b"\n")
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
        raise NephrosError(f"--split is {split}, but it must be one of train, val, test.")
    folder = RunFolder.open(run)
    info = folder.info()
    torch_device = devices.resolve_device(device)
    model, class_names = load_model(folder.file("weights.safetensors"))
    if isinstance(data, Dataset):
        dataset = data
    elif data is None:
        if not info.data_request["source"]:
            raise NephrosError(f"{folder.root} was trained on data given in Python: name the data with --data.")
        dataset = load(**info.data_request)
    else:
        dataset = load(data, size=info.data_request["size"], seed=info.data_request["seed"])
    check_compatible(folder, info, class_names, dataset)
    output_name = split if _is_run_split(info, dataset, split) else _external_output_name(split, dataset)
    batches = BatchLoader(dataset.split(split), torch_device)
    evaluation = score_split(folder, info, model.to(torch_device), batches, dataset, split, output_name)
    if output_name == "test":
        report(folder.root, dataset)  # which shows the figures and the count of readings
    return evaluation


def _is_run_split(info: RunInfo, dataset: Dataset, split: str) -> bool:
    """Return whether this split is the run's own: the same bytes, split in the same way."""
    counts = dataset.split(split).class_counts(dataset.n_classes).tolist()
    same_partition = info.data["detail"].startswith(dataset.provenance.detail) and counts == info.class_counts[split]
    return bool(dataset.provenance.sha256 == info.data["sha256"] and same_partition)


def _external_output_name(split: str, dataset: Dataset) -> str:
    name = re.sub("[^a-z0-9]+", "-", dataset.provenance.name.lower()).strip("-")
    return f"{split}-on-{name}-{dataset.provenance.sha256[:8]}"
