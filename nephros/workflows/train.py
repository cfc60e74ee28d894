"""The main job: train a recipe on a data set in a run folder, keep the weights, judge them, and make the report."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from nephros import device as devices
from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.data.load import data_request, load
from nephros.data.subset import subset_train as take_subset
from nephros.distributed import DistributedContext, is_torchrun_restart, process_group, under_torchrun
from nephros.errors import NephrosError
from nephros.files import write_text
from nephros.models.classifier import Classifier
from nephros.models.serialization import save_model
from nephros.recipe import Recipe, to_yaml
from nephros.recipe_io import get_recipe, read_recipe, recipe_from_dict
from nephros.runs import RunFolder, RunInfo
from nephros.training.classical.check import check_classical
from nephros.training.distillation import cached_soft_targets, check_teachers
from nephros.training.distillation import teacher_records as describe_teachers
from nephros.training.model_init import check_batch_sharding, check_last_batch, check_tta_views, init_model, input_spec
from nephros.training.parts import cpu_state_dict
from nephros.training.run_info import build_run_info, default_run_dir, describe_devices, describe_model
from nephros.training.runner import train_classical, train_network
from nephros.workflows.evaluate import score_split
from nephros.workflows.report import report

Say = Callable[[str], None]


def train(
    recipe: str | Recipe = "nephros",
    data: str | Path | Dataset = "tissuemnist",
    *,
    out: str | Path | None = None,
    device: str = "auto",
    size: int | None = None,
    subset: int | None = None,
    resplit: Sequence[int] | None = None,
    data_seed: int = 0,
    teachers: Sequence[str | Path] = (),
    test: bool = False,
    command: str = "",
    say: Say = print,
) -> RunFolder:
    """Train `recipe` on `data` and return the finished run folder.

    `data` is a name, a path or an open Dataset. `size`, `subset`, `resplit` and `data_seed` are passed to `nephros.load`.
    `teachers` are finished runs on the same data, for a recipe with a `distillation_weight`.
    With `test`, the test split is scored once, at the end. Raises UserError for input that can't be used, before anything
    is written.
    """
    # Through the parser, so that values of the wrong kind are refused here, and 1 for 1.0 is the same recipe.
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe_from_dict(recipe.to_dict(), "The recipe")
    if isinstance(data, Dataset) and any(option is not None for option in (size, subset, resplit)):
        raise NephrosError("size, subset and resplit are for data given by name or path: cut an open Dataset before.")
    request = data_request("" if isinstance(data, Dataset) else data, size, data_seed, subset, resplit)
    with process_group() as context:
        if under_torchrun() and out is None:
            raise NephrosError(
                "torchrun needs --out DIR: a process that it starts again must find the run it belongs to."
            )
        if out is not None and context.broadcast(is_torchrun_restart() and RunFolder.exists(Path(out))):
            _check_same_run(RunFolder.open(out), recipe, request)
            return resume(out, data if isinstance(data, Dataset) else None, device=device, say=say)
        torch_device = context.local_device(devices.resolve_device(device))
        dataset = _limit_training_images(
            recipe, data if isinstance(data, Dataset) else load(**request | {"source": data})
        )
        check_tta_views(recipe, dataset)
        model = _init_model(recipe, dataset, context)
        if model is not None:
            check_last_batch(recipe, dataset, model)
        check_teachers(recipe, teachers, dataset)
        info = build_run_info(recipe, dataset, model, request, torch_device, test, command, context)
        info = dataclasses.replace(info, teachers=describe_teachers(teachers))
        synthetic = dataset.provenance.split == "synthetic"
        run_dir = Path(out) if out else default_run_dir(recipe, synthetic)
        folder = (
            RunFolder.create(run_dir, synthetic)
            if context.is_main_process
            else RunFolder(run_dir.expanduser(), synthetic)
        )
        with _locked(folder, context):
            say = say if context.is_main_process else _say_nothing
            for warning in dataset.warnings:
                say(f"warning: {warning}")
            n_images = f"{len(dataset.train):,} training images"
            say(f"{recipe.name} on {dataset.provenance.title}: {n_images}, {info.device}, in {folder.root}")
            if context.is_main_process:
                write_text(folder.file("recipe.yaml"), to_yaml(recipe))
                folder.write_info(info)
            return _run(folder, info, recipe, dataset, model, torch_device, context, say)


def resume(run: str | Path, data: Dataset | None = None, *, device: str | None = None, say: Say = print) -> RunFolder:
    """Take an interrupted run to its end, from its newest checkpoint; a complete one is returned as it is.

    `data` is needed only for a run that began on an open Dataset; `device` is the run's own kind unless named. Raises
    UserError when there is no such run, or its data or recipe is missing or has changed.
    """
    with process_group() as context, _locked(folder := RunFolder.open(run), context):
        say = say if context.is_main_process else _say_nothing
        info = folder.info()
        if info.status == "complete":
            say(f"{folder.root} is complete already: nothing to resume.")
            if context.is_main_process and not folder.file("report.html").exists():
                say(f"report: {report(folder.root)}")
            return folder
        recipe = read_recipe(folder.file("recipe.yaml"))
        recipe_bytes = folder.file("recipe.yaml").read_bytes()
        if hashlib.sha256(recipe_bytes).hexdigest()[: len(info.recipe_hash)] != info.recipe_hash:
            raise _changed_error(folder, "recipe.yaml")
        torch_device = context.local_device(devices.resolve_device(device or info.device_type))
        if data is None and not info.data_request["source"]:
            raise NephrosError(f"{folder.root} was trained on data given in Python: give it to nephros.resume again.")
        dataset = _limit_training_images(recipe, load(**info.data_request) if data is None else data)
        if dataset.provenance.sha256 != info.data["sha256"]:
            raise _changed_error(folder, f"the data ({dataset.provenance.path})")
        model = _init_model(recipe, dataset, context)
        current_device = describe_devices(torch_device, context, recipe.amp)
        if current_device != info.device:
            say(
                f"warning: the run began on {info.device}, now it is on {current_device}: weights may differ in the last bits."
            )
        return _run(folder, info, recipe, dataset, model, torch_device, context, say)


def _init_model(recipe: Recipe, dataset: Dataset, context: DistributedContext) -> Classifier | None:
    """Return the network with its first weights; None for a classical baseline. UserError where the ranks can't share it."""
    if recipe.is_classical:
        if context.world_size > 1:
            raise NephrosError(f"{recipe.model.network} is learnt by one process: run it without torchrun.")
        check_classical(recipe, dataset)
        return None
    check_batch_sharding(recipe, len(dataset.train), context.world_size)
    return init_model(recipe, dataset.train, input_spec(dataset))


def _limit_training_images(recipe: Recipe, dataset: Dataset) -> Dataset:
    """Return the data with no more training images than a classical baseline is to learn from."""
    max_images = recipe.classical.max_images
    return take_subset(dataset, max_images, recipe.seed) if 0 < max_images < len(dataset.train) else dataset


def _locked(folder: RunFolder, context: DistributedContext) -> contextlib.AbstractContextManager[None]:
    """Hold the folder for all ranks: only the first one writes there."""
    return folder.lock() if context.is_main_process else contextlib.nullcontext()


def _say_nothing(_words: str) -> None:
    """Be a rank that leaves the talking to the first."""


def _check_same_run(folder: RunFolder, recipe: Recipe, request: dict[str, Any]) -> None:
    """Raise UserError unless the run in `folder`, found after a restart, is the one that was asked for."""
    info = folder.info()
    for unchanged, subject in (
        (info.recipe_hash == recipe.hash, "recipe"),
        (info.data_request == request, "choice of data"),
    ):
        if not unchanged:
            raise NephrosError(f"--out {folder.root} holds a run with another {subject}: name another folder.")


def _changed_error(folder: RunFolder, subject: str) -> NephrosError:
    return NephrosError(
        f"{folder.root} can't be resumed, since {subject} has changed since it began: train again with a new --out."
    )


def _run(
    folder: RunFolder,
    info: RunInfo,
    recipe: Recipe,
    dataset: Dataset,
    model: Classifier | None,
    device: torch.device,
    context: DistributedContext,
    say: Say,
) -> RunFolder:
    """Train to the end; all that comes after can be made again from the last checkpoint. Only the first rank writes."""

    def make_batches(split: str) -> BatchLoader:
        return BatchLoader(dataset.split(split), device, channels_last=recipe.channels_last, context=context)

    if model is None:
        result = train_classical(folder, recipe, dataset, device, say)
        batches = {"val": make_batches("val")}  # every image of the train split is its own nearest neighbour
    else:
        batches = {name: make_batches(name) for name in ("train", "val")}
        soft_targets = None
        if recipe.distillation_weight:
            soft_targets = cached_soft_targets(folder, info, batches["train"], dataset.n_classes, say)
        result = train_network(folder, recipe, model, batches, dataset, soft_targets, context)
    spec = input_spec(dataset)
    info = dataclasses.replace(
        info,
        chosen_epoch=result.epoch,
        hyperparameters=result.best_params,
        training_minutes=result.minutes,
        **(describe_model(result.model, spec) if model is None else {}),
    )
    if context.is_main_process:
        weights = cpu_state_dict(result.model)
        save_model(folder.file("weights.safetensors"), weights, recipe.model, spec, dataset.class_names)
        folder.write_info(info)
    if context.broadcast(info.test and not folder.file("test", "metrics.json").exists()):
        batches["test"] = make_batches("test")
    for split, split_batches in batches.items():
        say(f"scoring {split}")
        score_split(folder, info, result.model, split_batches, dataset, split)
    if context.is_main_process:
        folder.write_info(dataclasses.replace(info, status="complete"))
        say(f"report: {report(folder.root, dataset)}")
    return folder
