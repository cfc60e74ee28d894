"""The main job: train a recipe on a data set in a run folder, keep the weights, judge them, and make the report."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from nephros import device as devices
from nephros.data.batches import Batches
from nephros.data.catalogue import CATALOGUE
from nephros.data.dataset import Dataset
from nephros.data.load import SYNTHETIC, load
from nephros.distributed import Ranks, joined, restarted, under_torchrun
from nephros.errors import UserError
from nephros.files import write_text
from nephros.jobs.evaluate import judge
from nephros.jobs.report import report
from nephros.jobs.start import default_out, describe_processors, describe_run
from nephros.models.classifier import Classifier
from nephros.models.saved import save_model
from nephros.recipe import Recipe, to_yaml
from nephros.recipe_files import find, from_mapping, read
from nephros.runs import RunFolder, RunInfo
from nephros.training import checkpoint
from nephros.training.begin import check_last_batch, check_parts, fresh_model, shape_of
from nephros.training.fit import Fit
from nephros.training.history import Epoch, to_csv
from nephros.training.progress import NoProgress, ShowProgress

Say = Callable[[str], None]


def train(
    recipe: str | Recipe = "nephros",
    data: str | Path | Dataset = "tissuemnist",
    *,
    out: str | Path | None = None,
    device: str = "auto",
    size: int | None = None,
    subset: int | None = None,
    data_seed: int = 0,
    test: bool = False,
    command: str = "",
    say: Say = print,
) -> RunFolder:
    """Train `recipe` on `data` and return the finished run folder.

    `data` is a name, a path or an open Dataset. `size`, `subset` and `data_seed` are passed to `nephros.load`. With `test`,
    the test split is scored once, at the end. Raises UserError for input that can't be used, before anything is written.
    """
    # Through the parser, so that values of the wrong kind are refused here, and 1 for 1.0 is the same recipe.
    recipe = find(recipe) if isinstance(recipe, str) else from_mapping(recipe.to_dict(), "The recipe")
    request: dict[str, Any] = {"source": "", "size": size, "subset": subset, "seed": data_seed}
    if not isinstance(data, Dataset):
        named = str(data).lower() in (*CATALOGUE, SYNTHETIC)
        request["source"] = str(data) if named else str(Path(data).expanduser().absolute())
    with joined() as ranks:
        if under_torchrun() and out is None:
            raise UserError("torchrun needs --out DIR: a process that it starts again must find the run it belongs to.")
        if out is not None and ranks.from_first(restarted() and RunFolder.begun(Path(out))):
            _check_same(RunFolder.open(out), recipe, request)
            return resume(out, data if isinstance(data, Dataset) else None, device=device, say=say)
        processor = ranks.own(devices.choose(device))
        dataset = data if isinstance(data, Dataset) else load(data, size=size, subset=subset, seed=data_seed)
        model = fresh_model(recipe, dataset.train, shape_of(dataset))
        check_last_batch(recipe, dataset, model)
        check_parts(recipe, len(dataset.train), ranks.world)
        info = describe_run(recipe, dataset, model, request, processor, test, command, ranks)
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
        dataset = load(**info.request) if data is None else data
        if dataset.provenance.sha256 != info.data["sha256"]:
            raise _changed(folder, f"the data ({dataset.provenance.path})")
        check_parts(recipe, len(dataset.train), ranks.world)
        now = (processor.type, torch.get_num_threads(), ranks.world)
        if now != (info.device_type, info.threads, info.processes):
            here = describe_processors(processor, ranks)
            say(f"warning: the run began on {info.device}, now it is on {here}: weights may differ in the last bits.")
        model = fresh_model(recipe, dataset.train, shape_of(dataset))
        return _go(folder, info, recipe, dataset, model, processor, ranks, say)


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


class _Recorder(ShowProgress):
    """Shows progress and keeps history.csv up to date."""

    def __init__(self, folder: RunFolder, epochs: int, images: int) -> None:
        super().__init__(epochs, images)
        self._folder = folder

    def epoch(self, row: Epoch, rows: list[Epoch]) -> None:
        write_text(self._folder.file("history.csv"), to_csv(rows))
        super().epoch(row, rows)


def _go(
    folder: RunFolder,
    info: RunInfo,
    recipe: Recipe,
    dataset: Dataset,
    model: Classifier,
    processor: torch.device,
    ranks: Ranks,
    say: Say,
) -> RunFolder:
    """Train to the end; all that comes after can be made again from the last checkpoint. Only the first rank writes."""

    def ready(split: str) -> Batches:
        return Batches(dataset.split(split), processor, channels_last=recipe.channels_last, ranks=ranks)

    batches = {name: ready(name) for name in ("train", "val")}
    fit = Fit(recipe, model, batches["train"], batches["val"], dataset.class_names)
    _train(folder, fit, ranks)
    weights, epoch = fit.final_weights()
    minutes = sum(row.seconds for row in fit.history) / 60
    info = dataclasses.replace(info, chosen_epoch=epoch, training_minutes=minutes)
    if ranks.first:
        write_text(folder.file("history.csv"), to_csv(fit.history))
        save_model(folder.file("weights.safetensors"), weights, recipe.model, shape_of(dataset), dataset.class_names)
        folder.write_info(info)
    model.load_state_dict(weights)
    if ranks.from_first(info.test and not folder.file("test", "metrics.json").exists()):
        batches["test"] = ready("test")
    for split, images in batches.items():
        say(f"scoring {split}")
        judge(folder, info, model, images, dataset, split)
    if ranks.first:
        folder.write_info(dataclasses.replace(info, status="complete"))
        say(f"report: {report(folder.root, dataset)}")
    return folder


def _train(folder: RunFolder, fit: Fit, ranks: Ranks) -> None:
    """Take the fit from the folder's checkpoint, if there is one, to its end; only the first rank writes and shows."""
    file = folder.file("checkpoint.pt")
    if file.exists():
        fit.load(checkpoint.load(file))
    done = ranks.stack(torch.tensor(len(fit.history)))
    if (done != done[0]).any():
        raise UserError(f"Not all processes see the same checkpoint: put {folder.root} where every machine reads it.")
    if not ranks.first:
        fit.run(None, NoProgress())
        return
    with _Recorder(folder, fit.recipe.epochs, len(fit.train_batches)) as progress:
        if fit.history:
            progress.resumed(fit.history)
        fit.run(partial(checkpoint.save, file), progress)
