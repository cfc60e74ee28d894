"""Carrying out the transfer experiment, resumable: sources are trained once, and each draw of labels is written when done."""

from __future__ import annotations

import contextlib
import copy
import csv
import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from nephros import device as devices
from nephros.data.dataset import Dataset
from nephros.data.load import load_dataset
from nephros.data.split import Split
from nephros.evaluation.metrics import Floats, compute_metrics
from nephros.experiments.plans import select_by_key
from nephros.experiments.transfer import (
    LABELS_PER_CLASS,
    N_DRAWS,
    TransferRow,
    TransferTask,
    draw_labels,
    source_dataset,
    task_splits,
    transfer_tasks,
    without_labels,
)
from nephros.exporters.pretrained import open_pretrained
from nephros.files import file_lock, write_text
from nephros.finetuning.choice import METHODS, choose_method
from nephros.finetuning.cross_validation import cross_validate, predict_held_out
from nephros.finetuning.features import extract_features
from nephros.finetuning.few_label_classifiers import FEATURE_CLASSIFIERS, PIXEL_CLASSIFIERS, fit_and_predict
from nephros.finetuning.folds import Folds, Indices, make_folds
from nephros.finetuning.problem import Problem
from nephros.models.classifier import Classifier, PretrainedModel
from nephros.reading import file_errors
from nephros.recipe_io import get_recipe
from nephros.reporting.transfer import write_transfer_table
from nephros.runs import RunFolder
from nephros.text_tables import csv_table
from nephros.training.warm_start import recenter
from nephros.workflows.resume import resume
from nephros.workflows.train import train

TTA_VIEWS = 1
"""Views of each image: more cost every method the same and change little between them."""
N_FOLDS = 3
"""Folds from which `finetune` chooses: with its own default of five, the experiment would take two thirds longer."""
LABELED_METHODS = tuple(name for name in METHODS if name != "self-training")
_COLUMNS = tuple(field.name for field in dataclasses.fields(TransferRow))

logger = logging.getLogger(__name__)


def reproduce_transfer(
    data: str = "tissuemnist",
    *,
    only: Sequence[str] = (),
    runs: str | Path = "runs",
    out: str | Path | None = None,
    device: str = "auto",
    epochs: int | None = None,
    labels_per_class: Sequence[int] = LABELS_PER_CLASS,
    draws: Sequence[int] = range(N_DRAWS),
    methods: Sequence[str] | None = None,
) -> list[Path]:
    """Carry the transfer experiment out, and write its table and figure; return their files.

    Several processes may share it: a task that another process is carrying out is left to it.

    Args:
        data: name or path of the data whose classes are learned; the far tasks have data sets of their own.
        only: keys of the tasks; by default all.
        runs: folder of the sources (RUNS/transfer/TASK) and of the rows so far (RUNS/transfer/rows.csv).
        out: folder of the table; by default results/, or with `epochs` the folder of the rows.
        device: auto, cpu or cuda.
        epochs: limit on the epochs of the sources, to try the experiment out.
        labels_per_class, draws: how many labels are drawn, and the numbers of the draws.
        methods: of fine-tuning, to compare; by default all, but for the far tasks those that need no unlabeled images.

    Raises UnknownName for a task that does not exist, and NephrosError as `train` does.
    """
    tasks = select_tasks(only)
    folder = Path(runs).expanduser() / "transfer"
    tables = (Path("results") if epochs is None else folder) if out is None else Path(out).expanduser()
    torch_device = devices.resolve_device(device)
    folder.mkdir(parents=True, exist_ok=True)
    rows_file = folder / "rows.csv"
    for task in tasks:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(file_lock(folder / f".{task.key}.lock", wait=False))
            except BlockingIOError:
                logger.info("%s: left to the process that is carrying it out", task.key)
                continue
            dataset = load_dataset(data if task.classes else task.data)
            n_classes = len(task.classes) or dataset.n_classes
            rows = [row for row in read_rows(rows_file) if row.task == task.key]
            rows = [with_todays_choice(row, rows, n_classes) for row in rows]
            start = _source(task, dataset, folder, device, epochs)
            names = methods or (METHODS if task.classes else LABELED_METHODS)
            for new_rows in _task_rows(task, dataset, start, rows, labels_per_class, draws, names, torch_device):
                rows += new_rows
                write_transfer_table(replace_rows(rows_file, task.key, rows), tables)
            replace_rows(rows_file, task.key, rows)
    return write_transfer_table(read_rows(rows_file), tables)


def select_tasks(only: Sequence[str] = ()) -> list[TransferTask]:
    """Return the tasks with these keys, or all; UnknownName for a key that does not exist."""
    return select_by_key(transfer_tasks(), only, "task named", "The tasks")


def planned_tasks(only: Sequence[str], runs: str | Path) -> list[tuple[TransferTask, str]]:
    """Return the tasks with what is done of them, such as ``12 of 30 draws``."""
    cells = {row.cell for row in read_rows(Path(runs).expanduser() / "transfer" / "rows.csv")}
    total = len(LABELS_PER_CLASS) * N_DRAWS
    return [(task, f"{sum(cell[0] == task.key for cell in cells)} of {total} draws") for task in select_tasks(only)]


def read_rows(path: Path) -> list[TransferRow]:
    """Return the rows so far; none where there is no file, and FileError for a damaged one."""
    if not path.is_file():
        return []
    with file_errors(path, "remove it, and the rows are made again"), path.open(encoding="utf-8", newline="") as file:
        return [
            TransferRow(
                row["task"], int(row["labels_per_class"]), int(row["draw"]), row["method"], float(row["accuracy"]),
                float(row["macro_f1"]), float(row["seconds"]), row["detail"],
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


def write_rows(path: Path, rows: Sequence[TransferRow]) -> None:
    """Write the rows so far."""
    write_text(path, csv_table(_COLUMNS, [[str(getattr(row, name)) for name in _COLUMNS] for row in rows]))


def replace_rows(path: Path, task: str, rows: Sequence[TransferRow]) -> list[TransferRow]:
    """Replace the rows of a task in the file by `rows`, and return all; other processes add theirs before or after."""
    with file_lock(path.with_name(".rows.lock")):
        stored = read_rows(path)
        tasks = dict.fromkeys([*(row.task for row in stored), task])
        merged = [row for key in tasks for row in (rows if key == task else stored) if row.task == key]
        write_rows(path, merged)
    return merged


def with_todays_choice(row: TransferRow, rows: Sequence[TransferRow], n_classes: int) -> TransferRow:
    """Return a row of `finetune` with the method that it chooses today, by accuracies among the labels; others as they are."""
    methods = {other.method: other for other in rows if other.cell == row.cell and other.method in METHODS}
    if row.method != "finetune" or not all(other.detail for other in methods.values()):
        return row
    accuracies = {method: float(other.detail) for method, other in methods.items()}
    chosen = methods[choose_method(accuracies, row.labels_per_class * n_classes)]
    return dataclasses.replace(row, accuracy=chosen.accuracy, macro_f1=chosen.macro_f1, detail=chosen.method)


def _source(task: TransferTask, dataset: Dataset, folder: Path, device: str, epochs: int | None) -> PretrainedModel:
    """Return the task's weights, trained to their end where they are its own."""
    if not task.trains_its_source:
        return open_pretrained(task.source)
    root, data = folder / task.key, source_dataset(dataset, task.classes)
    recipe = get_recipe(task.source)
    recipe = dataclasses.replace(recipe, epochs=recipe.epochs if epochs is None else min(epochs, recipe.epochs))
    if not RunFolder.exists(root):
        train(recipe, data, out=root, device=device, command=task.command)
    elif RunFolder.open(root).info().status != "complete":
        resume(root, data, device=device)
    return open_pretrained(root)


def _task_rows(
    task: TransferTask,
    dataset: Dataset,
    start: PretrainedModel,
    rows: Sequence[TransferRow],
    labels_per_class: Sequence[int],
    draws: Sequence[int],
    methods: Sequence[str],
    device: torch.device,
) -> Iterator[list[TransferRow]]:
    """Yield the rows of each number of labels and draw that `rows` lacks."""
    done = {row.cell for row in rows}
    cells = [(size, draw) for size in labels_per_class for draw in draws if (task.key, size, draw) not in done]
    if not cells:
        return
    pool, held_out, class_names = task_splits(task, dataset)
    held_out_features = extract_features(start.classifier, held_out.images, TTA_VIEWS, device)
    for size, draw in cells:
        drawn = draw_labels(pool, size, draw)
        if drawn is None:
            continue
        train_split = Split(pool.images[drawn], pool.labels[drawn])
        classifier = starting_classifier(start, train_split, draw)
        features = np.concatenate(
            [extract_features(start.classifier, train_split.images, TTA_VIEWS, device), held_out_features]
        )
        images = np.concatenate([train_split.images, held_out.images])
        labels = np.concatenate([train_split.labels, held_out.labels])
        new, old = np.arange(len(drawn), len(labels)), np.arange(len(drawn))
        problem = Problem(
            Split(images, labels), class_names, None, Folds((new,), False, len(labels)), features, classifier,
            start.model, TTA_VIEWS, draw, device, without_labels(pool, drawn, draw),
        )  # fmt: skip
        yield _compare(task, size, draw, problem, old, new, methods)


def starting_classifier(start: PretrainedModel, train_split: Split, seed: int) -> Classifier:
    """Return the network as `nephros.finetune` starts from it."""
    if not start.is_folded:
        return start.classifier
    classifier = copy.deepcopy(start.classifier)
    recenter(classifier, train_split, seed)
    return classifier


def _compare(
    task: TransferTask,
    size: int,
    draw: int,
    problem: Problem,
    train_rows: Indices,
    held_out: Indices,
    methods: Sequence[str],
) -> list[TransferRow]:
    """Return the row of each method, and that of `finetune`, whose choice sees the drawn labels alone."""
    labels, rows = problem.train.labels, []

    def add(method: str, probabilities: Floats, start: float, detail: str = "") -> None:
        metrics = compute_metrics(probabilities, labels[held_out], problem.class_names)
        seconds = time.perf_counter() - start
        rows.append(TransferRow(task.key, size, draw, method, metrics.accuracy, metrics.macro_f1, seconds, detail))

    predictions = {}
    for method in methods:
        start = time.perf_counter()
        predictions[method] = predict_held_out(problem, method, train_rows, held_out)
        add(method, predictions[method], start)
    pixels = problem.train.images.reshape(len(labels), -1).astype(np.float32)
    for columns, classifiers in ((pixels, PIXEL_CLASSIFIERS), (problem.features[:, 0], FEATURE_CLASSIFIERS)):
        for name, fit in classifiers.items():
            start = time.perf_counter()
            add(name, fit_and_predict(fit, columns[train_rows], labels[train_rows], columns[held_out], draw), start)
    start = time.perf_counter()
    drawn = Split(problem.train.images[train_rows], labels[train_rows])
    folds = make_folds(drawn.labels, problem.class_names, None, N_FOLDS, draw)
    drawn_problem = dataclasses.replace(problem, train=drawn, folds=folds, features=problem.features[train_rows])
    candidates = cross_validate(drawn_problem, methods)
    estimates = {candidate.method: f"{candidate.metrics.accuracy:.3f}" for candidate in candidates}
    rows[:] = [dataclasses.replace(row, detail=estimates.get(row.method, "")) for row in rows]
    accuracies = {candidate.method: candidate.metrics.accuracy for candidate in candidates}
    chosen = choose_method(accuracies, len(train_rows))
    add("finetune", predictions[chosen], start, chosen)
    logger.info(
        "%s, %d labels per class, draw %d: %s", task.key, size, draw,
        ", ".join(f"{row.method} {row.accuracy:.3f}" for row in rows),
    )  # fmt: skip
    return rows
