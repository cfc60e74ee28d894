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
from nephros.data.batches import Batches
from nephros.data.dataset import Dataset
from nephros.data.load import load, request_of
from nephros.data.subset import subset as take_subset
from nephros.distributed import Ranks, joined, restarted, under_torchrun
from nephros.errors import UserError
from nephros.files import write_text
from nephros.models.classifier import Classifier
from nephros.models.serialization import save_model
from nephros.recipe import Recipe, to_yaml
from nephros.recipe_io import find, from_mapping, read
from nephros.runs import RunFolder, RunInfo
from nephros.training.classical.check import check_classical
from nephros.training.distillation import check_teachers, targets_of
from nephros.training.distillation import described as describe_teachers
from nephros.training.model_init import check_last_batch, check_parts, check_views, fresh_model, shape_of
from nephros.training.parts import clone_state
from nephros.training.run_info import default_out, describe_processors, describe_run, described
from nephros.training.runner import teach_classical, teach_network
from nephros.workflows.evaluate import judge
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
    `teachers` are finished runs on the same data, for a recipe with a `teacher_share`.
    With `test`, the test split is scored once, at the end. Raises UserError for input that can't be used, before anything
    is written.
    """
    # Through the parser, so that values of the wrong kind are refused here, and 1 for 1.0 is the same recipe.
    recipe = find(recipe) if isinstance(recipe, str) else from_mapping(recipe.to_dict(), "The recipe")
    if isinstance(data, Dataset) and any(asked is not None for asked in (size, subset, resplit)):
        raise UserError("size, subset and resplit are for data given by name or path: cut an open Dataset before.")
    request = request_of("" if isinstance(data, Dataset) else data, size, data_seed, subset, resplit)
    with joined() as ranks:
        if under_torchrun() and out is None:
            raise UserError("torchrun needs --out DIR: a process that it starts again must find the run it belongs to.")
        if out is not None and ranks.from_first(restarted() and RunFolder.begun(Path(out))):
            _check_same(RunFolder.open(out), recipe, request)
            return resume(out, data if isinstance(data, Dataset) else None, device=device, say=say)
        processor = ranks.own(devices.choose(device))
        dataset = _cut(recipe, data if isinstance(data, Dataset) else load(**request | {"source": data}))
        check_views(recipe, dataset)
        model = _begin(recipe, dataset, ranks)
        if model is not None:
            check_last_batch(recipe, dataset, model)
        check_teachers(recipe, teachers, dataset)
        info = describe_run(recipe, dataset, model, request, processor, test, command, ranks)
        info = dataclasses.replace(info, teachers=describe_teachers(teachers))
        synthetic = dataset.provenance.split == "synthetic"
        root = Path(out) if out else default_out(recipe, synthetic)
        folder = RunFolder.create(root, synthetic) if ranks.first else RunFolder(root.expanduser(), synthetic)
        with _held(folder, ranks):
            say = say if ranks.first else _say_nothing
            for warning in dataset.warnings:
                say(f"warning: {warning}")
            many = f"{len(dataset.train):,} training images"
            say(f"{recipe.name} on {dataset.provenance.title}: {many}, {info.device}, in {folder.root}")
            if ranks.first:
                write_text(folder.file("recipe.yaml"), to_yaml(recipe))
                folder.write_info(info)
            return _go(folder, info, recipe, dataset, model, processor, ranks, say)


def resume(run: str | Path, data: Dataset | None = None, *, device: str | None = None, say: Say = print) -> RunFolder:
    """Take an interrupted run to its end, from its newest checkpoint; a complete one is returned as it is.

    `data` is needed only for a run that began on an open Dataset; `device` is the run's own kind unless named. Raises
    UserError when there is no such run, or its data or recipe is missing or has changed.
    """
    with joined() as ranks, _held(folder := RunFolder.open(run), ranks):
        say = say if ranks.first else _say_nothing
        info = folder.info()
        if info.status == "complete":
            say(f"{folder.root} is complete already: nothing to resume.")
            if ranks.first and not folder.file("report.html").exists():
                say(f"report: {report(folder.root)}")
            return folder
        recipe = read(folder.file("recipe.yaml"))
        text = folder.file("recipe.yaml").read_bytes()
        if hashlib.sha256(text).hexdigest()[: len(info.recipe_hash)] != info.recipe_hash:
            raise _changed(folder, "recipe.yaml")
        processor = ranks.own(devices.choose(device or info.device_type))
        if data is None and not info.request["source"]:
            raise UserError(f"{folder.root} was trained on data given in Python: give it to nephros.resume again.")
        dataset = _cut(recipe, load(**info.request) if data is None else data)
        if dataset.provenance.sha256 != info.data["sha256"]:
            raise _changed(folder, f"the data ({dataset.provenance.path})")
        model = _begin(recipe, dataset, ranks)
        here = describe_processors(processor, ranks, recipe.amp)
        if here != info.device:
            say(f"warning: the run began on {info.device}, now it is on {here}: weights may differ in the last bits.")
        return _go(folder, info, recipe, dataset, model, processor, ranks, say)


def _begin(recipe: Recipe, dataset: Dataset, ranks: Ranks) -> Classifier | None:
    """Return the network with its first weights; None for a classical baseline. UserError where the ranks can't share it."""
    if recipe.classical:
        if ranks.world > 1:
            raise UserError(f"{recipe.model.network} is learnt by one process: run it without torchrun.")
        check_classical(recipe, dataset)
        return None
    check_parts(recipe, len(dataset.train), ranks.world)
    return fresh_model(recipe, dataset.train, shape_of(dataset))


def _cut(recipe: Recipe, dataset: Dataset) -> Dataset:
    """Return the data with no more training images than a classical baseline is to learn from."""
    most = recipe.classic.images
    return take_subset(dataset, most, recipe.seed) if 0 < most < len(dataset.train) else dataset


def _held(folder: RunFolder, ranks: Ranks) -> contextlib.AbstractContextManager[None]:
    """Hold the folder for all ranks: only the first one writes there."""
    return folder.held() if ranks.first else contextlib.nullcontext()


def _say_nothing(_words: str) -> None:
    """Be a rank that leaves the talking to the first."""


def _check_same(folder: RunFolder, recipe: Recipe, request: dict[str, Any]) -> None:
    """Raise UserError unless the run in `folder`, found after a restart, is the one that was asked for."""
    info = folder.info()
    for same, what in ((info.recipe_hash == recipe.hash, "recipe"), (info.request == request, "choice of data")):
        if not same:
            raise UserError(f"--out {folder.root} holds a run with another {what}: name another folder.")


def _changed(folder: RunFolder, what: str) -> UserError:
    return UserError(
        f"{folder.root} can't be resumed, since {what} has changed since it began: train again with a new --out."
    )


def _go(
    folder: RunFolder,
    info: RunInfo,
    recipe: Recipe,
    dataset: Dataset,
    model: Classifier | None,
    processor: torch.device,
    ranks: Ranks,
    say: Say,
) -> RunFolder:
    """Train to the end; all that comes after can be made again from the last checkpoint. Only the first rank writes."""

    def ready(split: str) -> Batches:
        return Batches(dataset.split(split), processor, channels_last=recipe.channels_last, ranks=ranks)

    if model is None:
        taught = teach_classical(folder, recipe, dataset, processor, say)
        batches = {"val": ready("val")}  # every image of the train split is its own nearest neighbour
    else:
        batches = {name: ready(name) for name in ("train", "val")}
        targets = None
        if recipe.teacher_share:
            targets = targets_of(folder, info, batches["train"], dataset.classes, say)
        taught = teach_network(folder, recipe, model, batches, dataset, targets, ranks)
    shape = shape_of(dataset)
    info = dataclasses.replace(
        info,
        chosen_epoch=taught.epoch,
        combination=taught.combination,
        training_minutes=taught.minutes,
        **(described(taught.model, shape) if model is None else {}),
    )
    if ranks.first:
        weights = clone_state(taught.model)
        save_model(folder.file("weights.safetensors"), weights, recipe.model, shape, dataset.class_names)
        folder.write_info(info)
    if ranks.from_first(info.test and not folder.file("test", "metrics.json").exists()):
        batches["test"] = ready("test")
    for split, images in batches.items():
        say(f"scoring {split}")
        judge(folder, info, taught.model, images, dataset, split)
    if ranks.first:
        folder.write_info(dataclasses.replace(info, status="complete"))
        say(f"report: {report(folder.root, dataset)}")
    return folder
