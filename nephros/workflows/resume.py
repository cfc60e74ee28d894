"""Continuing an interrupted run from its latest checkpoint."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from nephros import device as devices
from nephros.data.dataset import Dataset
from nephros.data.relocation import candidate_paths, reopen_dataset
from nephros.device import check_threads, torch_threads
from nephros.distributed import process_group
from nephros.errors import FileError, InvalidArgument, NephrosError
from nephros.evaluation.scoring import load_run_model
from nephros.exporters.pretrained import open_pretrained
from nephros.models.classifier import PretrainedModel
from nephros.runs import InitRecord, RunFolder
from nephros.training.callbacks import Callback, check_callbacks
from nephros.training.replicas import usable_replicas
from nephros.training.run_info import describe_devices
from nephros.training.trackers import check_tracker
from nephros.training.warm_start import start_from
from nephros.workflows.finetuned_run import finish_finetuned_run
from nephros.workflows.report import report
from nephros.workflows.run import Run
from nephros.workflows.training_run import (
    check_test_split,
    end_run,
    limit_training_images,
    locked,
    prepare_model,
    resumable,
    run_training,
    with_tracker,
)

logger = logging.getLogger(__name__)


def resume(
    run: str | Path,
    data: str | Path | Dataset | None = None,
    *,
    device: str | None = None,
    threads: int | None = None,
    log: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Continue an interrupted run from its latest checkpoint to its end; a complete run is returned unchanged.

    Args:
        run: the run folder.
        data: the run's data, or its path or name now; None looks for it where the run found it, and near the run folder. A
            run that was started on an open Dataset needs it.
        device: auto, cpu or cuda (default: the type that the run started on).
        threads: CPU cores to use; the number of replicas stays the run's.
        log, callbacks: as `nephros.train` takes them.

    Raises NephrosError when there is no such run, or its data or recipe is missing or has changed.
    """
    check_threads(threads)
    check_tracker(log)
    callbacks = check_callbacks(callbacks)
    with process_group() as context, torch_threads(threads), locked(folder := RunFolder.open(run), context):
        info = folder.info()
        if info.status == "complete":
            logger.info("%s is already complete: there is nothing to resume", folder.root)
            if context.is_main_process and not folder.file("report.html").exists():
                report(folder.root)
            return end_run(folder, (), data)
        recipe = folder.recipe()
        if info.replicas > recipe.batch_size:
            raise FileError(
                folder.file("run.json"),
                f"{folder.file('run.json')} can't be read (its {info.replicas:,} replicas are more than the {recipe.batch_size} "
                "images of a batch): train again with another `out`.",
            )
        torch_device = context.local_device(devices.resolve_device(device or info.device_type))
        if data is None and not info.data_request["source"]:
            raise InvalidArgument(
                "data", data, f"the Dataset that {folder.root} was trained on, since it was not loaded by name or path"
            )
        dataset = limit_training_images(recipe, reopen_dataset(info.data_request, info.data, folder.root, data))
        check_test_split(info.test, dataset)
        if info.finetuning is not None:  # its weights were fitted before there was a run
            finish_finetuned_run(folder, info, load_run_model(folder), dataset, torch_device)
            return end_run(folder, (), data)
        model = prepare_model(recipe, dataset, context)
        if model is not None and info.init is not None and not folder.file("checkpoint.pt").exists():
            pretrained = _reopen_pretrained(folder, info.init)
            start_from(model, pretrained, recipe, dataset)
        replicas = usable_replicas(info.replicas, torch_device, context.world_size)
        current_device = describe_devices(torch_device, context, recipe.amp, replicas)
        if current_device != info.device:
            logger.warning(
                "the run started on %s and continues on %s, so weights may differ in the last bits",
                info.device,
                current_device,
            )
        with resumable(folder), with_tracker(folder, recipe, log, callbacks, context) as followers:
            run_training(folder, info, recipe, dataset, model, torch_device, context, followers)
            return end_run(folder, followers, data)


def _reopen_pretrained(folder: RunFolder, record: InitRecord) -> PretrainedModel:
    """Return the weights that a run started from, from where they were or near the run folder; raise FileError for others."""
    moved = (path for path in candidate_paths(record["source"], folder.root) if path.exists())
    sources: list[str | Path] = [record["source"], *moved]
    for source in sources:
        with contextlib.suppress(NephrosError):
            if (pretrained := open_pretrained(source)).sha256 == record["sha256"]:
                return pretrained
    raise FileError(
        folder.root,
        f"{folder.root} can't be resumed, since the weights it started from ({record['source']}) have changed or gone since it "
        "started: train again with a new `out`.",
    )
