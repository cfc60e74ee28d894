"""Tuning: start a study, go on with one, show one, and take its best configuration."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from nephros import device as devices
from nephros.data.batches import Batches
from nephros.data.catalogue import CATALOGUE
from nephros.data.dataset import Dataset
from nephros.data.load import SYNTHETIC, load
from nephros.data.subset import cut
from nephros.errors import UserError
from nephros.evaluation.evaluate import evaluate
from nephros.files import write_text
from nephros.recipe import MetricName, Recipe, to_yaml
from nephros.recipe_files import find, from_mapping
from nephros.reporting.study_page import write_study_report
from nephros.terminal import table_console
from nephros.tuning import space as spaces
from nephros.tuning.defaults import default_space
from nephros.tuning.driver import Driver
from nephros.tuning.folder import STUDIES, StudyFolder
from nephros.tuning.pools import Here, Pool, Processes
from nephros.tuning.progress import ShowStudy, plan_table, progress_table
from nephros.tuning.records import Records
from nephros.tuning.settings import SamplerName, Settings
from nephros.tuning.storage import Storage, address, bare
from nephros.tuning.store import Store, best_name
from nephros.tuning.trial import Bench
from nephros.versions import commit, versions

Say = Callable[[str], None]


def plan(
    recipe: str | Recipe = "poster",
    *,
    max_epochs: int = 27,
    eta: int = 3,
    brackets: str = "all",
    subset: int | None = None,
    metric: MetricName | None = None,
    space: str | Path | dict[str, Any] | None = None,
    sampler: SamplerName = "random",
    seed: int = 0,
    threads: int = 1,
    name: str | None = None,
    device: str = "auto",
    command: str = "",
) -> Settings:
    """Return the settings of a study of `recipe`, without its data; UserError for what can't be used.

    `space` is a file, a mapping such as a file holds, or None for the network's default. `metric` is the recipe's own
    unless given. `seed` is that of the sampler, the subset and every trial.
    """
    base = find(recipe) if isinstance(recipe, str) else recipe
    changes: dict[str, Any] = {"seed": seed, "metric": metric or base.metric, "epochs": max(1, max_epochs)}
    base = from_mapping(dataclasses.replace(base, **changes).to_dict(), "The recipe")
    kind = devices.choose(device).type
    if space is None:
        searched = default_space(base, kind)
    elif isinstance(space, dict):
        searched = spaces.parse(space, base, "The space")
    else:
        searched = spaces.read(Path(space).expanduser(), base)
    if name is not None and (not name or name != Path(name).name):
        raise UserError(f"--name is '{name}', but it must be a plain word: it names a folder in {STUDIES}/.")
    return Settings(
        name=name or f"{base.name}-{datetime.now().strftime('%Y%m%d-%H%M%S')}",
        recipe=base.to_dict(),
        space=spaces.to_dict(searched),
        max_epochs=max_epochs,
        eta=eta,
        brackets=brackets,
        metric=base.metric,
        sampler=sampler,
        seed=seed,
        threads=threads,
        device_type=kind,
        request={},
        subset=subset,
        data={},
        versions=versions(),
        commit=commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
    )


def tune(
    recipe: str | Recipe = "poster",
    data: str | Path | Dataset = "tissuemnist",
    *,
    size: int | None = None,
    workers: int | None = None,
    storage: str | None = None,
    checkpoints: str = "",
    cluster: str | None = None,
    budget: float | None = None,
    say: Say = print,
    **settings: Any,
) -> Records:
    """Tune `recipe` on `data` by Hyperband, in studies/NAME, and return what was found; `settings` are those of `plan`.

    `workers` trials run at once (default: one for every `threads` cores), and the answer does not depend on how many.
    `storage` is an SQLite file or a PostgreSQL URL (default: the study's folder), `checkpoints` a folder or fsspec URL,
    `cluster` a Ray address, `budget` minutes after which to stop, to be resumed. Raises UserError for input that can't be
    used, before anything is written.
    """
    planned = plan(recipe, **settings)
    _check_limits(workers, budget)
    if checkpoints:
        Store(checkpoints)
    dataset, request = _open(data, size, planned.seed)
    if not request["source"] and cluster is None and workers is not None and workers > 1:
        raise UserError("--workers above 1 need data that each can open: name it by its path, or use one worker.")
    dataset_cut = _cut(dataset, planned)
    planned = dataclasses.replace(planned, request=request, data=dataset.provenance.to_dict())
    url = address(storage) if storage else None
    place = Storage(url, planned.name, say) if url else None
    if place and place.exists:
        raise place.there_already()
    if cluster is not None:
        from nephros.tuning.cluster import connect

        connect(cluster, checkpoints, planned)
    folder = StudyFolder.create(STUDIES / planned.name)
    with folder.held():
        folder.write(planned, bare(url) if url else "", checkpoints)
        write_text(folder.root / "recipe.yaml", to_yaml(planned.base))
        place = place or Storage(address(str(folder.database)), planned.name, say)
        say(f"study {planned.name} on {dataset.provenance.title}, in {folder.root}")
        show_plan(planned)
        return _go(folder, planned, place, dataset, dataset_cut, workers, cluster, budget, checkpoints, say)


def resume_study(
    study: str | Path,
    data: Dataset | None = None,
    *,
    workers: int | None = None,
    storage: str | None = None,
    cluster: str | None = None,
    budget: float | None = None,
    say: Say = print,
) -> Records:
    """Go on with a study where it was; one that is over is returned as it is.

    `storage` is needed only where the stored URL lacks a password. Raises UserError when there is no such study, or its
    data or the versions that made it have changed.
    """
    _check_limits(workers, budget)
    folder = StudyFolder.open(study)
    with folder.held():
        settings, stored, checkpoints = folder.read()
        place = _storage(folder, settings, storage or stored, say)
        now = versions()
        for part in ("nephros", "torch"):
            if settings.versions[part] != now[part]:
                raise UserError(
                    f"The study {settings.name} was made with {part} {settings.versions[part]} and this is {now[part]}, "
                    "which may compute otherwise: install that version, or start a new study."
                )
        if data is None and not settings.request["source"]:
            raise UserError(f"{settings.name} was made on data given in Python: give it to nephros.resume_study again.")
        dataset = load(**settings.request) if data is None else data
        if dataset.provenance.sha256 != settings.data["sha256"]:
            raise UserError(
                f"The study {settings.name} can't go on, since its data ({dataset.provenance.path}) has changed since it "
                "began: start a new one."
            )
        return _go(
            folder, settings, place, dataset, _cut(dataset, settings), workers, cluster, budget, checkpoints, say
        )


def show_study(study: str | Path, *, storage: str | None = None, say: Say = print) -> Records:
    """Print how far a study is and what it found, and write its report; it may be running meanwhile."""
    folder = StudyFolder.open(study)
    settings, stored, _ = folder.read()
    records = _storage(folder, settings, storage or stored, say).records()
    table_console().print(progress_table(records))
    _announce(records, say)
    say(f"report: {_report(folder, records)}")
    return records


def best_recipe(study: str | Path, *, storage: str | None = None) -> tuple[Recipe, dict[str, Any]]:
    """Return the recipe of a study's best configuration so far, named RECIPE-tuned, and how to open the study's data."""
    folder = StudyFolder.open(study)
    settings, stored, _ = folder.read()
    records = _storage(folder, settings, storage or stored, print).records()
    best = records.best
    if best is None:
        raise UserError(f"The study {settings.name} has no finished rung yet: go on with it first.")
    source = (
        f"best of study {settings.name} ({settings.data['title']}): {settings.metric} {best.value:.4f} "
        f"after {best.epochs} epochs, bracket s={best.key[0]}"
    )
    recipe = records.recipe(best.key)
    return dataclasses.replace(recipe, name=f"{recipe.name}-tuned", source=source), settings.request


def show_plan(settings: Settings) -> None:
    """Print the brackets and rungs with their cost."""
    table_console().print(plan_table(settings))


def _check_limits(workers: int | None, budget: float | None) -> None:
    if workers is not None and workers < 1:
        raise UserError(f"--workers is {workers}, but it must be a whole number of at least 1.")
    if budget is not None and not budget > 0:
        raise UserError(f"--budget is {budget}, but it must be a number of minutes above 0.")


def _open(data: str | Path | Dataset, size: int | None, seed: int) -> tuple[Dataset, dict[str, Any]]:
    request: dict[str, Any] = {"source": "", "size": size, "seed": seed}
    if isinstance(data, Dataset):
        return data, request
    named = str(data).lower() in (*CATALOGUE, SYNTHETIC)
    request["source"] = str(data) if named else str(Path(data).expanduser().absolute())
    return load(**request), request


def _cut(dataset: Dataset, settings: Settings) -> Dataset:
    return dataset if settings.subset is None else cut(dataset, settings.subset, settings.seed)


def _storage(folder: StudyFolder, settings: Settings, storage: str, say: Say) -> Storage:
    return Storage(address(storage or str(folder.database)), settings.name, say)


def _go(
    folder: StudyFolder,
    settings: Settings,
    storage: Storage,
    dataset: Dataset,
    dataset_cut: Dataset,
    workers: int | None,
    cluster: str | None,
    budget: float | None,
    checkpoints: str,
    say: Say,
) -> Records:
    store = Store(checkpoints or str(folder.root / "checkpoints"))
    with _leased(storage):
        storage.ensure(settings)
        records = storage.records()
        if not records.over:
            pool = _pool(settings, dataset_cut, store, workers, cluster, say)
            space = spaces.parse(settings.space, settings.base, f"The space of study {settings.name}")
            with ShowStudy() as watcher:
                over = Driver(storage, space, store, pool, watcher).run(budget)
            if not over:
                say(f"stopped after {budget:g} minutes: `nephros tune --resume {settings.name}` goes on.")
            records = storage.records()
        if records.over and records.judged is None and records.best is not None:
            say("judging the best configuration on all of validation")
            storage.judge(_judge(records, dataset, store))
            records = storage.records()
    _announce(records, say)
    say(f"report: {_report(folder, records)}")
    return records


@contextmanager
def _leased(storage: Storage) -> Iterator[None]:
    storage.lease.take()
    try:
        yield
    finally:
        storage.lease.release()


def _pool(
    settings: Settings, dataset: Dataset, store: Store, workers: int | None, cluster: str | None, say: Say
) -> Pool:
    cores = os.cpu_count() or 1
    if cluster is not None:
        from nephros.tuning.cluster import Cluster

        return Cluster(cluster, settings, dataset, store, workers)
    processor = devices.choose(settings.device_type)
    if workers is None:
        workers = max(1, cores // settings.threads) if processor.type == "cpu" and settings.request["source"] else 1
    if processor.type == "cpu" and workers * settings.threads > cores:
        say(
            f"warning: {workers} workers of {settings.threads} threads are more than this machine's {cores} cores, which "
            "slows all of them."
        )
    if workers == 1:
        return Here(Bench(dataset, processor, store), settings.threads)
    setup = {
        "request": settings.request,
        "subset": settings.subset,
        "seed": settings.seed,
        "device": settings.device_type,
        "threads": settings.threads,
        "store": store.root,
    }
    return Processes(workers, setup)


def _judge(records: Records, dataset: Dataset, store: Store) -> dict[str, Any]:
    """Return the metrics of the best configuration, as it was when it was best, on all of validation."""
    best = records.best
    assert best is not None
    state = store.load(best_name(*best.key, best.epochs))
    if state is None:
        raise UserError(
            f"The checkpoint of the best configuration is missing from {store.root}: train it anew with "
            f"`nephros train --from-study {records.settings.name}`."
        )
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


def _announce(records: Records, say: Say) -> None:
    best, settings = records.best, records.settings
    if best is None:
        reasons = [config.error for config in records.configs.values() if config.error]
        if records.over:
            raise UserError(
                f"Every configuration failed; the first said: {reasons[0]} Narrow the space and tune again."
            )
        say("no rung is finished yet")
        return
    values = ", ".join(f"{key} {_short(value)}" for key, value in records.configs[best.key].params.items())
    say(f"best: {settings.metric} {best.value:.4f} after {best.epochs} epochs (s{best.key[0]}#{best.key[1]}): {values}")
    if records.judged is not None:
        judged = records.judged
        say(
            f"on all of validation ({judged['n']:,} images): accuracy {judged['accuracy']:.4f}, loss {judged['loss']:.4f}"
        )
    say(f"train it on the whole train split: nephros train --from-study {settings.name}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _report(folder: StudyFolder, records: Records) -> Path:
    tag = "synthetic-" if records.settings.data["split"] == "synthetic" else ""
    return write_study_report(records, folder.root, tag)
