"""Tune a recipe: start a study, or resume one."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset, log_notes
from nephros.data.load import DataRequest, data_request, load_request
from nephros.data.relocation import reopen_dataset
from nephros.data.subset import tuning_subset
from nephros.device import available_cores, resolve_device
from nephros.environment import available_memory
from nephros.errors import InvalidArgument, say_how_to_continue
from nephros.evaluation.metrics import Metrics, compute_metrics
from nephros.evaluation.scoring import evaluate_model
from nephros.files import write_text
from nephros.recipe import Recipe, to_yaml
from nephros.tuning.checkpoint_store import CheckpointStore, best_checkpoint_name
from nephros.tuning.database import storage_url, url_without_password
from nephros.tuning.executors import Executor, InProcessExecutor, NullExecutor, ProcessExecutor, WorkerSetup
from nephros.tuning.optuna_storage import StudyStorage
from nephros.tuning.progress import StudyProgress
from nephros.tuning.scheduler import HyperbandScheduler
from nephros.tuning.settings import StudySettings, plan_study
from nephros.tuning.space import parse_space
from nephros.tuning.study_folder import STUDIES_DIR, StudyFolder, StudyManifest
from nephros.tuning.study_state import StudyState
from nephros.tuning.trial import TrialRunner, restore
from nephros.workflows.study import open_storage, write_report

logger = logging.getLogger(__name__)
_WORKER_BYTES = 700_000_000
"""Memory of a worker process besides its data, measured with the poster's network."""


@dataclass(frozen=True)
class _RunOptions:
    """How to run a study; none of it changes the result."""

    workers: int | None
    ray_address: str | None
    max_minutes: float | None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InvalidArgument("workers", self.workers, "a whole number of at least 1")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise InvalidArgument("max_minutes", self.max_minutes, "a number of minutes above 0")

    def check_data_source(self, source: str) -> None:
        """Raise InvalidArgument when several local workers would have to open data that was given in Python."""
        if not source and self.ray_address is None and self.workers is not None and self.workers > 1:
            hint = "More workers need data that each can open: give its name or path."
            raise InvalidArgument("workers", self.workers, "1 for a Dataset given in Python", hint=hint)


def tune(
    recipe: str | Path | Recipe = "poster",
    data: str | Path | Dataset = "tissuemnist",
    *,
    size: int | None = None,
    data_seed: int = 0,
    white_level: float | None = None,
    channel: int | None = None,
    groups: str = "auto",
    workers: int | None = None,
    storage: str | None = None,
    checkpoint_dir: str = "",
    ray_address: str | None = None,
    max_minutes: float | None = None,
    command: str = "",
    **settings: Any,
) -> StudyState:
    """Tune `recipe` on `data` by Hyperband, in studies/NAME, and return the study's final state.

    Args:
        recipe: a recipe, its name or its YAML file.
        data: a data set, its name or its path.
        size: pixels per side, as `nephros.load_dataset` takes it.
        data_seed: seed of a folder's split, as `nephros.load_dataset` takes it.
        white_level: of a folder's images of more than 8 bits, as `nephros.load_dataset` takes it.
        channel: color plane of the images, as `nephros.load_dataset` takes it.
        groups: which images a folder's split keeps together, as `nephros.load_dataset` takes it.
        workers: trials that run at once; None is one per GPU or, on CPUs, as many as cores and memory have room for, and 1 for a
            Dataset given in Python. The result doesn't depend on it.
        storage: SQLite file or PostgreSQL URL of the trials; None is a file in the study's folder.
        checkpoint_dir: folder or fsspec URL of the checkpoints; "" is a folder in the study's folder.
        ray_address: address of a Ray cluster to run trials on.
        max_minutes: minutes after which to stop; `resume_study` continues.
        command: the command that started the study, for its report.
        settings: keyword arguments of `nephros.tuning.settings.plan_study`, such as max_epochs, space and name.

    Raises:
        NephrosError: the input can't be used (nothing is written then), or every configuration failed.
    """
    run_options = _RunOptions(workers, ray_address, max_minutes)
    database_url = storage_url(storage) if storage else None
    study_settings = plan_study(recipe, command=command, **settings)
    if checkpoint_dir:
        checkpoint_dir = _study_checkpoints(checkpoint_dir, study_settings.name)
        CheckpointStore(checkpoint_dir)
    source = "" if isinstance(data, Dataset) else data
    request = data_request(source, size, data_seed, white_level=white_level, channel=channel, groups=groups)
    del request["subset"], request["resplit"]
    dataset = data if isinstance(data, Dataset) else load_request({**request, "source": str(data)})
    run_options.check_data_source(request["source"])
    study_settings = dataclasses.replace(study_settings, data_request=request, data=dataset.provenance.to_dict())
    tuning_data = _tuning_data(dataset, study_settings)
    study_storage = StudyStorage(database_url, study_settings.name) if database_url else None
    if study_storage:
        study_storage.check_is_new()
    if ray_address is not None:
        _import_ray_executor().connect(ray_address, checkpoint_dir, study_settings)
    folder = StudyFolder.create(STUDIES_DIR / study_settings.name)
    with folder.lock():
        stored_url = url_without_password(database_url) if database_url else ""
        manifest = StudyManifest(study_settings, stored_url, checkpoint_dir)
        folder.write(manifest)
        write_text(folder.root / "recipe.yaml", to_yaml(study_settings.base_recipe))
        _log_start(study_settings, dataset, folder)
        study_storage = study_storage or open_storage(folder, manifest)
        return _run_study(folder, manifest, study_storage, dataset, tuning_data, run_options)


def resume_study(
    study: str | Path,
    data: str | Path | Dataset | None = None,
    *,
    workers: int | None = None,
    storage: str | None = None,
    ray_address: str | None = None,
    max_minutes: float | None = None,
) -> StudyState:
    """Continue a study where it stopped, and return its final state; a finished study is returned as it is.

    Args:
        study: name of a study in studies/, or its folder.
        data: the study's data, or its path or name now; None looks for it where the study found it, and near its folder. A
            study of data given in Python needs it.
        workers: as for `tune`.
        storage: needed only where the stored URL lacks its password.
        ray_address: as for `tune`.
        max_minutes: as for `tune`.

    Raises:
        NephrosError: there is no such study, or its data or the packages that it was made with have changed.
    """
    run_options = _RunOptions(workers, ray_address, max_minutes)
    folder = StudyFolder.open(study)
    with folder.lock():
        manifest = folder.read()
        settings = manifest.settings
        settings.check_versions()
        study_storage = open_storage(folder, manifest, storage)
        dataset = reopen_dataset(settings.data_request, settings.data, folder.root, data)
        source = "" if isinstance(data, Dataset) else dataset.provenance.path or settings.data_request["source"]
        request: DataRequest = {**settings.data_request, "source": source}
        run_options.check_data_source(source)
        tuning_data = _tuning_data(dataset, settings)
        return _run_study(folder, manifest, study_storage, dataset, tuning_data, run_options, request)


def _study_checkpoints(checkpoint_dir: str, name: str) -> str:
    """Return the study's own folder in a checkpoint folder that several studies may share."""
    root = checkpoint_dir if "://" in checkpoint_dir else str(Path(checkpoint_dir).expanduser().absolute())
    return f"{root.rstrip('/')}/{name}"


def _tuning_data(dataset: Dataset, settings: StudySettings) -> Dataset:
    """Return the images that trials see; InvalidArgument when the metric is undefined on them."""
    tuning_data = dataset if settings.subset is None else tuning_subset(dataset, settings.subset, settings.seed)
    uniform = np.full((len(tuning_data.val), dataset.n_classes), 1 / dataset.n_classes)
    if (
        settings.metric == "val_auc"
        and compute_metrics(uniform, tuning_data.val.labels, dataset.class_names).auc is None
    ):
        expected = "another metric, such as val_loss"
        hint = "This validation split lacks classes, so AUC is undefined."
        raise InvalidArgument("metric", settings.metric, expected, hint=hint)
    return tuning_data


def _log_start(settings: StudySettings, dataset: Dataset, folder: StudyFolder) -> None:
    log_notes(dataset)
    logger.info("study %s on %s, in %s", settings.name, dataset.provenance.title, folder.root)
    for bracket in settings.planned_brackets:
        rungs = ", ".join(f"{rung.n_configs} at {rung.epochs}" for rung in bracket.rungs)
        logger.info(
            "bracket s=%d: %s (configurations at epochs), %d epochs in total", bracket.s, rungs, bracket.total_epochs
        )


def _run_study(
    folder: StudyFolder,
    manifest: StudyManifest,
    storage: StudyStorage,
    dataset: Dataset,
    tuning_data: Dataset,
    run_options: _RunOptions,
    request: DataRequest | None = None,
) -> StudyState:
    """Run the study as far as the options allow, evaluate its best configuration once it is finished, and write its report."""
    settings = manifest.settings
    store = CheckpointStore(manifest.checkpoint_dir or str(folder.root / "checkpoints"))
    how_to_continue = f"`nephros.resume_study({folder.name!r})` continues after the last complete epoch"
    with say_how_to_continue(how_to_continue), _locked(storage):
        storage.create_or_verify(settings)
        study_state = storage.load_state()
        if not (study_state.finished and study_state.finalized and study_state.best_metrics):
            executor = (
                NullExecutor()
                if study_state.finished
                else _make_executor(settings, tuning_data, store, run_options, request or settings.data_request)
            )
            space = parse_space(settings.space, settings.base_recipe, f"The space of study {settings.name}")
            with StudyProgress() as callback:
                finished = HyperbandScheduler(storage, space, store, executor, callback).run(run_options.max_minutes)
            if not finished:
                minutes = f"{run_options.max_minutes:g} minutes"
                logger.info("stopped after %s: `nephros.resume_study(%r)` continues", minutes, folder.name)
            study_state = storage.load_state()
        if study_state.finished and study_state.best_metrics is None and study_state.best is not None:
            logger.info("evaluating the best configuration on the whole validation split")
            metrics = _evaluate_best(study_state, dataset, store)
            if metrics is None:
                logger.warning(
                    "The best configuration's checkpoint is missing from %s, or damaged: it isn't evaluated.",
                    store.root,
                )
            else:
                storage.set_best_metrics(metrics)
                study_state = storage.load_state()
    write_report(folder, study_state)
    return study_state


@contextmanager
def _locked(storage: StudyStorage) -> Iterator[None]:
    storage.lock.acquire()
    try:
        yield
    finally:
        storage.lock.release()


def _make_executor(
    settings: StudySettings, dataset: Dataset, store: CheckpointStore, run_options: _RunOptions, request: DataRequest
) -> Executor:
    if run_options.ray_address is not None:
        ray_executor: Executor = _import_ray_executor().RayExecutor(
            run_options.ray_address, settings, dataset, store, run_options.workers
        )
        return ray_executor
    device, n_cores, n_threads = (
        resolve_device(settings.device_type),
        available_cores(),
        settings.threads_per_trial,
    )
    workers = run_options.workers
    if workers is None:
        slots = torch.cuda.device_count() if device.type == "cuda" else n_cores // n_threads
        workers = _default_workers(settings, dataset, slots) if request["source"] else 1
    if device.type == "cpu" and workers * n_threads > n_cores:
        logger.warning(
            "%d workers with %d threads each are more than this machine's %d cores, which slows all of them.",
            workers,
            n_threads,
            n_cores,
        )
    # A worker that an error of its GPU has ended is replaced; this process could not go on.
    if not request["source"] or (workers == 1 and device.type == "cpu"):
        return InProcessExecutor(TrialRunner(dataset, device, store), n_threads)
    setup: WorkerSetup = {
        "data_request": request,
        "subset": settings.subset,
        "seed": settings.seed,
        "device": settings.device_type,
        "threads": n_threads,
        "store": store.root,
    }
    return ProcessExecutor(workers, setup)


def _default_workers(settings: StudySettings, dataset: Dataset, slots: int) -> int:
    """Return how many workers the GPUs or cores (`slots`), the memory and the study itself have use for."""
    data_bytes = sum(split.images.nbytes for _, split in dataset.splits())
    fit_in_memory = int(available_memory() // (_WORKER_BYTES + 3 * data_bytes))
    n_configs = sum(bracket.n_configs for bracket in settings.planned_brackets)
    return max(1, min(slots, fit_in_memory, n_configs))


def _import_ray_executor() -> Any:
    from nephros.tuning import ray_executor

    return ray_executor


def _evaluate_best(study_state: StudyState, dataset: Dataset, store: CheckpointStore) -> Metrics | None:
    """Return the best configuration's metrics on the whole validation split, with its weights as they were when it was best.

    Returns None when its checkpoint is missing.
    """
    best = study_state.best
    assert best is not None
    state = store.load(best_checkpoint_name(*best.key, best.epochs))
    if state is None:
        return None
    device, previous_threads = resolve_device(study_state.settings.device_type), torch.get_num_threads()
    torch.set_num_threads(study_state.settings.threads_per_trial)
    try:
        trainer = TrialRunner(dataset, device, store).make_trainer(study_state.recipe(best.key))
        if not restore(trainer, state):
            return None
        trainer.model.load_state_dict(trainer.final_weights()[0])
        val = BatchLoader(dataset.val, device, channels_last=trainer.recipe.channels_last)
        return evaluate_model(trainer.model, val, dataset.class_names).metrics
    finally:
        torch.set_num_threads(previous_threads)
