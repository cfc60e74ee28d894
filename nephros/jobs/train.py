"""The main job: train a recipe on a data set in a run folder, keep the weights, judge them, and make the report."""

from __future__ import annotations

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
from nephros.errors import UserError
from nephros.files import write_text
from nephros.jobs.evaluate import judge
from nephros.jobs.report import report
from nephros.jobs.start import default_out, describe_run
from nephros.models.classifier import Classifier
from nephros.models.saved import save_model
from nephros.recipe import Recipe, to_yaml
from nephros.recipe_files import find, from_mapping, read
from nephros.runs import RunFolder, RunInfo
from nephros.training import checkpoint
from nephros.training.begin import check_last_batch, fresh_model, shape_of
from nephros.training.fit import Fit
from nephros.training.history import Epoch, to_csv
from nephros.training.progress import ShowProgress

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
    processor = devices.choose(device)
    request: dict[str, Any] = {"source": "", "size": size, "subset": subset, "seed": data_seed}
    if isinstance(data, Dataset):
        dataset = data
    else:
        named = str(data).lower() in (*CATALOGUE, SYNTHETIC)
        request["source"] = str(data) if named else str(Path(data).expanduser().absolute())
        dataset = load(data, size=size, subset=subset, seed=data_seed)
    model = fresh_model(recipe, dataset.train, shape_of(dataset))
    check_last_batch(recipe, dataset, model)
    info = describe_run(recipe, dataset, model, request, processor, test, command)
    synthetic = dataset.provenance.split == "synthetic"
    folder = RunFolder.create(Path(out) if out else default_out(recipe, synthetic), synthetic)
    with folder.held():
        for warning in dataset.warnings:
            say(f"warning: {warning}")
        many = f"{len(dataset.train):,} training images"
        say(f"{recipe.name} on {dataset.provenance.title}: {many}, {info.device}, in {folder.root}")
        write_text(folder.file("recipe.yaml"), to_yaml(recipe))
        folder.write_info(info)
        return _go(folder, info, recipe, dataset, model, processor, say)


def resume(run: str | Path, data: Dataset | None = None, *, device: str | None = None, say: Say = print) -> RunFolder:
    """Take an interrupted run to its end, from its newest checkpoint; a complete one is returned as it is.

    `data` is needed only for a run that began on an open Dataset; `device` is the run's own kind unless named. Raises
    UserError when there is no such run, or its data or recipe is missing or has changed.
    """
    folder = RunFolder.open(run)
    with folder.held():
        info = folder.info()
        if info.status == "complete":
            say(f"{folder.root} is complete already: nothing to resume.")
            if not folder.file("report.html").exists():
                say(f"report: {report(folder.root)}")
            return folder
        recipe = read(folder.file("recipe.yaml"))
        text = folder.file("recipe.yaml").read_bytes()
        if hashlib.sha256(text).hexdigest()[: len(info.recipe_hash)] != info.recipe_hash:
            raise _changed(folder, "recipe.yaml")
        processor = devices.choose(device or info.device_type)
        if data is None and not info.request["source"]:
            raise UserError(f"{folder.root} was trained on data given in Python: give it to nephros.resume again.")
        dataset = load(**info.request) if data is None else data
        if dataset.provenance.sha256 != info.data["sha256"]:
            raise _changed(folder, f"the data ({dataset.provenance.path})")
        if (processor.type, torch.get_num_threads()) != (info.device_type, info.threads):
            now = devices.describe(processor)
            say(f"warning: the run began on {info.device}, now it is on {now}: weights may differ in the last bits.")
        return _go(folder, info, recipe, dataset, fresh_model(recipe, dataset.train, shape_of(dataset)), processor, say)


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
    say: Say,
) -> RunFolder:
    """Train to the end; all that comes after can be made again from the last checkpoint."""
    batches = {
        name: Batches(dataset.split(name), processor, channels_last=recipe.channels_last) for name in ("train", "val")
    }
    fit = Fit(recipe, model, batches["train"], batches["val"], dataset.class_names)
    file = folder.file("checkpoint.pt")
    with _Recorder(folder, recipe.epochs, len(dataset.train)) as progress:
        if file.exists():
            fit.load(checkpoint.load(file))
            progress.resumed(fit.history)
        fit.run(partial(checkpoint.save, file), progress)
    write_text(folder.file("history.csv"), to_csv(fit.history))
    weights, epoch = fit.final_weights()
    save_model(folder.file("weights.safetensors"), weights, recipe.model, shape_of(dataset), dataset.class_names)
    minutes = sum(row.seconds for row in fit.history) / 60
    info = dataclasses.replace(info, chosen_epoch=epoch, training_minutes=minutes)
    folder.write_info(info)
    model.load_state_dict(weights)
    if info.test and not folder.file("test", "metrics.json").exists():
        batches["test"] = Batches(dataset.test, processor, channels_last=recipe.channels_last)
    for split, images in batches.items():
        say(f"scoring {split}")
        judge(folder, info, model, images, dataset, split)
    folder.write_info(dataclasses.replace(info, status="complete"))
    say(f"report: {report(folder.root, dataset)}")
    return folder
