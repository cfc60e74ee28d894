"""Evaluating a run's model on a split, and logging every read of the test split."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import nn

from nephros import device as devices
from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset, log_notes
from nephros.data.images.input_conversion import InputConversion
from nephros.data.load import load_dataset, redraw
from nephros.data.relocation import reopen_dataset
from nephros.data.split import SPLITS, images_sha256
from nephros.data.splitting import UNGROUPED
from nephros.environment import git_commit, package_versions
from nephros.errors import IncompatibleError, InvalidArgument
from nephros.evaluation.medmnist_file import check_medmnist_data, check_medmnist_folder, write_medmnist_csv
from nephros.evaluation.scoring import (
    ONE_VIEW,
    Evaluation,
    align_classes,
    check_compatible,
    evaluate_model,
    load_run_model,
)
from nephros.models.tta import TTAClassifier
from nephros.runs import RunFolder, RunInfo
from nephros.workflows.report import report

logger = logging.getLogger(__name__)


def evaluate(
    run: str | Path,
    split: str = "val",
    data: str | Path | Dataset | None = None,
    *,
    groups: str | None = None,
    device: str = "auto",
    medmnist: str | Path | None = None,
) -> Evaluation:
    """Evaluate a run's model on a split, save the result in the run folder and return it.

    Results on the run's own data go to RUN/SPLIT/, those on other data to RUN/SPLIT-on-NAME/. A read of a test split is
    logged there; after one of the run's own test split the report is written again.

    Args:
        run: the run folder.
        split: train, val or test.
        data: name, path or Dataset; None takes the data that the run was trained on, where it was or near the run folder. A
            folder's images are converted as those of the training data were. Classes are matched by name; where the names
            differ, the shared classes are scored, and a warning names the others.
        groups: how a folder given as `data` is split, as `nephros.load_dataset` takes it; by default as the run's data was.
        device: auto, cpu or cuda.
        medmnist: folder to which the predictions are also written, as the CSV file of MedMNIST's Evaluator; for its data sets.

    Raises:
        InvalidArgument: `split` is none of the three, or `data` is missing and the run's data was given in Python.
        FileError: there is no such run, or it has no weights yet.
        IncompatibleError: the data does not fit the model.
    """
    if split not in SPLITS:
        raise InvalidArgument("split", split, f"one of {', '.join(SPLITS)}")
    folder = RunFolder.open(run)
    info = folder.info()
    torch_device = devices.resolve_device(device)
    model, class_names = load_run_model(folder), tuple(info.class_names)
    dataset = align_classes(_load_dataset(folder, info, data, groups), class_names, str(folder.root))
    check_compatible(str(folder.root), info.input_spec, class_names, dataset)
    if not len(dataset.split(split)):
        raise IncompatibleError(_without_images(folder, info, dataset, split))
    csv_folder = None if medmnist is None else check_medmnist_folder(medmnist)
    if csv_folder is not None:
        is_redrawn = data is None and bool(info.data_request.get("subset") or info.data_request.get("resplit"))
        check_medmnist_data(dataset, split, is_redrawn=is_redrawn)
    log_notes(dataset)
    output_name = split if _is_run_split(info, dataset, split) else _external_output_name(split, dataset)
    batches = BatchLoader(dataset.split(split), torch_device)
    evaluation = score_split(folder, info, model.to(torch_device), batches, dataset, split, output_name)
    if output_name == "test":
        report(folder.root, dataset)  # it shows the test metrics and the number of test-split reads
    if csv_folder is not None:
        path = write_medmnist_csv(csv_folder, folder.root.absolute().name, evaluation, dataset, split)
        logger.info("predictions for MedMNIST's Evaluator: %s", path)
    return evaluation


def _without_images(folder: RunFolder, info: RunInfo, dataset: Dataset, split: str) -> str:
    """Return why there is nothing to evaluate, and what to do."""
    if _is_own_data(info, dataset) and not info.data_request.get("draw_test", True):
        return (
            f"{folder.root} has no {split} split, since it learned from as many images as it could: evaluate it on other images "
            "as `data`, or hold test images out with `nephros.finetune(DATA, test=True)`."
        )
    title = dataset.provenance.title
    return f"`data` is {title}, whose {split} split has no image of the classes of {folder.root}."


def _is_own_data(info: RunInfo, dataset: Dataset) -> bool:
    return bool(dataset.provenance.sha256 == info.data["sha256"])


def _load_dataset(folder: RunFolder, info: RunInfo, data: str | Path | Dataset | None, groups: str | None) -> Dataset:
    """Return `data` as a Dataset, by default the run's own."""
    if groups is not None and not isinstance(data, str | Path):
        raise InvalidArgument("groups", groups, "left out, except with the path of other data as `data`")
    if isinstance(data, Dataset):
        return data
    if data is None:
        return reopen_dataset(info.data_request, info.data, folder.root)
    request, spec = info.data_request, info.input_spec
    options: dict[str, Any] = {
        "size": request["size"],
        "seed": request["seed"],
        "groups": groups or request.get("groups", UNGROUPED),
        "conversion": InputConversion.from_dict(info.input_conversion),
        "shape": (spec["channels"], spec["height"], spec["width"]),
    }
    dataset = load_dataset(data, **options)
    if not _is_own_data(info, dataset):
        return dataset
    if not request.get("draw_test", True):
        dataset = load_dataset(data, **options, draw_test=False)
    return redraw(dataset, request["subset"], request["resplit"], request["seed"])


def score_split(
    folder: RunFolder,
    info: RunInfo,
    model: nn.Module,
    batches: BatchLoader,
    dataset: Dataset,
    split: str,
    output_name: str | None = None,
) -> Evaluation:
    """Evaluate a model on `batches`, a split of `dataset`, and save the result under RUN/`output_name` (default: the split).

    Predictions are averaged over the run's TTA views, except on train, which only tells how well the model fits it. Of the run's
    own test split, a run of several views stores those of the image alone as well, in RUN/test/one-view/: exported models predict
    so by default. A read of a test split is logged first. Predictions are saved too, except those of train, which are large and
    rarely needed. Ranks that share the batches call this together; the main process writes.
    """
    output_name = output_name or split
    is_main_process = batches.context.is_main_process
    if split == "test" and is_main_process:
        _log_test_read(folder.file(output_name, "reads.jsonl"), info, dataset)
    images_digest = images_sha256(dataset.split(split).images) if is_main_process else ""

    def score(n_views: int, *subfolder: str) -> Evaluation:
        result = evaluate_model(TTAClassifier(model, n_views), batches, dataset.class_names, "scoring")
        metrics = dataclasses.replace(
            result.metrics,
            split=split,
            tta_views=n_views,
            recipe=info.recipe,
            recipe_hash=info.recipe_hash,
            epoch=info.chosen_epoch,
            provenance=dataset.provenance.to_dict(),
            images_sha256=images_digest,
            versions=package_versions(),
            commit=git_commit(),
        )
        evaluation = Evaluation(metrics, result.probabilities, result.labels)
        target = (output_name, *subfolder)
        if is_main_process:
            predictions_file = None if split == "train" else folder.file(*target, "predictions.npz")
            evaluation.save(folder.file(*target, "metrics.json"), predictions_file)
        return evaluation

    if output_name == "test" and info.tta_views > 1:
        score(1, ONE_VIEW)
    return score(1 if split == "train" else info.tta_views)


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
        is_truncated = bool(content) and not content.endswith(b"\n")  # by a process killed while it wrote
        file.write(b"\n" * is_truncated + json.dumps(entry).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _is_run_split(info: RunInfo, dataset: Dataset, split: str) -> bool:
    """Return whether this split is the run's own: the same bytes, split in the same way."""
    counts = dataset.split(split).class_counts(dataset.n_classes).tolist()
    same_partition = info.data["detail"].startswith(dataset.provenance.detail) and counts == info.class_counts[split]
    return _is_own_data(info, dataset) and same_partition


def _external_output_name(split: str, dataset: Dataset) -> str:
    name = re.sub("[^a-z0-9]+", "-", dataset.provenance.name.lower()).strip("-")
    return f"{split}-on-{name}-{dataset.provenance.sha256[:8]}"
