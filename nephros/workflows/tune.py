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
from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.data.load import data_request, load
from nephros.data.subset import tuning_subset
from nephros.environment import available_memory
from nephros.errors import NephrosError
from nephros.evaluation.metrics import compute_metrics
from nephros.evaluation.scoring import evaluate_model
from nephros.files import write_text
from nephros.recipe import Recipe, to_yaml
from nephros.tuning import space as spaces
from nephros.tuning.checkpoint_store import CheckpointStore, best_checkpoint_name
from nephros.tuning.executors import Executor, InProcessExecutor, NullExecutor, ProcessExecutor
from nephros.tuning.optuna_storage import StudyStorage, storage_url, url_without_password
from nephros.tuning.plan import check_versions, plan_study, print_plan, with_data
from nephros.tuning.progress import StudyProgress
from nephros.tuning.scheduler import HyperbandScheduler
from nephros.tuning.settings import StudySettings
from nephros.tuning.study_folder import STUDIES_DIR, StudyFolder
from nephros.tuning.study_state import StudyState
from nephros.tuning.trial import TrialRunner
from nephros.workflows.study import open_storage, report_study

Say = Callable[[str], None]
_WORKER_BYTES = 700_000_000
"""What a worker process takes besides its data, as seen with the poster's network."""


@dataclass(frozen=True)
class _RunOptions:
    """What a study may be run with; its answer depends on none of it."""

    workers: int | None
    cluster: str | None
    max_minutes: float | None
    say: Say

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise NephrosError(f"--workers is {self.workers}, but it must be a whole number of at least 1.")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise NephrosError(f"--max-minutes is {self.max_minutes}, but it must be a number of minutes above 0.")

    def check_data_source(self, source: str) -> None:
        """Raise UserError when several processes would each have to open data that has no name."""
        if not source and self.cluster is None and self.workers is not None and self.workers > 1:
            raise NephrosError(
                "--workers above 1 need data that each can open: name it by its path, or use one worker."
            )


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
    max_minutes: float | None = None,
    command: str = "",
    say: Say = print,
    **settings: Any,
) -> StudyState:
    """Tune `recipe` on `data` by Hyperband, in studies/NAME, and return what was found; `settings` are those of `plan`.

    `workers` trials run at once (default: as many as cores and memory hold), and the answer does not depend on how many.
    `storage` is an SQLite file or a PostgreSQL URL (default: the study's folder), `checkpoints` a folder or fsspec URL,
    `cluster` a Ray address, `max_minutes` minutes after which to stop, to be resumed. `size` and `data_seed` are passed to
    `nephros.load`. Raises UserError for input that can't be used, before anything is written.
    """
    run_options = _RunOptions(workers, cluster, max_minutes, say)
    database_url = storage_url(storage) if storage else None
    if database_url and storage:
        command = command.replace(storage, url_without_password(database_url))  # no password is written down
    study_settings = plan_study(recipe, command=command, **settings)
    if checkpoints:
        checkpoints = _study_checkpoints(checkpoints, study_settings.name)
        CheckpointStore(checkpoints)
    dataset, request = _load_data(data, size, data_seed)
    run_options.check_data_source(request["source"])
    study_settings = with_data(study_settings, request, dataset.provenance.to_dict())
    tuning_data = _tuning_data(dataset, study_settings)
    study_storage = StudyStorage(database_url, study_settings.name, say) if database_url else None
    if study_storage and study_storage.exists:
        raise study_storage.already_exists_error()
    if cluster is not None:
        _import_ray_executor().connect(cluster, checkpoints, study_settings)
    folder = StudyFolder.create(STUDIES_DIR / study_settings.name)
    with folder.lock():
        folder.write(study_settings, url_without_password(database_url) if database_url else "", checkpoints)
        write_text(folder.root / "recipe.yaml", to_yaml(study_settings.base_recipe))
        study_storage = study_storage or StudyStorage(storage_url(str(folder.database)), study_settings.name, say)
        for warning in dataset.warnings:
            say(f"warning: {warning}")
        say(f"study {study_settings.name} on {dataset.provenance.title}, in {folder.root}")
        print_plan(study_settings)
        return _run_study(folder, study_settings, study_storage, dataset, tuning_data, run_options)


def resume_study(
    study: str | Path,
    data: str | Path | Dataset | None = None,
    *,
    workers: int | None = None,
    storage: str | None = None,
    cluster: str | None = None,
    max_minutes: float | None = None,
    say: Say = print,
) -> StudyState:
    """Go on with a study where it was; one that is over is returned as it is.

    `data` is needed only where the study's own has moved or was given in Python, `storage` where the stored URL lacks a
    password. Raises UserError when there is no such study, or its data or the versions that made it have changed.
    """
    run_options = _RunOptions(workers, cluster, max_minutes, say)
    folder = StudyFolder.open(study)
    with folder.lock():
        settings, stored_url, _ = folder.read()
        check_versions(settings)
        study_storage = open_storage(folder, settings, stored_url, storage, say)
        if data is None and not settings.data_request["source"]:
            raise NephrosError(
                f"{settings.name} was made on data given in Python: give it to nephros.resume_study again."
            )
        source = settings.data_request["source"] if data is None else data
        dataset, request = _load_data(source, settings.data_request["size"], settings.data_request["seed"])
        run_options.check_data_source(request["source"])
        if dataset.provenance.sha256 != settings.data["sha256"]:
            raise NephrosError(
                f"The study {settings.name} can't go on, since its data ({dataset.provenance.path}) has changed since it "
                "began: name the data that it began with by --data, or start a new study."
            )
        return _run_study(
            folder, settings, study_storage, dataset, _tuning_data(dataset, settings), run_options, request
        )


def _study_checkpoints(checkpoints: str, name: str) -> str:
    """Return the study's own place among checkpoints that several studies may share."""
    root = checkpoints if "://" in checkpoints else str(Path(checkpoints).expanduser().absolute())
    return f"{root.rstrip('/')}/{name}"


def _load_data(data: str | Path | Dataset, size: int | None, seed: int) -> tuple[Dataset, dict[str, Any]]:
    full_request = data_request("" if isinstance(data, Dataset) else data, size, seed)
    request = {key: full_request[key] for key in ("source", "size", "seed")}
    return data if isinstance(data, Dataset) else load(**request), request


def _tuning_data(dataset: Dataset, settings: StudySettings) -> Dataset:
    """Return what trials see of the data; UserError when the metric is undefined on it."""
    tuning_data = dataset if settings.subset is None else tuning_subset(dataset, settings.subset, settings.seed)
    uniform = np.full((len(tuning_data.val), dataset.n_classes), 1 / dataset.n_classes)
    if (
        settings.metric == "val_auc"
        and compute_metrics(uniform, tuning_data.val.labels, dataset.class_names)["auc"] is None
    ):
        raise NephrosError(
            "--metric val_auc is undefined on this validation split, which lacks classes: choose val_loss."
        )
    return tuning_data


def _run_study(
    folder: StudyFolder,
    settings: StudySettings,
    storage: StudyStorage,
    dataset: Dataset,
    tuning_data: Dataset,
    run_options: _RunOptions,
    request: dict[str, Any] | None = None,
) -> StudyState:
    """Take the study as far as it goes, judge its best configuration, and tell of it."""
    say, checkpoints = run_options.say, folder.read()[2]
    store = CheckpointStore(checkpoints or str(folder.root / "checkpoints"))
    with _locked(storage):
        storage.create_or_verify(settings)
        study_state = storage.load_state()
        if not (study_state.finished and study_state.finalized and study_state.best_metrics):
            executor = (
                NullExecutor()
                if study_state.finished
                else _make_executor(settings, tuning_data, store, run_options, request or settings.data_request)
            )
            space = spaces.parse_space(settings.space, settings.base_recipe, f"The space of study {settings.name}")
            with StudyProgress() as callback:
                finished = HyperbandScheduler(storage, space, store, executor, callback).run(run_options.max_minutes)
            if not finished:
                say(
                    f"stopped after {run_options.max_minutes:g} minutes: `nephros tune --resume {folder.cli_name}` goes on."
                )
            study_state = storage.load_state()
        if study_state.finished and study_state.best_metrics is None and study_state.best is not None:
            say("judging the best configuration on all of validation")
            metrics = _evaluate_best(study_state, dataset, store)
            if metrics is None:
                say(f"warning: its checkpoint is missing from {store.root}, so it is not judged.")
            else:
                storage.set_best_metrics(metrics)
                study_state = storage.load_state()
    report_study(folder, study_state, say)
    return study_state


@contextmanager
def _locked(storage: StudyStorage) -> Iterator[None]:
    storage.lock.acquire()
    try:
        yield
    finally:
        storage.lock.release()


def _make_executor(
    settings: StudySettings, dataset: Dataset, store: CheckpointStore, run_options: _RunOptions, request: dict[str, Any]
) -> Executor:
    if run_options.cluster is not None:
        ray_executor: Executor = _import_ray_executor().RayExecutor(
            run_options.cluster, settings, dataset, store, run_options.workers
        )
        return ray_executor
    device, n_cores = devices.resolve_device(settings.device_type), _available_cores()
    workers = run_options.workers
    if workers is None:
        workers = _default_workers(settings, dataset, n_cores) if device.type == "cpu" and request["source"] else 1
    if device.type == "cpu" and workers * settings.threads > n_cores:
        run_options.say(
            f"warning: {workers} workers of {settings.threads} threads are more than this machine's {n_cores} cores, which "
            "slows all of them."
        )
    if workers == 1:
        return InProcessExecutor(TrialRunner(dataset, device, store), settings.threads)
    setup = {
        "data_request": request,
        "subset": settings.subset,
        "seed": settings.seed,
        "device": settings.device_type,
        "threads": settings.threads,
        "store": store.root,
    }
    return ProcessExecutor(workers, setup)


def _available_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _default_workers(settings: StudySettings, dataset: Dataset, n_cores: int) -> int:
    """Return how many workers the cores, the memory and the study itself have use for."""
    data_bytes = sum(split.images.nbytes for _, split in dataset.splits())
    fit_in_memory = int(available_memory() // (_WORKER_BYTES + 3 * data_bytes))
    return max(
        1,
        min(
            n_cores // settings.threads, fit_in_memory, sum(bracket.n_configs for bracket in settings.planned_brackets)
        ),
    )


def _import_ray_executor() -> Any:
    from nephros.tuning import ray_executor

    return ray_executor


def _evaluate_best(study_state: StudyState, dataset: Dataset, store: CheckpointStore) -> dict[str, Any] | None:
    """Return the metrics of the best configuration, as it was when it was best, on all of validation; None without it."""
    best = study_state.best
    assert best is not None
    state = store.load(best_checkpoint_name(*best.key, best.epochs))
    if state is None:
        return None
    device, previous_threads = devices.resolve_device(study_state.settings.device_type), torch.get_num_threads()
    torch.set_num_threads(study_state.settings.threads)
    try:
        trainer = TrialRunner(dataset, device, store).make_trainer(study_state.recipe(best.key))
        trainer.load_state_dict(state)
        trainer.model.load_state_dict(trainer.final_weights()[0])
        val = BatchLoader(dataset.val, device, channels_last=trainer.recipe.channels_last)
        return evaluate_model(trainer.model, val, dataset.class_names).metrics
    finally:
        torch.set_num_threads(previous_threads)
