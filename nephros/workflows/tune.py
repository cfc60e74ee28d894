"""Tuning: start a study, or go on with one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nephros import device as devices
from nephros.data.batches import Batches
from nephros.data.dataset import Dataset
from nephros.data.load import load, request_of
from nephros.data.subset import cut
from nephros.errors import UserError
from nephros.evaluation.metrics import summarise
from nephros.evaluation.scoring import evaluate
from nephros.files import write_text
from nephros.memory import free_host_memory
from nephros.recipe import Recipe, to_yaml
from nephros.tuning import space as spaces
from nephros.tuning.checkpoint_store import Store, best_name
from nephros.tuning.executors import Here, Idle, Pool, Processes
from nephros.tuning.optuna_storage import Storage, address, bare
from nephros.tuning.plan import plan, same_versions, show_plan, with_data
from nephros.tuning.progress import ShowStudy
from nephros.tuning.scheduler import Driver
from nephros.tuning.settings import Settings
from nephros.tuning.study_folder import STUDIES, StudyFolder
from nephros.tuning.study_state import Records
from nephros.tuning.trial import Bench
from nephros.workflows.study import storage_of, tell

Say = Callable[[str], None]
_WORKER_BYTES = 700_000_000
"""What a worker process takes besides its data, as seen with the poster's network."""


@dataclass(frozen=True)
class _Means:
    """What a study may be run with; its answer depends on none of it."""

    workers: int | None
    cluster: str | None
    budget: float | None
    say: Say

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UserError(f"--workers is {self.workers}, but it must be a whole number of at least 1.")
        if self.budget is not None and not self.budget > 0:
            raise UserError(f"--budget is {self.budget}, but it must be a number of minutes above 0.")

    def check_source(self, source: str) -> None:
        """Raise UserError when several processes would each have to open data that has no name."""
        if not source and self.cluster is None and self.workers is not None and self.workers > 1:
            raise UserError("--workers above 1 need data that each can open: name it by its path, or use one worker.")


def tune(
    recipe: str | Recipe = "poster",
    data: str | Path | Dataset = "tissuemnist",
    *,
    size: int | None = None,
    data_seed: int = 0,
    workers: int | None = None,
    storage: str | None = None,
    checkpoints: str = "",
    cluster: str | None = None,
    budget: float | None = None,
    command: str = "",
    say: Say = print,
    **settings: Any,
) -> Records:
    """Tune `recipe` on `data` by Hyperband, in studies/NAME, and return what was found; `settings` are those of `plan`.

    `workers` trials run at once (default: as many as cores and memory hold), and the answer does not depend on how many.
    `storage` is an SQLite file or a PostgreSQL URL (default: the study's folder), `checkpoints` a folder or fsspec URL,
    `cluster` a Ray address, `budget` minutes after which to stop, to be resumed. `size` and `data_seed` are passed to
    `nephros.load`. Raises UserError for input that can't be used, before anything is written.
    """
    means = _Means(workers, cluster, budget, say)
    url = address(storage) if storage else None
    if url and storage:
        command = command.replace(storage, bare(url))  # no password is written down
    planned = plan(recipe, command=command, **settings)
    if checkpoints:
        checkpoints = _place(checkpoints, planned.name)
        Store(checkpoints)
    dataset, request = _open(data, size, data_seed)
    means.check_source(request["source"])
    planned = with_data(planned, request, dataset.provenance.to_dict())
    dataset_cut = _cut(dataset, planned)
    place = Storage(url, planned.name, say) if url else None
    if place and place.exists:
        raise place.there_already()
    if cluster is not None:
        _cluster_module().connect(cluster, checkpoints, planned)
    folder = StudyFolder.create(STUDIES / planned.name)
    with folder.held():
        folder.write(planned, bare(url) if url else "", checkpoints)
        write_text(folder.root / "recipe.yaml", to_yaml(planned.base))
        place = place or Storage(address(str(folder.database)), planned.name, say)
        for warning in dataset.warnings:
            say(f"warning: {warning}")
        say(f"study {planned.name} on {dataset.provenance.title}, in {folder.root}")
        show_plan(planned)
        return _go(folder, planned, place, dataset, dataset_cut, means)


def resume_study(
    study: str | Path,
    data: str | Path | Dataset | None = None,
    *,
    workers: int | None = None,
    storage: str | None = None,
    cluster: str | None = None,
    budget: float | None = None,
    say: Say = print,
) -> Records:
    """Go on with a study where it was; one that is over is returned as it is.

    `data` is needed only where the study's own has moved or was given in Python, `storage` where the stored URL lacks a
    password. Raises UserError when there is no such study, or its data or the versions that made it have changed.
    """
    means = _Means(workers, cluster, budget, say)
    folder = StudyFolder.open(study)
    with folder.held():
        settings, stored, _ = folder.read()
        same_versions(settings)
        place = storage_of(folder, settings, stored, storage, say)
        if data is None and not settings.request["source"]:
            raise UserError(f"{settings.name} was made on data given in Python: give it to nephros.resume_study again.")
        source = settings.request["source"] if data is None else data
        dataset, request = _open(source, settings.request["size"], settings.request["seed"])
        means.check_source(request["source"])
        if dataset.provenance.sha256 != settings.data["sha256"]:
            raise UserError(
                f"The study {settings.name} can't go on, since its data ({dataset.provenance.path}) has changed since it "
                "began: name the data that it began with by --data, or start a new study."
            )
        return _go(folder, settings, place, dataset, _cut(dataset, settings), means, request)


def _place(checkpoints: str, name: str) -> str:
    """Return the study's own place among checkpoints that several studies may share."""
    root = checkpoints if "://" in checkpoints else str(Path(checkpoints).expanduser().absolute())
    return f"{root.rstrip('/')}/{name}"


def _open(data: str | Path | Dataset, size: int | None, seed: int) -> tuple[Dataset, dict[str, Any]]:
    whole = request_of("" if isinstance(data, Dataset) else data, size, seed)
    request = {key: whole[key] for key in ("source", "size", "seed")}
    return data if isinstance(data, Dataset) else load(**request), request


def _cut(dataset: Dataset, settings: Settings) -> Dataset:
    """Return what trials see of the data; UserError when the metric is undefined on it."""
    seen = dataset if settings.subset is None else cut(dataset, settings.subset, settings.seed)
    even = np.full((len(seen.val), dataset.classes), 1 / dataset.classes)
    if settings.metric == "val_auc" and summarise(even, seen.val.labels, dataset.class_names)["auc"] is None:
        raise UserError("--metric val_auc is undefined on this validation split, which lacks classes: choose val_loss.")
    return seen


def _go(
    folder: StudyFolder,
    settings: Settings,
    storage: Storage,
    dataset: Dataset,
    dataset_cut: Dataset,
    means: _Means,
    request: dict[str, Any] | None = None,
) -> Records:
    """Take the study as far as it goes, judge its best configuration, and tell of it."""
    say, checkpoints = means.say, folder.read()[2]
    store = Store(checkpoints or str(folder.root / "checkpoints"))
    with _leased(storage):
        storage.ensure(settings)
        records = storage.records()
        if not (records.over and records.settled and records.judged):
            pool = Idle() if records.over else _pool(settings, dataset_cut, store, means, request or settings.request)
            space = spaces.parse(settings.space, settings.base, f"The space of study {settings.name}")
            with ShowStudy() as watcher:
                over = Driver(storage, space, store, pool, watcher).run(means.budget)
            if not over:
                say(f"stopped after {means.budget:g} minutes: `nephros tune --resume {folder.handle}` goes on.")
            records = storage.records()
        if records.over and records.judged is None and records.best is not None:
            say("judging the best configuration on all of validation")
            metrics = _judge(records, dataset, store)
            if metrics is None:
                say(f"warning: its checkpoint is missing from {store.root}, so it is not judged.")
            else:
                storage.judge(metrics)
                records = storage.records()
    tell(folder, records, say)
    return records


@contextmanager
def _leased(storage: Storage) -> Iterator[None]:
    storage.lease.take()
    try:
        yield
    finally:
        storage.lease.release()


def _pool(settings: Settings, dataset: Dataset, store: Store, means: _Means, request: dict[str, Any]) -> Pool:
    if means.cluster is not None:
        made: Pool = _cluster_module().Cluster(means.cluster, settings, dataset, store, means.workers)
        return made
    processor, cores = devices.choose(settings.device_type), _cores()
    workers = means.workers
    if workers is None:
        workers = _default_workers(settings, dataset, cores) if processor.type == "cpu" and request["source"] else 1
    if processor.type == "cpu" and workers * settings.threads > cores:
        means.say(
            f"warning: {workers} workers of {settings.threads} threads are more than this machine's {cores} cores, which "
            "slows all of them."
        )
    if workers == 1:
        return Here(Bench(dataset, processor, store), settings.threads)
    setup = {
        "request": request,
        "subset": settings.subset,
        "seed": settings.seed,
        "device": settings.device_type,
        "threads": settings.threads,
        "store": store.root,
    }
    return Processes(workers, setup)


def _cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _default_workers(settings: Settings, dataset: Dataset, cores: int) -> int:
    """Return how many workers the cores, the memory and the study itself have use for."""
    held = sum(split.images.nbytes for _, split in dataset.splits())
    memory = int(free_host_memory() // (_WORKER_BYTES + 3 * held))
    return max(1, min(cores // settings.threads, memory, sum(bracket.configs for bracket in settings.plan)))


def _cluster_module() -> Any:
    from nephros.tuning import ray_executor

    return ray_executor


def _judge(records: Records, dataset: Dataset, store: Store) -> dict[str, Any] | None:
    """Return the metrics of the best configuration, as it was when it was best, on all of validation; None without it."""
    best = records.best
    assert best is not None
    state = store.load(best_name(*best.key, best.epochs))
    if state is None:
        return None
    processor, threads = devices.choose(records.settings.device_type), torch.get_num_threads()
    torch.set_num_threads(records.settings.threads)
    try:
        fit = Bench(dataset, processor, store).fit(records.recipe(best.key))
        fit.load(state)
        fit.model.load_state_dict(fit.final_weights()[0])
        val = Batches(dataset.val, processor, channels_last=fit.recipe.channels_last)
        return evaluate(fit.model, val, dataset.class_names).metrics
    finally:
        torch.set_num_threads(threads)
