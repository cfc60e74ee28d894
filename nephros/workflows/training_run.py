"""What a new run and a resumed one share: training to the end, scores of the splits, and the report."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.data.subset import subset_train
from nephros.distributed import SINGLE_PROCESS, DistributedContext
from nephros.errors import InvalidArgument, say_how_to_continue
from nephros.evaluation.largest_class import no_better_than_largest_class
from nephros.exporters.teachers import open_teacher
from nephros.files import file_digest
from nephros.models.classifier import Classifier
from nephros.models.serialization import save_model
from nephros.recipe import Recipe
from nephros.runs import RunFolder, RunInfo
from nephros.training.callbacks import Callback
from nephros.training.checkpoint import cpu_state_dict
from nephros.training.classical.grid_search import check_classical
from nephros.training.distillation import cached_soft_targets
from nephros.training.model_init import check_batch_sharding, init_model, input_spec
from nephros.training.replicas import usable_replicas
from nephros.training.run_info import default_run_dir, describe_model
from nephros.training.runner import TrainingResult, train_classical, train_network
from nephros.training.trackers import TRACKERS
from nephros.workflows.evaluate import score_split
from nephros.workflows.report import report
from nephros.workflows.run import Run

logger = logging.getLogger(__name__)


def create_folder(
    out: str | Path | None, recipe: Recipe, dataset: Dataset, context: DistributedContext = SINGLE_PROCESS
) -> RunFolder:
    """Return the new run folder `out`, or one in runs/; only the first rank creates it."""
    synthetic = dataset.provenance.split == "synthetic"
    run_dir = Path(out) if out else default_run_dir(recipe, synthetic)
    if context.is_main_process:
        return RunFolder.create(run_dir, synthetic)
    return RunFolder(run_dir.expanduser(), synthetic)


def locked(folder: RunFolder, context: DistributedContext) -> contextlib.AbstractContextManager[None]:
    """Lock the folder for all ranks: only the first one writes there."""
    return folder.lock() if context.is_main_process else contextlib.nullcontext()


def resumable(folder: RunFolder) -> contextlib.AbstractContextManager[None]:
    """Let an interruption say how to resume the run."""
    return say_how_to_continue(f"`nephros.resume({str(folder.root)!r})` continues after the last complete epoch")


def prepare_model(recipe: Recipe, dataset: Dataset, context: DistributedContext) -> Classifier | None:
    """Return the network with initial weights, or None for a classical baseline; raise when the ranks can't share the work."""
    if recipe.is_classical:
        if context.world_size > 1:
            raise InvalidArgument(
                "model.network", recipe.model.network, "a network under torchrun: one process fits baselines"
            )
        check_classical(recipe, dataset)
        return None
    check_batch_sharding(recipe, len(dataset.train), context.world_size)
    return init_model(recipe, dataset.train, input_spec(dataset))


def check_test_split(test: bool, dataset: Dataset) -> None:
    """Raise InvalidArgument where the test split is to be scored but has no images: before training rather than after it."""
    if test and not len(dataset.test):
        hint = "Without `draw_test=False`, `nephros.load_dataset` and `Dataset.from_arrays` draw one."
        raise InvalidArgument("test", test, "False for data without a test split", hint=hint)


def limit_training_images(recipe: Recipe, dataset: Dataset) -> Dataset:
    """Return the data with at most `classical.max_images` training images."""
    max_images = recipe.classical.max_images
    return subset_train(dataset, max_images, recipe.seed) if 0 < max_images < len(dataset.train) else dataset


def run_training(
    folder: RunFolder,
    info: RunInfo,
    recipe: Recipe,
    dataset: Dataset,
    model: Classifier | None,
    device: torch.device,
    context: DistributedContext,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train to the end, save the weights, score the splits and write the report. Only the first rank writes.

    Everything after training can be repeated from the last checkpoint, so that a run can be interrupted anywhere.
    """

    def make_batches(split: str) -> BatchLoader:
        return BatchLoader(dataset.split(split), device, channels_last=recipe.channels_last, context=context)

    if model is None:
        result = train_classical(folder, recipe, dataset, device)
        batches = {"val": make_batches("val")}  # not train, where every image is its own nearest neighbor
    else:
        batches = {name: make_batches(name) for name in ("train", "val")}
        soft_targets = None
        if recipe.distillation_weight:
            n_classes = dataset.n_classes
            soft_targets = cached_soft_targets(folder, info, recipe, batches["train"], n_classes, open_teacher)
        replicas = usable_replicas(info.replicas, device, context.world_size)
        result = train_network(
            folder, info, recipe, model, batches, dataset, soft_targets, context, callbacks, replicas
        )
    info = _with_result(info, result, dataset, is_classical=model is None)
    if context.is_main_process:
        info = save_weights(folder, info, result.model, recipe, dataset)
        folder.write_info(info)
    if context.broadcast(info.test and not folder.file("test", "metrics.json").exists()):
        batches["test"] = make_batches("test")
    finish_run(folder, info, result.model, batches, dataset)


def save_weights(folder: RunFolder, info: RunInfo, model: nn.Module, recipe: Recipe, dataset: Dataset) -> RunInfo:
    """Save the weights, and return the run's description with their digest."""
    weights = folder.file("weights.safetensors")
    save_model(weights, cpu_state_dict(model), recipe.model, input_spec(dataset), dataset.class_names)
    return dataclasses.replace(info, weights_sha256=file_digest(weights))


def finish_run(
    folder: RunFolder, info: RunInfo, model: nn.Module, batches: Mapping[str, BatchLoader], dataset: Dataset
) -> None:
    """Score the splits in `batches`, of which there is at least one, mark the run as complete and write its report."""
    for split, split_batches in batches.items():
        logger.info("scoring %s", split)
        metrics = score_split(folder, info, model, split_batches, dataset, split).metrics
        if split == "val" and (sentence := no_better_than_largest_class(info, metrics)):
            logger.warning(sentence)
    if batches["val"].context.is_main_process:
        folder.write_info(dataclasses.replace(info, status="complete"))
        report(folder.root, dataset)


def _with_result(info: RunInfo, result: TrainingResult, dataset: Dataset, *, is_classical: bool) -> RunInfo:
    """Return the run's description with the outcome of training; a baseline's size is known only now."""
    info = dataclasses.replace(
        info, chosen_epoch=result.epoch, hyperparameters=result.best_params, training_minutes=result.minutes
    )
    return dataclasses.replace(info, **describe_model(result.model, input_spec(dataset))) if is_classical else info


@contextlib.contextmanager
def with_tracker(
    folder: RunFolder, recipe: Recipe, log: str | None, callbacks: Sequence[Callback], context: DistributedContext
) -> Iterator[tuple[Callback, ...]]:
    """Yield the callbacks of this rank, with the tracker's, which ends with the block; only the first rank has any."""
    if not context.is_main_process:
        yield ()
    elif log is None:
        yield tuple(callbacks)
    else:
        tracker = TRACKERS[log](folder, recipe)
        try:
            yield (*callbacks, tracker)
        except BaseException as error:
            with contextlib.suppress(Exception):  # the error that ended training says more
                tracker.close(error)
            raise
        tracker.close(None)


def end_run(folder: RunFolder, callbacks: Sequence[Callback], data: str | Path | Dataset | None) -> Run:
    """Tell the callbacks that a run has ended, and return it, with its data where that was given in Python."""
    run = Run(folder.root, folder.synthetic, data if isinstance(data, Dataset) else None)
    for callback in callbacks:
        callback.on_train_end(run)
    return run
