"""A study as Optuna stores it: one trial a configuration, so that its dashboard and plots open it.

Intermediate values have step = epochs trained; an eliminated configuration is PRUNED, a survivor COMPLETE, a failed one
FAIL. Only the driver writes.
"""

from __future__ import annotations

import errno
import json
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from nephros.errors import NephrosError
from nephros.tuning.sample import SampledParams, decode_params, optuna_direction
from nephros.tuning.settings import StudySettings
from nephros.tuning.space import parse_space
from nephros.tuning.study_lock import CONNECT_ARGS, StudyLock
from nephros.tuning.study_state import Config, ConfigKey, StudyState, TrialStateName

T = TypeVar("T")
_SETTINGS_ATTR, _BEST_METRICS_ATTR = "nephros:settings", "nephros:best_metrics"
_STATE_NAMES: dict[TrialState, TrialStateName] = {
    TrialState.RUNNING: "running",
    TrialState.PRUNED: "pruned",
    TrialState.COMPLETE: "complete",
    TrialState.FAIL: "failed",
}
_CONNECTION_ERRORS = (OperationalError, InterfaceError, optuna.exceptions.StorageInternalError)


def storage_url(storage: str) -> URL:
    """Return the URL of an SQLite file or a database; UserError when it is neither SQLite nor PostgreSQL."""
    if "://" not in storage:
        return URL.create("sqlite", database=str(Path(storage).expanduser().absolute()))
    try:
        url = sqlalchemy.make_url(storage)
    except sqlalchemy.exc.ArgumentError:
        raise NephrosError(
            f"--storage {storage} is not a URL: write it as postgresql://USER:PASSWORD@HOST/DATABASE."
        ) from None
    if url.get_backend_name() == "sqlite" and url.database:
        return storage_url(url.database)
    if url.get_backend_name() != "postgresql" or not url.database:
        raise NephrosError(
            f"--storage {display_url(url)} can't be used: name an SQLite file or postgresql://USER:PASSWORD@HOST/DATABASE."
        )
    # The driver that comes with nephros[tune]; SQLAlchemy's own choice has changed between its versions.
    return url.set(drivername="postgresql+psycopg2") if url.drivername == "postgresql" else url


def display_url(url: URL) -> str:
    """Return a URL without its password, or an SQLite file's path."""
    return str(url.database) if url.get_backend_name() == "sqlite" else url_without_password(url)


def url_without_password(url: URL) -> str:
    """Return a URL without its password, to be written down."""
    return url._replace(password=None).difference_update_query(["password", "sslpassword"]).render_as_string()


def _connect_sqlite(file: str) -> sqlite3.Connection:
    """Connect to a file so that a write waits for no disk: only a power failure can lose the last ones.

    Those are made again from the checkpoints; nothing can leave the file damaged.
    """
    connection = sqlite3.connect(file, timeout=60, check_same_thread=False)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=normal")
    return connection


class StudyStorage:
    """The place of one study."""

    retry_seconds = 600.0
    """Seconds for which a storage that stopped answering is tried again, while training goes on."""

    def __init__(self, url: URL, name: str, say: Callable[[str], None] = print) -> None:
        """Connect; UserError at once when the storage does not answer."""
        self.url, self.name, self._say = url, name, say
        self.lock = StudyLock(url, name)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sqlite = url.get_backend_name() == "sqlite"
        if sqlite:
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        engine_kwargs: dict[str, Any] = (
            {"creator": partial(_connect_sqlite, str(url.database))}
            if sqlite
            else {
                "pool_pre_ping": True,
                "connect_args": CONNECT_ARGS,
            }
        )
        tables_lock = StudyLock(url, "-tables-")  # two processes that make the tables at once would crash
        try:
            self._acquire_with_retry(tables_lock)
            try:
                self._optuna = optuna.storages.RDBStorage(url.render_as_string(False), engine_kwargs=engine_kwargs)
            finally:
                tables_lock.release()
        except (*_CONNECTION_ERRORS, ImportError) as error:
            reason = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()[0]
            advice = (
                "name a file that can be written" if sqlite else "start its server, or mend the address or password"
            )
            raise NephrosError(f"--storage {display_url(url)} does not answer ({reason}): {advice}.") from None
        self._trial_ids: dict[ConfigKey, int] = {}

    def _acquire_with_retry(self, lock: StudyLock) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                return lock.acquire()
            except NephrosError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    @property
    def exists(self) -> bool:
        """Whether the study is there."""
        return any(study.study_name == self.name for study in self._optuna.get_all_studies())

    @property
    def initialized(self) -> bool:
        """Whether the study is there and knows its settings."""
        return self._retry(lambda retrying: self.exists and _SETTINGS_ATTR in self._study.user_attrs)

    def already_exists_error(self) -> NephrosError:
        """Return what to say to someone who would start a study that exists."""
        return NephrosError(
            f"There is a study {self.name} in {display_url(self.url)} already: go on with it by "
            f"`nephros tune --resume {self.name}`, or give another --name."
        )

    def create_or_verify(self, settings: StudySettings) -> None:
        """Make the study if need be; UserError when there is one of its name with other settings."""
        self._retry(lambda retrying: self._create_or_verify(settings))

    def _create_or_verify(self, settings: StudySettings) -> None:
        if not self.exists:
            optuna.create_study(storage=self._optuna, study_name=self.name, direction=optuna_direction(settings))
        stored = self._study.user_attrs.get(_SETTINGS_ATTR)
        if stored is None and not self._study.get_trials(deepcopy=False):
            self._study.set_user_attr(_SETTINGS_ATTR, settings.to_dict())
        elif stored != json.loads(json.dumps(settings.to_dict())):
            raise NephrosError(
                f"The study {self.name} in {display_url(self.url)} was made with other settings (space, data or version) than "
                "its folder says: start a new one with another --name."
            )

    def load_settings(self) -> StudySettings:
        """Return the settings that the study was made with; UserError when it is missing or was not made by nephros."""
        stored: Any = self._study.user_attrs.get(_SETTINGS_ATTR) if self.exists else None
        if stored is None:
            raise NephrosError(
                f"There is no study {self.name} in {display_url(self.url)}: name one that `nephros tune` made."
            )
        try:
            return StudySettings(**stored)
        except TypeError:
            raise NephrosError(
                f"The study {self.name} was made by another version of nephros: start a new one with another --name."
            ) from None

    @property
    def _study(self) -> optuna.Study:
        return optuna.load_study(study_name=self.name, storage=self._optuna)

    def trials(self) -> list[FrozenTrial]:
        """Return our trials in the order of their brackets and indices, whatever the order they were made in."""
        return self._retry(lambda retrying: self._read_trials())

    def _read_trials(self) -> list[FrozenTrial]:
        trials_by_key: dict[ConfigKey, FrozenTrial] = {}
        for trial in sorted(self._study.get_trials(deepcopy=False), key=lambda trial: trial.number):
            key = trial.user_attrs.get("bracket"), trial.user_attrs.get("index")
            if trial.state in _STATE_NAMES and isinstance(key[0], int) and isinstance(key[1], int):
                trials_by_key.setdefault((key[0], key[1]), trial)
                self._trial_ids.setdefault((key[0], key[1]), trial._trial_id)
        return [trials_by_key[key] for key in sorted(trials_by_key, key=lambda key: (-key[0], key[1]))]

    def load_state(self) -> StudyState:
        """Return the study as it stands."""
        settings = self._retry(lambda retrying: self.load_settings())
        space = parse_space(settings.space, settings.base_recipe, f"The space of study {self.name}")
        configs = [_config(trial, decode_params(trial.params, space)) for trial in self.trials()]
        best_metrics = self._retry(lambda retrying: self._study.user_attrs.get(_BEST_METRICS_ATTR))
        return StudyState(
            settings, {config.key: config for config in configs}, json.loads(best_metrics) if best_metrics else None
        )

    def add_trial(self, key: ConfigKey, sampled: SampledParams) -> None:
        """Make a configuration's trial, whole or not at all."""
        params, distributions = sampled
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=distributions,
            user_attrs={"bracket": key[0], "index": key[1]},
        )

        def make(retrying: bool) -> None:
            if retrying:
                self._read_trials()  # the first attempt may have come through, though its answer did not
            if key not in self._trial_ids:
                self._trial_ids[key] = self._optuna.create_new_trial(
                    self._optuna.get_study_id_from_name(self.name), trial
                )

        self._retry(make)

    def report(self, key: ConfigKey, epoch: int, value: float) -> None:
        """Store the metric of a configuration after an epoch."""
        self._retry(lambda retrying: self._optuna.set_trial_intermediate_value(self._trial_ids[key], epoch, value))

    def set_attr(self, key: ConfigKey, name: str, value: Any) -> None:
        """Store what a rung took (seconds), or that the configuration has ended early."""
        self._retry(lambda retrying: self._optuna.set_trial_user_attr(self._trial_ids[key], name, value))

    def finish_trial(
        self, key: ConfigKey, state: TrialStateName, value: float | None, error: str | None = None
    ) -> None:
        """Close a configuration's trial for good."""
        if error is not None:
            self.set_attr(key, "error", error)
        optuna_state = next(state_enum for state_enum, state_name in _STATE_NAMES.items() if state_name == state)

        def close(retrying: bool) -> None:
            try:
                self._optuna.set_trial_state_values(
                    self._trial_ids[key], optuna_state, None if value is None else [value]
                )
            except optuna.exceptions.UpdateFinishedTrialError:
                if not retrying:
                    raise

        self._retry(close)

    def set_best_metrics(self, metrics: dict[str, Any]) -> None:
        """Store what the best configuration came to on all of validation."""
        self._retry(lambda retrying: self._study.set_user_attr(_BEST_METRICS_ATTR, json.dumps(metrics)))

    def _retry(self, operation: Callable[[bool], T]) -> T:
        """Write, again and again while the storage is away; `operation` hears whether an earlier attempt may have worked.

        Raises OSError when the disk is full, UserError when the storage stays away or another driver took the study.
        """
        first_failure = None
        while True:
            try:
                self.lock.check()
                return operation(first_failure is not None)
            except _CONNECTION_ERRORS as error:
                if "disk is full" in f"{error} {error.__cause__}":
                    raise OSError(errno.ENOSPC, "No space left on device", display_url(self.url)) from None
                last_error: Exception = error
            if first_failure is None:
                first_failure = time.monotonic()
                self._say(
                    f"warning: the storage {display_url(self.url)} does not answer; training goes on, trying again."
                )
            if time.monotonic() - first_failure > self.retry_seconds:
                raise NephrosError(
                    f"The storage {display_url(self.url)} has not answered for {self.retry_seconds:.0f} seconds: mend it, then "
                    f"`nephros tune --resume {self.name}`, which goes on after the last whole epochs."
                ) from last_error
            time.sleep(min(5.0, self.retry_seconds / 20))


def _config(trial: FrozenTrial, params: dict[str, Any]) -> Config:
    attrs = trial.user_attrs
    return Config(
        bracket=attrs["bracket"],
        index=attrs["index"],
        number=trial.number,
        params=params,
        values=dict(sorted(trial.intermediate_values.items())),
        state=_STATE_NAMES[trial.state],
        error=attrs.get("error"),
        early_stopped=attrs.get("early_stopped", False),
        seconds=attrs.get("seconds", 0.0),
    )
