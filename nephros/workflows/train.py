"""Training: a recipe on a data set, in a run folder that holds the weights, the scores and the report."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nephros import device as devices
from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset, log_notes
from nephros.data.load import DataRequest, data_request, load_request
from nephros.data.relocation import candidate_paths, reopen_dataset
from nephros.data.subset import subset_train
from nephros.device import check_threads, torch_threads
from nephros.distributed import DistributedContext, is_torchrun_restart, process_group, under_torchrun
from nephros.environment import warn_of_spinning_threads
from nephros.errors import FileError, IncompleteError, InvalidArgument, NephrosError
from nephros.evaluation.largest_class import no_better_than_largest_class
from nephros.exporters.pretrained import open_pretrained
from nephros.exporters.teachers import open_teacher
from nephros.files import file_digest, write_text
from nephros.models.classifier import Classifier, PretrainedModel
from nephros.models.flops import count_multiply_adds
from nephros.models.serialization import save_model
from nephros.models.stages import check_freeze
from nephros.presets import RECIPES
from nephros.recipe import Recipe, to_yaml
from nephros.recipe_io import override_fields, resolve_recipe
from nephros.runs import InitRecord, RunFolder, RunInfo, describe_init
from nephros.training.callbacks import Callback, check_callbacks
from nephros.training.checkpoint import cpu_state_dict
from nephros.training.classical.grid_search import check_classical
from nephros.training.distillation import cached_soft_targets, check_teachers
from nephros.training.model_init import check_batch_sharding, check_last_batch, check_tta_views, init_model, input_spec
from nephros.training.replicas import count_replicas
from nephros.training.run_info import build_run_info, default_run_dir, describe_devices, describe_model
from nephros.training.runner import TrainingResult, train_classical, train_network
from nephros.training.small_data import ADAPTABLE_FIELDS, adapt_recipe, few_images_warnings
from nephros.training.trackers import TRACKERS, check_tracker
from nephros.training.warm_start import check_init, start_from
from nephros.workflows.evaluate import score_split
from nephros.workflows.report import report
from nephros.workflows.run import Run

logger = logging.getLogger(__name__)


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
    white_level: float | None = None,
    channel: int | None = None,
    groups: str = "auto",
    teachers: Sequence[str | Path] = (),
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
        teachers: finished runs, exported .safetensors files or bundled models, trained on the same data; for a recipe with a
            `distillation_weight`.
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
        recipe, dataset = _fit_to_data(recipe, dataset, adaptable)
        check_tta_views(recipe, dataset)
        model = _init_model(recipe, dataset, context)
        if model is not None:
            check_last_batch(recipe, dataset, model)
        init_record = None
        if model is not None and init is not None:
            init_record = start_from(model, open_pretrained(init), recipe, dataset)
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
        folder = _create_folder(out, recipe, dataset, context)
        with _locked(folder, context):
            followers = _followers(folder, recipe, log, callbacks, context)
            log_notes(dataset)
            n_images = f"{len(dataset.train):,} training images"
            logger.info(f"{recipe.name} on {dataset.provenance.title}: {n_images}, {info.device}, in {folder.root}")
            if init_record is not None:
                logger.info("starting from %s", describe_init(init_record))
            if context.is_main_process:
                write_text(folder.file("recipe.yaml"), to_yaml(recipe))
                folder.write_info(info)
            _run(folder, info, recipe, dataset, model, torch_device, context, followers)
        return _finished(folder, followers, data)


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
    with process_group() as context, torch_threads(threads), _locked(folder := RunFolder.open(run), context):
        info = folder.info()
        if info.status == "complete":
            logger.info("%s is already complete: there is nothing to resume", folder.root)
            if context.is_main_process and not folder.file("report.html").exists():
                report(folder.root)
            return _finished(folder, (), data)
        if info.finetuning is not None:
            raise IncompleteError(
                f"{folder.root} was fine-tuned, which can't be resumed: run `nephros.finetune(DATA)` again with a new `out`."
            )
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
        dataset = _limit_training_images(recipe, reopen_dataset(info.data_request, info.data, folder.root, data))
        model = _init_model(recipe, dataset, context)
        if model is not None and info.init is not None and not folder.file("checkpoint.pt").exists():
            pretrained = _reopen_pretrained(folder, info.init)
            start_from(model, pretrained, recipe, dataset)
        current_device = describe_devices(torch_device, context, recipe.amp, info.replicas)
        if current_device != info.device:
            logger.warning(
                "the run started on %s and continues on %s, so weights may differ in the last bits",
                info.device,
                current_device,
            )
        followers = _followers(folder, recipe, log, callbacks, context)
        _run(folder, info, recipe, dataset, model, torch_device, context, followers)
    return _finished(folder, followers, data)


def _followers(
    folder: RunFolder, recipe: Recipe, log: str | None, callbacks: Sequence[Callback], context: DistributedContext
) -> tuple[Callback, ...]:
    """Return the callbacks of this rank, with the tracker's; only the first rank has any."""
    if not context.is_main_process:
        return ()
    return (*callbacks, *([TRACKERS[log](folder, recipe)] if log else []))


def _finished(folder: RunFolder, callbacks: Sequence[Callback], data: str | Path | Dataset | None) -> Run:
    """Tell the callbacks that a run has ended, and return it, with its data where that was given in Python."""
    run = Run(folder.root, folder.synthetic, data if isinstance(data, Dataset) else None)
    for callback in callbacks:
        callback.on_train_end(run)
    return run


def build_data_request(
    data: str | Path | Dataset,
    size: int | None,
    data_seed: int,
    subset: int | None,
    resplit: Sequence[int] | None,
    white_level: float | None,
    channel: int | None,
    groups: str,
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
    return data_request(source, size, data_seed, subset, resplit, white_level, channel, groups)


def _reopen_pretrained(folder: RunFolder, record: InitRecord) -> PretrainedModel:
    """Return the weights that a run started from, from where they were or near the run folder; raise FileError for others."""
    moved = (path for path in candidate_paths(record["source"], folder.root) if path.exists())
    sources: list[str | Path] = [record["source"], *moved]
    for source in sources:
        with contextlib.suppress(NephrosError):
            if (pretrained := open_pretrained(source)).sha256 == record["sha256"]:
                return pretrained
    raise _changed_error(folder, f"the weights it started from ({record['source']})")


def _init_model(recipe: Recipe, dataset: Dataset, context: DistributedContext) -> Classifier | None:
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


def _fit_to_data(recipe: Recipe, dataset: Dataset, adaptable: Collection[str]) -> tuple[Recipe, Dataset]:
    """Return a recipe with enough steps for the data, and the data with its training images limited and warnings added."""
    dataset = _limit_training_images(recipe, dataset)
    recipe, sentence = adapt_recipe(recipe, len(dataset.train), adaptable)
    warnings = (*dataset.warnings, *few_images_warnings(dataset), *([sentence] if sentence else []))
    return recipe, dataclasses.replace(dataset, warnings=warnings)


def _limit_training_images(recipe: Recipe, dataset: Dataset) -> Dataset:
    """Return the data with at most `classical.max_images` training images."""
    max_images = recipe.classical.max_images
    return subset_train(dataset, max_images, recipe.seed) if 0 < max_images < len(dataset.train) else dataset


def _create_folder(out: str | Path | None, recipe: Recipe, dataset: Dataset, context: DistributedContext) -> RunFolder:
    synthetic = dataset.provenance.split == "synthetic"
    run_dir = Path(out) if out else default_run_dir(recipe, synthetic)
    if context.is_main_process:
        return RunFolder.create(run_dir, synthetic)
    return RunFolder(run_dir.expanduser(), synthetic)


def _locked(folder: RunFolder, context: DistributedContext) -> contextlib.AbstractContextManager[None]:
    """Lock the folder for all ranks: only the first one writes there."""
    return folder.lock() if context.is_main_process else contextlib.nullcontext()


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


def _changed_error(folder: RunFolder, subject: str) -> FileError:
    return FileError(
        folder.root,
        f"{folder.root} can't be resumed, since {subject} has changed or gone since it started: train again with a new `out`.",
    )


def _run(
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
            soft_targets = cached_soft_targets(folder, info, batches["train"], dataset.n_classes, open_teacher)
        result = train_network(
            folder, recipe, model, batches, dataset, soft_targets, context, info.freeze, callbacks, info.replicas
        )
    info = _with_result(info, result, dataset, is_classical=model is None)
    if context.is_main_process:
        spec = input_spec(dataset)
        weights = folder.file("weights.safetensors")
        save_model(weights, cpu_state_dict(result.model), recipe.model, spec, dataset.class_names)
        info = dataclasses.replace(info, weights_sha256=file_digest(weights))
        folder.write_info(info)
    if context.broadcast(info.test and not folder.file("test", "metrics.json").exists()):
        batches["test"] = make_batches("test")
    finish_run(folder, info, result.model, batches, dataset)


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
