"""Training: a recipe on a data set, in a run folder that holds the weights, the scores and the report."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch

from nephros import device as devices
from nephros.data.dataset import Dataset, log_notes
from nephros.data.load import DataRequest, data_request, load_request
from nephros.device import check_threads, torch_threads
from nephros.distributed import is_torchrun_restart, process_group, under_torchrun
from nephros.environment import warn_of_spinning_threads
from nephros.errors import InvalidArgument
from nephros.exporters.pretrained import open_pretrained
from nephros.exporters.teachers import open_teacher
from nephros.files import write_text
from nephros.models.flops import count_multiply_adds
from nephros.models.stages import check_freeze
from nephros.presets import RECIPES
from nephros.recipe import Recipe, to_yaml
from nephros.recipe_io import override_fields, resolve_recipe
from nephros.runs import RunFolder, describe_init
from nephros.training.callbacks import Callback, check_callbacks
from nephros.training.distillation import check_teachers
from nephros.training.model_init import check_last_batch, check_tta_views, input_spec
from nephros.training.replicas import count_replicas
from nephros.training.run_info import build_run_info
from nephros.training.small_data import ADAPTABLE_FIELDS, adapt_recipe, few_images_warnings
from nephros.training.trackers import check_tracker
from nephros.training.warm_start import check_init, overlap_warnings, start_from
from nephros.workflows.resume import resume
from nephros.workflows.run import Run
from nephros.workflows.training_run import (
    check_test_split,
    create_folder,
    end_run,
    limit_training_images,
    locked,
    prepare_model,
    resumable,
    run_training,
    with_tracker,
)

logger = logging.getLogger(__name__)


def train(
    recipe: str | Path | Recipe = "nephros",
    data: str | Path | Dataset = "tissuemnist",
    *,
    out: str | Path | None = None,
    device: str = "auto",
    size: int | None = None,
    subset: int | None = None,
    resplit: Sequence[int] | None = None,
    data_seed: int = 0,
    white_level: float | None = None,
    channel: int | None = None,
    groups: str = "auto",
    teachers: str | Path | Sequence[str | Path] = (),
    init: str | Path | None = None,
    freeze: str | Sequence[str] = (),
    test: bool = False,
    threads: int | None = None,
    log: str | None = None,
    callbacks: Sequence[Callback] = (),
    adaptable: Collection[str] | None = None,
    command: str = "",
    **overrides: Any,
) -> Run:
    """Train `recipe` on `data`, evaluate it, write its report, and return the run.

        nephros.train("nephros-fast", "tissuemnist", epochs=3, optimizer__lr=0.01, test=True)

    Args:
        recipe: a recipe, or the name or YAML file of one (see `nephros.get_recipe`).
        data: a name, a path or an open Dataset.
        out: the run folder, which must not exist yet (default: runs/RECIPE-DATE-TIME).
        device: auto, cpu or cuda.
        size, subset, resplit, data_seed, white_level, channel, groups: passed to `nephros.load_dataset`, for data given by name
            or path.
        teachers: a finished run, exported .safetensors file or bundled model, or a list of them, trained on the same data; for a
            recipe with a `distillation_weight`.
        init: weights to start from, of the recipe's network: a bundled model's name or ``bundled`` (the default), a run folder,
            or a .safetensors file. They bring their normalization of the inputs; the last layer begins anew for other classes.
        freeze: stages of the network that keep the weights of `init`, such as ``("stem", "stage1")``; the others are trained.
        test: also score the test split, once, at the end.
        threads: CPU cores to use; None leaves torch's threads as they are, one per core. Where steps are large enough, each
            core trains a replica of the network on its part of every batch.
        log: also log to ``tensorboard``, ``mlflow`` or ``wandb``; each needs the extra of its name.
        callbacks: objects with the methods on_epoch_end and on_train_end (`nephros.Callback`).
        adaptable: fields of the recipe that change by themselves where few images make too few optimizer steps: of
            ``passes_per_epoch`` and ``batch_size``, by default both for a recipe given by its name, except those that `overrides`
            set, and none for any other.
        command: the command line to record in run.json.
        overrides: fields of the recipe in place of its own, such as ``epochs=3``; of nested ones with two underscores, such as
            ``optimizer__lr=0.01``.

    Raises NephrosError for arguments and data that can't be used, before anything is written; UnknownName for an override that is
    no field.
    """
    check_threads(threads)
    check_tracker(log)
    callbacks = check_callbacks(callbacks)
    # Through the parser, which rejects values of the wrong type, and makes 1 and 1.0 the same recipe.
    if adaptable is None:
        adaptable = ADAPTABLE_FIELDS if isinstance(recipe, str) and recipe in RECIPES else ()
        adaptable = [field for field in adaptable if field not in overrides]
    recipe = resolve_recipe(recipe)
    recipe = override_fields(recipe, overrides, [*inspect.signature(train).parameters][:-1])
    request = build_data_request(data, size, data_seed, subset, resplit, white_level, channel, groups)
    freeze = freeze.split(",") if isinstance(freeze, str) else list(freeze)
    teachers = [teachers] if isinstance(teachers, str | Path) else list(teachers)
    check_init(recipe, init, freeze)
    with process_group() as context, torch_threads(threads):
        if under_torchrun() and out is None:
            raise InvalidArgument("out", out, "a folder under torchrun, so that a restarted process finds its run")
        if out is not None and context.broadcast(is_torchrun_restart() and RunFolder.exists(Path(out))):
            _check_same_run(RunFolder.open(out), recipe, request, adaptable)
            opened = data if isinstance(data, Dataset) else None
            return resume(out, opened, device=device, log=log, callbacks=callbacks)
        torch_device = context.local_device(devices.resolve_device(device))
        dataset = data if isinstance(data, Dataset) else load_request({**request, "source": str(data)})
        check_test_split(test, dataset)
        recipe, dataset = _fit_to_data(recipe, dataset, adaptable)
        check_tta_views(recipe, dataset)
        model = prepare_model(recipe, dataset, context)
        if model is not None:
            check_last_batch(recipe, dataset, model)
        init_record = None
        if model is not None and init is not None:
            pretrained = open_pretrained(init)
            init_record = start_from(model, pretrained, recipe, dataset)
            warnings = dataset.warnings + overlap_warnings(pretrained, dataset)
            dataset = dataclasses.replace(dataset, warnings=warnings)
            check_freeze(model.network, freeze, head_is_new=init_record["head"] == "new")
        opened_teachers = [open_teacher(teacher) for teacher in teachers]
        check_teachers(recipe, opened_teachers, dataset)
        replicas = 1
        if model is not None:
            cost = count_multiply_adds(model.network, input_spec(dataset))
            replicas = count_replicas(recipe, len(dataset.train), cost, torch_device, context.world_size)
        warn_of_spinning_threads(torch.get_num_threads() // replicas)
        info = build_run_info(recipe, dataset, model, request, torch_device, test, command, context, replicas)
        teacher_records = [teacher.record for teacher in opened_teachers]
        info = dataclasses.replace(info, teachers=teacher_records, init=init_record, freeze=freeze)
        folder = create_folder(out, recipe, dataset, context)
        with locked(folder, context):
            if context.is_main_process:
                write_text(folder.file("recipe.yaml"), to_yaml(recipe))
                folder.write_info(info)
            log_notes(dataset)
            n_images = f"{len(dataset.train):,} training images"
            logger.info(f"{recipe.name} on {dataset.provenance.title}: {n_images}, {info.device}, in {folder.root}")
            if init_record is not None:
                logger.info("starting from %s", describe_init(init_record))
            with resumable(folder), with_tracker(folder, recipe, log, callbacks, context) as followers:
                run_training(folder, info, recipe, dataset, model, torch_device, context, followers)
                return end_run(folder, followers, data)


def build_data_request(
    data: str | Path | Dataset,
    size: int | None,
    data_seed: int,
    subset: int | None,
    resplit: Sequence[int] | None,
    white_level: float | None,
    channel: int | None,
    groups: str,
    draw_test: bool = True,
) -> DataRequest:
    """Return the arguments of `nephros.load_dataset` that run.json records; an open Dataset takes none of them."""
    if isinstance(data, Dataset):
        options = {"size": size, "subset": subset, "resplit": resplit, "white_level": white_level, "channel": channel}
        for parameter, value in options.items():
            if value is not None:
                raise InvalidArgument(
                    parameter, value, "left out for an open Dataset", hint="Pass it to `nephros.load_dataset` instead."
                )
    source = "" if isinstance(data, Dataset) else data
    return data_request(source, size, data_seed, subset, resplit, white_level, channel, groups, draw_test)


def _fit_to_data(recipe: Recipe, dataset: Dataset, adaptable: Collection[str]) -> tuple[Recipe, Dataset]:
    """Return a recipe with enough steps for the data, and the data with its training images limited and warnings added."""
    dataset = limit_training_images(recipe, dataset)
    recipe, sentence = adapt_recipe(recipe, len(dataset.train), adaptable)
    warnings = (*dataset.warnings, *few_images_warnings(dataset), *([sentence] if sentence else []))
    return recipe, dataclasses.replace(dataset, warnings=warnings)


def _check_same_run(folder: RunFolder, recipe: Recipe, request: DataRequest, adaptable: Collection[str]) -> None:
    """Raise InvalidArgument unless the run in `folder`, found after a restart, has this recipe and data."""
    info = folder.info()
    recipe, _ = adapt_recipe(recipe, sum(info.class_counts["train"]), adaptable)
    for unchanged, subject in (
        (folder.recipe() == recipe, "recipe"),
        (info.data_request == request, "choice of data"),
    ):
        if not unchanged:
            raise InvalidArgument("out", folder.root, f"another folder, since it holds a run with another {subject}")
