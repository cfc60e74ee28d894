"""A study's answer depends on its settings alone, and no epoch is trained twice."""

from __future__ import annotations

import dataclasses
import errno
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from nephros.data.dataset import Dataset
from nephros.errors import UserError
from nephros.recipe import Recipe
from nephros.recipe_parts import Model, Optimizer, Schedule
from nephros.training.history import Epoch
from nephros.training.trainer import Fit
from nephros.tuning.checkpoint_store import Store, best_name
from nephros.tuning.executors import EpochDone, Event, Hear, Here, Idle, Lost
from nephros.tuning.hyperband import Bracket, Standing
from nephros.tuning.scheduler import Driver
from nephros.tuning.study_state import Records
from nephros.tuning.trial import Bench, Task
from tests.conftest import made_up
from tests.tuning.conftest import RECIPE, SmallStudy, timeless


class Breaks(Here):
    """A pool whose driver dies when it hears of the n-th thing."""

    def __init__(self, bench: Bench, after: int) -> None:
        super().__init__(bench, 1)
        self._left = after

    def wait(self, hear: Hear, seconds: float) -> None:
        def fragile(event: Event) -> None:
            self._left -= 1
            if self._left < 0:
                raise RuntimeError("the driver dies here")
            hear(event)

        super().wait(fragile, seconds)


class Loses(Here):
    """A pool of three places, done in the opposite order, that loses every third task's worker in its first epoch."""

    size = 3

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench, 1)
        self._waiting: list[Task] = []
        self._begun = 0

    def start(self, task: Task) -> None:
        self._waiting.append(task)

    def wait(self, hear: Hear, seconds: float) -> None:
        task = self._waiting.pop()
        self._begun += 1
        if self._begun % 3 == 0:
            hear(Lost(task.key))
            return
        super().start(task)
        super().wait(hear, seconds)


def test_the_small_study_is_all_of_hyperband(undisturbed: Records) -> None:
    assert undisturbed.over
    counts = {s: sum(key[0] == s for key in undisturbed.configs) for s in (2, 1, 0)}
    assert counts == {2: 4, 1: 3, 0: 3}
    states = [config.state for config in undisturbed.configs.values()]
    assert states.count("complete") == 1 + 1 + 3
    assert states.count("pruned") == 3 + 2
    assert undisturbed.epochs == undisturbed.planned_epochs == 8 + 8 + 12
    for config in undisturbed.configs.values():
        assert list(config.values) == list(range(1, config.epochs + 1))
        assert ("optimizer.momentum" in config.params) == (config.params["optimizer.name"] == "sgd")
        assert undisturbed.recipe(config.key).model.hidden in ((16,), (24, 8))


def test_the_same_seed_gives_the_same_study_and_another_does_not(
    cells: Dataset, undisturbed: Records, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    assert timeless(SmallStudy(tmp_path / "a", cells).run()) == timeless(undisturbed)
    other = SmallStudy(tmp_path / "b", cells, seed=1, max_epochs=2).run()
    assert other.configs[1, 0].params != undisturbed.configs[1, 0].params


def test_a_driver_that_dies_at_every_event_finds_the_same_answer(
    cells: Dataset, undisturbed: Records, tmp_path: Path
) -> None:
    study = SmallStudy(tmp_path, cells)
    deaths = 0
    for after in range(1, 200):
        try:
            records = study.run(Breaks(study.bench, 1 + after % 4))
            break
        except RuntimeError:
            deaths += 1
    assert deaths > 5
    assert timeless(records) == timeless(undisturbed)


def test_tasks_out_of_order_and_lost_workers_change_nothing(
    cells: Dataset, undisturbed: Records, tmp_path: Path
) -> None:
    study = SmallStudy(tmp_path, cells)
    assert timeless(study.run(Loses(study.bench))) == timeless(undisturbed)


def test_tpe_learns_from_earlier_brackets_and_survives_interruption(cells: Dataset, tmp_path: Path) -> None:
    whole = SmallStudy(tmp_path / "whole", cells, sampler="tpe").run()
    broken = SmallStudy(tmp_path / "broken", cells, sampler="tpe")
    for after in (3, 9, 17):
        with pytest.raises(RuntimeError):
            broken.run(Breaks(broken.bench, after))
    assert timeless(broken.run()) == timeless(whole)
    # Loss is the opposite order: the first bracket is drawn alike, and what is learnt from it is not.
    few = made_up(n=32)
    other = SmallStudy(tmp_path / "other", few, sampler="tpe", metric="val_loss", max_epochs=8)
    base = SmallStudy(tmp_path / "base", few, sampler="tpe", max_epochs=8)
    first, second = other.run(), base.run()
    assert [first.configs[3, i].params for i in range(8)] == [second.configs[3, i].params for i in range(8)]
    assert [first.configs[0, i].params for i in range(4)] != [second.configs[0, i].params for i in range(4)]


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        dataclasses.replace(RECIPE, schedule=Schedule(name="onecycle", warmup=0.2), ema=0.9),
        dataclasses.replace(
            RECIPE,
            model=Model(network="poster", features=2, dropout=0.4),
            schedule=Schedule(name="plateau", patience=0, factor=0.5),
            last_batch="even",
        ),
    ],
    ids=["constant", "onecycle", "plateau"],
)
def test_a_promoted_configuration_has_the_weights_of_a_run_that_never_stopped(
    recipe: Recipe, cells: Dataset, tmp_path: Path
) -> None:
    space = {"optimizer.lr": {"low": 0.001, "high": 0.05, "log": True}, "batch_size": [16, 32]}
    study = SmallStudy(tmp_path, cells, recipe, space=space, brackets="s=2")
    trained = []
    step = Fit.step

    def counted(self: Fit, *given: Any) -> Any:
        trained.append(self)
        return step(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fit, "step", counted)
        records = study.run()
    steps = sum(
        config.epochs * math.ceil(len(cells.train) / records.recipe(config.key).batch_size)
        for config in records.configs.values()
    )
    assert len(trained) == steps  # no epoch twice
    (winner,) = [config for config in records.configs.values() if config.state == "complete"]
    whole = study.bench.fit(records.recipe(winner.key))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole.run(None, Silent(), until=4)
    torch.set_num_threads(threads)
    state = study.store.load(f"{winner.bracket}-{winner.index}.pt")
    assert state is not None
    for name, value in whole.state()["model"].items():
        assert torch.equal(state["model"][name], value), name
    assert [row.val_accuracy for row in whole.history] == list(winner.values.values())


class Silent:
    def step(self, *_: Any) -> None:
        pass

    def epoch(self, row: Epoch, rows: list[Epoch]) -> None:
        pass


def test_checkpoints_of_the_eliminated_go_and_the_best_stays(
    cells: Dataset, undisturbed: Records, tmp_path: Path
) -> None:
    study = SmallStudy(tmp_path, cells)
    records = study.run()
    best = records.best
    assert best is not None
    survivors = [f"{c.bracket}-{c.index}.pt" for c in records.configs.values() if c.state == "complete"]
    assert study.store.names() == sorted([*survivors, best_name(*best.key, best.epochs)])
    state = study.store.load(best_name(*best.key, best.epochs))
    assert state is not None
    assert len(state["history"]) == best.epochs
    assert state["history"][-1]["val_accuracy"] == best.value
    assert best.value == max(
        config.values[epochs]
        for config in records.configs.values()
        for epochs in (1, 2, 4)
        if epochs in config.values and epochs >= 4 // 2**config.bracket
    )


def test_diverged_and_oversized_configurations_fail_and_the_rungs_go_on(cells: Dataset, tmp_path: Path) -> None:
    space = {"optimizer.lr": [0.01, 1e30], "model.features": [2, 3]}
    study = SmallStudy(tmp_path, cells, space=space)

    def fit(self: Bench, recipe: Recipe) -> Fit:
        if recipe.model.features == 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return make(self, recipe)

    make = Bench.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Bench, "fit", fit)
        records = study.run()
    reasons = {config.error for config in records.configs.values() if config.state == "failed"}
    assert any("memory" in str(reason) for reason in reasons)
    assert any("became" in str(reason) for reason in reasons)
    for config in records.configs.values():
        good = config.params == {"optimizer.lr": 0.01, "model.features": 2}
        assert (config.state == "failed") == (not good), config
    assert records.over
    again = study.run()  # nothing is left to do, and nothing changes
    assert timeless(again) == timeless(records)


def test_values_that_can_not_be_combined_fail_with_the_reason(cells: Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, optimizer=Optimizer(name="sgd", lr=0.01, momentum=0.5))
    space = {"optimizer.nesterov": [True, False], "optimizer.momentum": [0.0, 0.5]}
    records = SmallStudy(tmp_path, cells, recipe, space=space).run()
    for config in records.configs.values():
        impossible = config.params == {"optimizer.nesterov": True, "optimizer.momentum": 0.0}
        assert (config.state == "failed") == impossible
        assert not impossible or "--optimizer.nesterov" in str(config.error)


def test_a_full_disk_stops_the_study_and_spoils_nothing(cells: Dataset, undisturbed: Records, tmp_path: Path) -> None:
    study = SmallStudy(tmp_path, cells)
    saves = []

    def full(self: Store, name: str, state: dict[str, Any]) -> None:
        saves.append(name)
        if len(saves) > 7:
            raise OSError(errno.ENOSPC, "No space left on device", name)
        save(self, name, state)

    save = Store.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "save", full)
        with pytest.raises(OSError, match="No space left"):
            study.run()
    assert timeless(study.run()) == timeless(undisturbed)


def test_a_budget_stops_between_epochs_and_the_rest_follows(
    cells: Dataset, undisturbed: Records, tmp_path: Path
) -> None:
    study = SmallStudy(tmp_path, cells)
    records = study.run(minutes=0.4 / 60)
    assert not records.over
    for config in records.configs.values():
        assert config.values.items() <= undisturbed.configs[config.key].values.items()
    assert timeless(study.run()) == timeless(undisturbed)


def test_early_stop_ends_a_configuration_which_keeps_its_score(cells: Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, early_stop=1)
    space = {
        "optimizer.lr": [1e-9, 1e-8, 1e-7, 0.02]
    }  # at most of these nothing moves, so that the first epoch is best
    records = SmallStudy(tmp_path, cells, recipe, space=space, brackets="s=0").run()
    ended = [config for config in records.configs.values() if config.ended]
    assert ended
    assert all(config.epochs == 2 and config.state == "complete" for config in ended)
    assert records.over


def test_a_study_on_which_everything_fails_is_over(cells: Dataset, tmp_path: Path) -> None:
    records = SmallStudy(tmp_path, cells, space={"optimizer.lr": [1e30, 1e31]}).run()
    assert records.over
    assert records.best is None
    assert {config.state for config in records.configs.values()} == {"failed"}


def test_watchers_hear_of_each_rung_once(cells: Dataset, tmp_path: Path) -> None:
    study = SmallStudy(tmp_path, cells)
    with pytest.raises(RuntimeError):
        study.run(Breaks(study.bench, 12))
    study.run()
    assert sorted(study.watcher.rungs) == [(0, 4), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4)]


def test_trouble_of_the_driver_is_not_taken_for_a_configurations(tmp_path: Path) -> None:
    study = SmallStudy(tmp_path, made_up(n=32))
    pool = Here(study.bench, 1)
    pool.start(Task((0, 0), RECIPE.to_dict(), 1))

    def hear(event: Event) -> None:
        if isinstance(event, EpochDone):
            raise UserError("the storage stays away")

    with pytest.raises(UserError, match="stays away"):
        pool.wait(hear, 1.0)


@pytest.mark.parametrize("rung", range(1, 7))
def test_a_disk_that_is_full_while_a_rung_is_settled_spoils_nothing(
    rung: int, cells: Dataset, undisturbed: Records, tmp_path: Path
) -> None:
    study = SmallStudy(tmp_path, cells)
    keep = Driver._keep_best
    settled = []

    def full(self: Driver, bracket: Bracket, standing: Standing) -> None:
        settled.append(standing)
        if len(settled) == rung:
            time.sleep(0.2)  # what was to be written before is written
            raise OSError(errno.ENOSPC, "No space left on device")
        keep(self, bracket, standing)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Driver, "_keep_best", full)
        with pytest.raises(OSError, match="No space left"):
            study.run()
    records = study.run(Idle() if rung == 6 else None)  # after the last rung there is nothing left to train
    assert timeless(records) == timeless(undisturbed)
    best = records.best
    assert best is not None
    assert study.store.load(best_name(*best.key, best.epochs)) is not None


def test_a_checkpoint_of_another_study_is_not_taken_for_ones_own(
    cells: Dataset, undisturbed: Records, tmp_path: Path
) -> None:
    other = SmallStudy(tmp_path, made_up(n=96), seed=3)
    other.run()
    (tmp_path / "study.db").unlink()
    assert timeless(SmallStudy(tmp_path, cells).run()) == timeless(undisturbed)


def test_which_checkpoint_counts_may_itself_be_searched(cells: Dataset, tmp_path: Path) -> None:
    space = {"checkpoint": ["best", "last"], "optimizer.lr": {"low": 0.01, "high": 0.9, "log": True}}
    records = SmallStudy(tmp_path, cells, space=space, brackets="s=0", max_epochs=8, seed=2).run()
    (standing,) = records.standings(records.settings.plan[0])
    for index, config in ((key[1], config) for key, config in records.configs.items() if config.state == "complete"):
        wanted = max(config.values.values()) if config.params["checkpoint"] == "best" else config.values[8]
        assert standing.scores[index] == wanted
