"""A nephros study, with the scheduler, storage, checkpoints and worker processes of `nephros tune`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from benchmarks.tuners.budget_config import DEVICE, THREADS, BudgetConfig
from benchmarks.tuners.event_log import EventLog
from nephros.data.load import DataRequest
from nephros.training.history import EpochMetrics
from nephros.tuning.checkpoint_store import CheckpointStore, checkpoint_name
from nephros.tuning.database import storage_url
from nephros.tuning.executors import EpochDone, EventHandler, ProcessExecutor, TaskEvent, WorkerSetup
from nephros.tuning.hyperband import Bracket, RungState
from nephros.tuning.optuna_storage import StudyStorage
from nephros.tuning.scheduler import HyperbandScheduler
from nephros.tuning.settings import StudySettings, plan_study
from nephros.tuning.study_state import ConfigKey, StudyState
from nephros.tuning.trial import Outcome, Task


class EventLogCallback:
    """Logs each epoch of a study's trials once; as a StudyCallback it logs the trials themselves."""

    def __init__(self, event_log: EventLog) -> None:
        self._event_log = event_log
        self._logged_trials = set(event_log.params())
        self._logged_epochs = {(event.trial, event.epoch) for event in event_log.events()}

    def on_update(self, study_state: StudyState, running: list[Task]) -> None:
        """Log new trials."""
        for config in study_state.configs.values():
            if _trial_name(config.key) not in self._logged_trials:
                self._logged_trials.add(_trial_name(config.key))
                self._event_log.log_trial(_trial_name(config.key), config.params)

    def on_rung_end(self, study_state: StudyState, bracket: Bracket, rung_state: RungState) -> None:
        """Do nothing: the rung's epochs are logged one by one."""

    def recover(self, store: CheckpointStore, study_state: StudyState) -> None:
        """Log the epochs that an earlier attempt trained but was killed before it could log."""
        for key in study_state.configs:
            state = store.load(checkpoint_name(*key))
            for row in state["history"] if state else []:
                self._log_row(key, EpochMetrics(**row))

    def on_event(self, event: TaskEvent) -> None:
        """Log a worker's event."""
        if isinstance(event, EpochDone):
            self._log_row(event.key, event.metrics)
        elif isinstance(event, Outcome):
            for row in event.history:
                self._log_row(event.key, row)
            if event.error is not None:  # the epoch in which it diverged counts too
                self._log_epoch(event.key, len(event.history) + 1, None, 0.0)

    def _log_row(self, key: ConfigKey, row: EpochMetrics) -> None:
        self._log_epoch(key, row.epoch, row.val_accuracy, row.seconds)

    def _log_epoch(self, key: ConfigKey, epoch: int, value: float | None, training_seconds: float) -> None:
        if (_trial_name(key), epoch) not in self._logged_epochs:
            self._logged_epochs.add((_trial_name(key), epoch))
            self._event_log.log_epoch(_trial_name(key), epoch, value, training_seconds)


def _trial_name(key: ConfigKey) -> str:
    return f"s{key[0]}#{key[1]}"


class LoggingExecutor(ProcessExecutor):
    """A ProcessExecutor that logs each event before the scheduler gets it."""

    event_log_callback: EventLogCallback

    def wait(self, on_event: EventHandler, timeout: float) -> None:
        """Log the workers' events and pass them on."""

        def log_and_forward(event: TaskEvent) -> None:
            self.event_log_callback.on_event(event)
            on_event(event)

        super().wait(log_and_forward, timeout)


def make_settings(budget_config: BudgetConfig, name: str) -> StudySettings:
    """Return the settings of a study with this budget; opens the data for its provenance, as `nephros tune` does."""
    study_settings = plan_study(
        budget_config.base_recipe,
        max_epochs=budget_config.max_epochs,
        eta=budget_config.eta,
        subset=budget_config.subset,
        metric=budget_config.metric,
        seed=budget_config.seed,
        threads_per_trial=THREADS,
        name=name,
        device=DEVICE,
    )
    request: DataRequest = {"source": budget_config.source, "size": None, "seed": budget_config.seed}
    return dataclasses.replace(
        study_settings, data_request=request, data=budget_config.load_data().provenance.to_dict()
    )


def main() -> None:
    """Run the study, or resume it where an earlier attempt was stopped."""
    budget_config = BudgetConfig.read()
    folder, name = Path(budget_config.folder), f"{budget_config.recipe}-{budget_config.seed}"
    storage, store = (
        StudyStorage(storage_url(str(folder / "study.db")), name),
        CheckpointStore(str(folder / "checkpoints")),
    )
    storage.lock.acquire()
    settings = storage.load_settings() if storage.exists else make_settings(budget_config, name)
    storage.create_or_verify(settings)
    setup: WorkerSetup = {
        "data_request": settings.data_request,
        "subset": settings.subset,
        "seed": settings.seed,
        "device": DEVICE,
        "threads": THREADS,
        "store": store.root,
    }
    executor, event_log_callback = (
        LoggingExecutor(budget_config.workers, setup),
        EventLogCallback(EventLog(budget_config)),
    )
    executor.event_log_callback = event_log_callback
    event_log_callback.recover(store, storage.load_state())
    HyperbandScheduler(storage, budget_config.space, store, executor, event_log_callback).run()


if __name__ == "__main__":
    main()
