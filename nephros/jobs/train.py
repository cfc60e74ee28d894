"""The main job: train a recipe on a data set in a run folder, keep the weights, judge them, and make the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from nephros import device as devices
from nephros.data.batches import Batches, channel_statistics
from nephros.data.catalogue import CATALOGUE
from nephros.data.dataset import Dataset
from nephros.data.load import SYNTHETIC, load
from nephros.errors import UserError
from nephros.files import write_text
from nephros.jobs.evaluate import judge
from nephros.jobs.report import report
from nephros.models import build
from nephros.models.classifier import Classifier
from nephros.models.cost import multiply_adds, parameters
from nephros.models.saved import save_model
from nephros.models.shape import Shape
from nephros.recipe import Recipe, to_yaml
from nephros.recipe_files import find, read
from nephros.runs import RunFolder, RunInfo
from nephros.training import checkpoint
from nephros.training.fit import Fit
from nephros.training.history import Epoch, to_csv
from nephros.training.progress import ShowProgress
from nephros.versions import commit, versions

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

    `data` is a name, a path or an open Dataset (a run on which can't be resumed in another process). `size`, `subset` and
    `data_seed` are passed to `nephros.load`. With `test`, the test split is scored once, at the end. Raises UserError for
    input that can't be used, before anything is written.
    """
    recipe = find(recipe) if isinstance(recipe, str) else recipe
    processor = devices.choose(device)
    request: dict[str, Any] = {"source": "", "size": size, "subset": subset, "seed": data_seed}
    if isinstance(data, Dataset):
        dataset = data
    else:
        named = str(data).lower() in (*CATALOGUE, SYNTHETIC)
        request["source"] = str(data) if named else str(Path(data).expanduser().absolute())
        dataset = load(data, size=size, subset=subset, seed=data_seed)
    model = _fresh(recipe, dataset)
    info = _describe(recipe, dataset, model, request, processor, test, command)
    synthetic = dataset.provenance.split == "synthetic"
    folder = RunFolder.create(Path(out) if out else _default_out(recipe, synthetic), synthetic)
    for warning in dataset.warnings:
        say(f"warning: {warning}")
    say(
        f"{recipe.name} on {dataset.provenance.title}: {len(dataset.train):,} training images, {info.device}, in {folder.root}"
    )
    with folder.held():
        write_text(folder.file("recipe.yaml"), to_yaml(recipe))
        folder.write_info(info)
        return _go(folder, info, recipe, dataset, model, processor, say)


def resume(run: str | Path, *, device: str = "auto", say: Say = print) -> RunFolder:
    """Take an interrupted run to its end, from its newest checkpoint; a complete one is returned as it is.

    Raises UserError when there is no such run, or its data is missing or has changed.
    """
    folder = RunFolder.open(run)
    info = folder.info()
    if info.status == "complete":
        say(f"{folder.root} is complete already: nothing to resume.")
        if not folder.file("report.html").exists():
            say(f"report: {report(folder.root)}")
        return folder
    recipe = read(folder.file("recipe.yaml"))
    if not info.request["source"]:
        raise UserError(
            f"{folder.root} was trained on data given in Python, so it can't be resumed by name: train again."
        )
    processor = devices.choose(device)
    dataset = load(**info.request)
    if dataset.provenance.sha256 != info.data["sha256"] or recipe.hash != info.recipe_hash:
        what = "recipe.yaml" if recipe.hash != info.recipe_hash else f"the data ({dataset.provenance.path})"
        raise UserError(
            f"{folder.root} can't be resumed, since {what} has changed since it began: train again with a new --out."
        )
    if processor.type == "cpu" and torch.get_num_threads() != info.threads:
        now = torch.get_num_threads()
        say(
            f"warning: the run began with {info.threads} threads, now there are {now}: weights may differ in the last bits."
        )
    with folder.held():
        folder.sweep()
        return _go(folder, info, recipe, dataset, _fresh(recipe, dataset), processor, say)


def _fresh(recipe: Recipe, dataset: Dataset) -> Classifier:
    torch.manual_seed(recipe.seed)
    network = build(recipe.model, _shape(dataset))
    if recipe.normalise == "data":
        return Classifier(network, *channel_statistics(dataset.train))
    mean, std = {"half": (0.5, 0.5), "unit": (0.0, 1.0)}[recipe.normalise]
    return Classifier(network, [mean] * dataset.channels, [std] * dataset.channels)


def _shape(dataset: Dataset) -> Shape:
    return Shape(dataset.channels, *dataset.size, dataset.classes)


def _describe(
    recipe: Recipe,
    dataset: Dataset,
    model: Classifier,
    request: dict[str, Any],
    processor: torch.device,
    test: bool,
    command: str,
) -> RunInfo:
    return RunInfo(
        recipe=recipe.name,
        recipe_hash=recipe.hash,
        seed=recipe.seed,
        command=command,
        device=devices.describe(processor),
        threads=torch.get_num_threads(),
        data=dataset.provenance.to_dict(),
        request=request,
        class_names=list(dataset.class_names),
        shape=dataclasses.asdict(_shape(dataset)),
        class_counts={name: split.counts(dataset.classes).tolist() for name, split in dataset.splits()},
        normalisation={"mean": model.mean.tolist(), "std": model.std.tolist()},
        parameters=parameters(model),
        multiply_adds=multiply_adds(model.network, _shape(dataset)),
        test=test,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=versions(),
        commit=commit(),
        warnings=list(dataset.warnings),
    )


def _default_out(recipe: Recipe, synthetic: bool) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{recipe.name}-{'synthetic-' if synthetic else ''}{stamp}"


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
    batches = Batches(dataset.train, processor, channels_last=recipe.channels_last)
    val = Batches(dataset.val, processor, channels_last=recipe.channels_last)
    fit = Fit(recipe, model, batches, val, dataset.class_names)
    file = folder.file("checkpoint.pt")
    with _Recorder(folder, recipe.epochs, len(batches)) as progress:
        if file.exists():
            fit.load(checkpoint.load(file))
            progress.resumed(fit.history)
        fit.run(file, progress)
    write_text(folder.file("history.csv"), to_csv(fit.history))
    weights, epoch = fit.final_weights()
    save_model(folder.file("weights.safetensors"), weights, recipe.model, _shape(dataset), dataset.class_names)
    minutes = sum(row.seconds for row in fit.history) / 60
    info = dataclasses.replace(info, chosen_epoch=epoch, training_minutes=minutes)
    folder.write_info(info)
    model.load_state_dict(weights)
    for split in [
        "train",
        "val",
        *(["test"] if info.test and not folder.file("test", "metrics.json").exists() else []),
    ]:
        say(f"scoring {split}")
        judge(folder, info, model, dataset, split, processor)
    info = dataclasses.replace(info, status="complete")
    folder.write_info(info)
    page = report(folder.root, dataset)
    say(f"report: {page}")
    return folder
