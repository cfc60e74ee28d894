"""A study's result depends on its settings alone, and no epoch is trained twice."""

from __future__ import annotations

import dataclasses
import errno
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nephros.data.dataset import Dataset
from nephros.errors import NephrosError
from nephros.recipe import LRScheduleConfig, ModelConfig, OptimizerConfig, Recipe
from nephros.training.optimizer_step import OptimizerStep
from nephros.training.progress import NullCallback
from nephros.training.trainer import Trainer
from nephros.tuning.checkpoint_store import CheckpointStore, best_checkpoint_name
from nephros.tuning.executors import EpochDone, EventHandler, InProcessExecutor, NullExecutor, TaskEvent, WorkerLost
from nephros.tuning.hyperband import Bracket, RungState
from nephros.tuning.scheduler import HyperbandScheduler
from nephros.tuning.study_state import StudyState
from nephros.tuning.trial import Task, TrialRunner
from tests.conftest import squares_dataset
from tests.tuning.conftest import RECIPE, SmallStudy, reproducible_part


class FailingExecutor(InProcessExecutor):
    """An executor whose driver dies after a number of events."""

    def __init__(self, runner: TrialRunner, after: int) -> None:
        super().__init__(runner, 1)
        self._events_left = after

    def wait(self, on_event: EventHandler, timeout: float) -> None:
        def failing(event: TaskEvent) -> None:
            self._events_left -= 1
            if self._events_left < 0:
                raise RuntimeError("the driver dies here")
            on_event(event)

        super().wait(failing, timeout)


class LossyExecutor(InProcessExecutor):
    """An executor of size 3 that runs tasks in reverse order and loses every third task's worker in its first epoch."""

    size = 3

    def __init__(self, runner: TrialRunner) -> None:
        super().__init__(runner, 1)
        self._waiting: list[Task] = []
        self._n_started = 0

    def submit(self, task: Task) -> None:
        self._waiting.append(task)

    def wait(self, on_event: EventHandler, timeout: float) -> None:
        task = self._waiting.pop()
        self._n_started += 1
        if self._n_started % 3 == 0:
            on_event(WorkerLost(task.key))
            return
        super().submit(task)
        super().wait(on_event, timeout)


Reference = Callable[[int], SmallStudy]
SIZES = pytest.mark.parametrize("max_epochs", [2, pytest.param(4, marks=pytest.mark.slow)])


def assert_equal_studies(study_state: StudyState, reference_study: SmallStudy) -> None:
    assert reproducible_part(study_state) == reproducible_part(reference_study.storage().load_state())


def test_the_small_study_runs_all_of_hyperband(reference_state: StudyState) -> None:
    assert reference_state.finished
    counts = {s: sum(key[0] == s for key in reference_state.configs) for s in (2, 1, 0)}
    assert counts == {2: 4, 1: 3, 0: 3}
    states = [config.state for config in reference_state.configs.values()]
    assert states.count("complete") == 1 + 1 + 3
    assert states.count("pruned") == 3 + 2
    assert reference_state.trained_epochs == reference_state.planned_epochs == 8 + 8 + 12
    for config in reference_state.configs.values():
        assert list(config.values) == list(range(1, config.trained_epochs + 1))
        assert ("optimizer.momentum" in config.params) == (config.params["optimizer.name"] == "sgd")
        assert reference_state.recipe(config.key).model.hidden in ((16,), (24, 8))


@pytest.mark.slow
@SIZES
def test_equal_seeds_give_equal_studies_and_others_do_not(
    cells: Dataset, reference: Reference, max_epochs: int, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    study_state = SmallStudy(tmp_path / "a", cells, max_epochs=max_epochs).run()
    assert_equal_studies(study_state, reference(max_epochs))
    other = SmallStudy(tmp_path / "b", cells, seed=1, max_epochs=max_epochs).run()
    assert other.configs[1, 0].params != study_state.configs[1, 0].params


@pytest.mark.slow
@SIZES
def test_a_driver_that_keeps_dying_gets_the_same_result(
    cells: Dataset, reference: Reference, max_epochs: int, tmp_path: Path
) -> None:
    study = SmallStudy(tmp_path, cells, max_epochs=max_epochs)
    n_crashes = 0
    for after in range(1, 200):
        try:
            study_state = study.run(FailingExecutor(study.runner, 1 + after % 4))
            break
        except RuntimeError:
            n_crashes += 1
    assert n_crashes >= max_epochs
    assert_equal_studies(study_state, reference(max_epochs))


@pytest.mark.slow
@SIZES
def test_task_order_and_lost_workers_change_nothing(
    cells: Dataset, reference: Reference, max_epochs: int, tmp_path: Path
) -> None:
    study = SmallStudy(tmp_path, cells, max_epochs=max_epochs)
    assert_equal_studies(study.run(LossyExecutor(study.runner)), reference(max_epochs))


@pytest.mark.slow
def test_tpe_learns_from_earlier_brackets_and_survives_interruption(cells: Dataset, tmp_path: Path) -> None:
    uninterrupted = SmallStudy(tmp_path / "uninterrupted", cells, sampler="tpe").run()
    interrupted = SmallStudy(tmp_path / "interrupted", cells, sampler="tpe")
    for after in (3, 9, 17):
        with pytest.raises(RuntimeError):
            interrupted.run(FailingExecutor(interrupted.runner, after))
    assert reproducible_part(interrupted.run()) == reproducible_part(uninterrupted)
    # With the loss, the first bracket is sampled alike, but what the sampler learns from it differs.
    small_dataset = squares_dataset(n=32)
    other = SmallStudy(tmp_path / "other", small_dataset, sampler="tpe", metric="val_loss", max_epochs=8)
    base = SmallStudy(tmp_path / "base", small_dataset, sampler="tpe", max_epochs=8)
    first, second = other.run(), base.run()
    assert [first.configs[3, i].params for i in range(8)] == [second.configs[3, i].params for i in range(8)]
    assert [first.configs[0, i].params for i in range(4)] != [second.configs[0, i].params for i in range(4)]


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(RECIPE, marks=pytest.mark.slow),
        dataclasses.replace(RECIPE, schedule=LRScheduleConfig(name="linear", warmup=0.2), ema_decay=0.9),
        pytest.param(
            dataclasses.replace(
                RECIPE,
                model=ModelConfig(network="poster", base_channels=2, dropout=0.4),
                schedule=LRScheduleConfig(name="plateau", patience=0, factor=0.5),
                last_batch="balanced",
            ),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["constant", "linear", "plateau"],
)
def test_a_promoted_configuration_has_the_weights_of_a_run_that_never_stopped(
    recipe: Recipe, cells: Dataset, tmp_path: Path
) -> None:
    space = {"optimizer.lr": {"low": 0.001, "high": 0.05, "log": True}, "batch_size": [16, 32]}
    study = SmallStudy(tmp_path, cells, recipe, space=space, brackets="s=2")
    steps_taken = []
    original = OptimizerStep.take

    def counted(self: OptimizerStep, *args: Any) -> Any:
        steps_taken.append(self)
        return original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OptimizerStep, "take", counted)
        study_state = study.run()
    steps = sum(
        config.trained_epochs * math.ceil(len(cells.train) / study_state.recipe(config.key).batch_size)
        for config in study_state.configs.values()
    )
    assert len(steps_taken) == steps  # no epoch is trained twice
    (winner,) = [config for config in study_state.configs.values() if config.state == "complete"]
    uninterrupted = study.runner.make_trainer(study_state.recipe(winner.key))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    uninterrupted.run(None, NullCallback(), stop_epoch=4)
    torch.set_num_threads(threads)
    state = study.store.load(f"{winner.bracket}-{winner.index}.pt")
    assert state is not None
    for name, value in uninterrupted.state_dict()["model"].items():
        assert torch.equal(state["model"][name], value), name
    assert [row.val_accuracy for row in uninterrupted.history] == list(winner.values.values())


def test_checkpoints_of_pruned_trials_are_deleted_and_the_best_is_kept(
    reference_study: SmallStudy, reference_state: StudyState
) -> None:
    study, study_state = reference_study, reference_state
    best = study_state.best
    assert best is not None
    survivors = [f"{c.bracket}-{c.index}.pt" for c in study_state.configs.values() if c.state == "complete"]
    assert study.store.names() == sorted([*survivors, best_checkpoint_name(*best.key, best.epochs)])
    state = study.store.load(best_checkpoint_name(*best.key, best.epochs))
    assert state is not None
    assert len(state["history"]) == best.epochs
    assert state["history"][-1]["val_accuracy"] == best.value
    assert best.value == max(
        config.values[epochs]
        for config in study_state.configs.values()
        for epochs in (1, 2, 4)
        if epochs in config.values and epochs >= 4 // 2**config.bracket
    )


def test_diverged_and_oversized_configurations_fail_and_the_rungs_continue(cells: Dataset, tmp_path: Path) -> None:
    space = {"optimizer.lr": [0.01, 1e30], "model.base_channels": [2, 3]}
    study = SmallStudy(tmp_path, cells, space=space)

    def failing_make_trainer(self: TrialRunner, recipe: Recipe) -> Trainer:
        if recipe.model.base_channels == 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
        return original_make_trainer(self, recipe)

    original_make_trainer = TrialRunner.make_trainer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrialRunner, "make_trainer", failing_make_trainer)
        study_state = study.run()
    reasons = {config.error for config in study_state.configs.values() if config.state == "failed"}
    assert any("memory" in str(reason) for reason in reasons)
    assert any("became" in str(reason) for reason in reasons)
    for config in study_state.configs.values():
        trainable = config.params == {"optimizer.lr": 0.01, "model.base_channels": 2}
        assert (config.state == "failed") == (not trainable), config
    assert study_state.finished
    repeated_state = study.run()  # nothing is left to do
    assert reproducible_part(repeated_state) == reproducible_part(study_state)


def test_impossible_combinations_fail_with_the_reason(cells: Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, optimizer=OptimizerConfig(name="sgd", lr=0.01, momentum=0.5))
    space = {"optimizer.nesterov": [True, False], "optimizer.momentum": [0.0, 0.5]}
    study_state = SmallStudy(tmp_path, cells, recipe, space=space, max_epochs=2, seed=2).run()
    assert {config.state == "failed" for config in study_state.configs.values()} == {True, False}
    for config in study_state.configs.values():
        impossible = config.params == {"optimizer.nesterov": True, "optimizer.momentum": 0.0}
        assert (config.state == "failed") == impossible
        assert not impossible or "optimizer.nesterov" in str(config.error)


@pytest.mark.slow
@SIZES
def test_a_full_disk_stops_the_study_and_damages_nothing(
    cells: Dataset, reference: Reference, max_epochs: int, tmp_path: Path
) -> None:
    study = SmallStudy(tmp_path, cells, max_epochs=max_epochs)
    saves = []

    def save_or_fail(self: CheckpointStore, name: str, state: dict[str, Any]) -> None:
        saves.append(name)
        if len(saves) > 3:
            raise OSError(errno.ENOSPC, "No space left on device", name)
        original_save(self, name, state)

    original_save = CheckpointStore.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointStore, "save", save_or_fail)
        with pytest.raises(OSError, match="No space left"):
            study.run()
    assert_equal_studies(study.run(), reference(max_epochs))


@pytest.mark.slow
@SIZES
def test_a_time_limit_stops_between_epochs_and_the_study_resumes(
    cells: Dataset, reference: Reference, max_epochs: int, tmp_path: Path
) -> None:
    study = SmallStudy(tmp_path, cells, max_epochs=max_epochs)
    study_state = study.run(max_minutes=0.02 * max_epochs / 60)
    assert not study_state.finished
    expected = reference(max_epochs).storage().load_state()
    for config in study_state.configs.values():
        assert config.values.items() <= expected.configs[config.key].values.items()
    assert_equal_studies(study.run(), reference(max_epochs))


def test_an_early_stopped_configuration_completes_with_its_score(cells: Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, early_stopping_patience=1)
    space = {"optimizer.lr": [1e-9, 1e-8, 1e-7, 0.02]}  # with most of these nothing changes, so the first epoch is best
    study_state = SmallStudy(tmp_path, cells, recipe, space=space, brackets="s=0").run()
    early_stopped = [config for config in study_state.configs.values() if config.early_stopped]
    assert early_stopped
    assert all(config.trained_epochs == 2 and config.state == "complete" for config in early_stopped)
    assert study_state.finished


def test_a_study_of_failures_finishes_without_a_best(cells: Dataset, tmp_path: Path) -> None:
    study_state = SmallStudy(tmp_path, cells, space={"optimizer.lr": [1e30, 1e31]}).run()
    assert study_state.finished
    assert study_state.best is None
    assert {config.state for config in study_state.configs.values()} == {"failed"}


def test_callbacks_hear_of_each_rung_once(cells: Dataset, tmp_path: Path) -> None:
    study = SmallStudy(tmp_path, cells, max_epochs=2)
    with pytest.raises(RuntimeError):
        study.run(FailingExecutor(study.runner, 6))
    study.run()
    assert sorted(study.callback.rungs) == [(0, 2), (1, 1), (1, 2)]


def test_errors_of_the_driver_are_not_blamed_on_the_configuration(tmp_path: Path) -> None:
    study = SmallStudy(tmp_path, squares_dataset(n=32))
    executor = InProcessExecutor(study.runner, 1)
    executor.submit(Task((0, 0), RECIPE.to_dict(), 1))

    def raise_on_epoch(event: TaskEvent) -> None:
        if isinstance(event, EpochDone):
            raise NephrosError("the storage stays away")

    with pytest.raises(NephrosError, match="stays away"):
        executor.wait(raise_on_epoch, 1.0)


@pytest.mark.parametrize(
    ("max_epochs", "rung"), [(2, 1), *(pytest.param(4, rung, marks=pytest.mark.slow) for rung in range(1, 7))]
)
def test_a_full_disk_while_a_rung_is_finalized_damages_nothing(
    max_epochs: int, rung: int, cells: Dataset, reference: Reference, tmp_path: Path
) -> None:
    study = SmallStudy(tmp_path, cells, max_epochs=max_epochs)
    original_save_best = HyperbandScheduler._save_best_checkpoint
    finalized = []

    def save_best_or_fail(self: HyperbandScheduler, bracket: Bracket, rung_state: RungState) -> None:
        finalized.append(rung_state)
        if len(finalized) == rung:
            time.sleep(0.2)  # earlier writes are finished by now
            raise OSError(errno.ENOSPC, "No space left on device")
        original_save_best(self, bracket, rung_state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HyperbandScheduler, "_save_best_checkpoint", save_best_or_fail)
        with pytest.raises(OSError, match="No space left"):
            study.run()
    study_state = study.run(NullExecutor() if rung == 6 else None)  # after the last rung nothing is left to train
    assert_equal_studies(study_state, reference(max_epochs))
    best = study_state.best
    assert best is not None
    assert study.store.load(best_checkpoint_name(*best.key, best.epochs)) is not None


@pytest.mark.slow
def test_checkpoints_of_another_study_are_ignored(cells: Dataset, reference_state: StudyState, tmp_path: Path) -> None:
    other = SmallStudy(tmp_path, squares_dataset(n=96), seed=3)
    other.run()
    (tmp_path / "study.db").unlink()
    assert reproducible_part(SmallStudy(tmp_path, cells).run()) == reproducible_part(reference_state)


@pytest.mark.slow
def test_the_checkpoint_field_may_be_searched(cells: Dataset, tmp_path: Path) -> None:
    space = {"checkpoint": ["best", "last"], "optimizer.lr": {"low": 0.01, "high": 0.9, "log": True}}
    study_state = SmallStudy(tmp_path, cells, space=space, brackets="s=0", max_epochs=8, seed=2).run()
    (rung_state,) = study_state.rung_states(study_state.settings.planned_brackets[0])
    for index, config in (
        (key[1], config) for key, config in study_state.configs.items() if config.state == "complete"
    ):
        expected = max(config.values.values()) if config.params["checkpoint"] == "best" else config.values[8]
        assert rung_state.scores[index] == expected
