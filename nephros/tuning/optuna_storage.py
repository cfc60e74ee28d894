"""A study in Optuna's storage, one trial per configuration, so that Optuna's dashboard and plots can open it.

The step of an intermediate value is the number of epochs trained. A configuration that isn't promoted is PRUNED, one that
reaches its bracket's end COMPLETE, a failed one FAIL. Only the driver writes.
"""

from __future__ import annotations

import errno
import json
import logging
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

from nephros.errors import FileError, IncompatibleError, InvalidArgument, LockedError, NephrosError
from nephros.evaluation.metrics import Metrics
from nephros.tuning.sample import SampledParams, decode_params, optuna_direction
from nephros.tuning.settings import StudySettings
from nephros.tuning.space import parse_space
from nephros.tuning.study_lock import CONNECT_ARGS, StudyLock
from nephros.tuning.study_state import Config, ConfigKey, StudyState, TrialStateName

logger = logging.getLogger(__name__)
T = TypeVar("T")
_SETTINGS_ATTR, _BEST_METRICS_ATTR = "nephros:settings", "nephros:best_metrics"
_STATE_NAMES: dict[TrialState, TrialStateName] = {
    TrialState.RUNNING: "running",
    TrialState.PRUNED: "pruned",
    TrialState.COMPLETE: "complete",
    TrialState.FAIL: "failed",
}
_EXPECTED_STORAGE = "an SQLite file or a URL such as postgresql://USER:PASSWORD@HOST/DATABASE"
_CONNECTION_ERRORS = (OperationalError, InterfaceError, optuna.exceptions.StorageInternalError)


def storage_url(storage: str) -> URL:
    """Return the URL of an SQLite file or a PostgreSQL database; InvalidArgument when `storage` is neither."""
    if "://" not in storage:
        return URL.create("sqlite", database=str(Path(storage).expanduser().absolute()))
    try:
        url = sqlalchemy.make_url(storage)
    except sqlalchemy.exc.ArgumentError:
        raise InvalidArgument("storage", storage, _EXPECTED_STORAGE) from None
    if url.get_backend_name() == "sqlite" and url.database:
        return storage_url(url.database)
    if url.get_backend_name() != "postgresql" or not url.database:
        raise InvalidArgument("storage", display_url(url), _EXPECTED_STORAGE)
    # The driver that nephros[tune] installs; SQLAlchemy's default has changed between its versions.
    return url.set(drivername="postgresql+psycopg2") if url.drivername == "postgresql" else url


def display_url(url: URL) -> str:
    """Return a URL without its password, or an SQLite file's path."""
    return str(url.database) if url.get_backend_name() == "sqlite" else url_without_password(url)


def url_without_password(url: URL) -> str:
    """Return a URL without its password, which must not be stored."""
    return url._replace(password=None).difference_update_query(["password", "sslpassword"]).render_as_string()


def _connect_sqlite(file: str) -> sqlite3.Connection:
    """Connect to a file so that writes don't wait for the disk.

    Only a power failure can lose the last writes, which are then recovered from the checkpoints; the file stays intact.
    """
    connection = sqlite3.connect(file, timeout=60, check_same_thread=False)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=normal")
    return connection


class StudyStorage:
    """One study in a database."""

    retry_seconds = 600.0
    """Seconds during which writes to an unreachable storage are retried, while training continues."""

    def __init__(self, url: URL, name: str) -> None:
        """Connect; InvalidArgument at once when the storage can't be reached."""
        self.url, self.name = url, name
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
        tables_lock = StudyLock(url, "-tables-")  # two processes that create the tables at once would crash
        try:
            self._acquire_with_retry(tables_lock)
            try:
                self._optuna = optuna.storages.RDBStorage(url.render_as_string(False), engine_kwargs=engine_kwargs)
            finally:
                tables_lock.release()
        except (*_CONNECTION_ERRORS, ImportError) as error:
            reason = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()[0]
            expected = (
                "a writable SQLite file" if sqlite else "a reachable database: check server, address and password"
            )
            raise InvalidArgument("storage", display_url(url), expected, hint=f"Opening it failed: {reason}.") from None
        self._trial_ids: dict[ConfigKey, int] = {}

    def _acquire_with_retry(self, lock: StudyLock) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                return lock.acquire()
            except LockedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    @property
    def exists(self) -> bool:
        """Whether the database holds a study of this name."""
        return any(study.study_name == self.name for study in self._optuna.get_all_studies())

    @property
    def initialized(self) -> bool:
        """Whether the study exists with its settings."""
        return self._retry(lambda retrying: self.exists and _SETTINGS_ATTR in self._study.user_attrs)

    def check_is_new(self) -> None:
        """Raise InvalidArgument when the database holds a study of this name already."""
        if self.exists:
            hint = f"`nephros.resume_study({self.name!r})` continues that study."
            expected = f"a new name: there is a study {self.name} in {display_url(self.url)}"
            raise InvalidArgument("name", self.name, expected, hint=hint)

    def create_or_verify(self, settings: StudySettings) -> None:
        """Create the study unless it exists; IncompatibleError when it exists with other settings."""
        self._retry(lambda retrying: self._create_or_verify(settings))

    def _create_or_verify(self, settings: StudySettings) -> None:
        if not self.exists:
            optuna.create_study(storage=self._optuna, study_name=self.name, direction=optuna_direction(settings))
        stored = self._study.user_attrs.get(_SETTINGS_ATTR)
        if stored is None and not self._study.get_trials(deepcopy=False):
            self._study.set_user_attr(_SETTINGS_ATTR, settings.to_dict())
        elif stored != json.loads(json.dumps(settings.to_dict())):
            raise IncompatibleError(
                f"The study {self.name} in {display_url(self.url)} has other settings (space, data or version) than its folder: "
                "start a new study under another `name`."
            )

    def load_settings(self) -> StudySettings:
        """Return the study's settings; FileError when the study is missing or wasn't created by this version of nephros."""
        stored: Any = self._study.user_attrs.get(_SETTINGS_ATTR) if self.exists else None
        if stored is None:
            message = f"There is no nephros study {self.name} in {display_url(self.url)}: check `storage`."
            raise FileError(display_url(self.url), message)
        try:
            return StudySettings(**stored)
        except TypeError:
            message = f"The study {self.name} was created by another version of nephros: start a new study under another `name`."
            raise FileError(display_url(self.url), message) from None

    @property
    def _study(self) -> optuna.Study:
        return optuna.load_study(study_name=self.name, storage=self._optuna)

    def trials(self) -> list[FrozenTrial]:
        """Return nephros's own trials, ordered by bracket and index."""
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
        """Return the study's state as it is stored."""
        settings = self._retry(lambda retrying: self.load_settings())
        space = parse_space(settings.space, settings.base_recipe, f"The space of study {self.name}")
        configs = [_config(trial, decode_params(trial.params, space)) for trial in self.trials()]
        stored_metrics = self._retry(lambda retrying: self._study.user_attrs.get(_BEST_METRICS_ATTR))
        best_metrics = Metrics.from_dict(json.loads(stored_metrics)) if stored_metrics else None
        return StudyState(settings, {config.key: config for config in configs}, best_metrics)

    def add_trial(self, key: ConfigKey, sampled: SampledParams) -> None:
        """Create a configuration's trial atomically."""
        params, distributions = sampled
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=distributions,
            user_attrs={"bracket": key[0], "index": key[1]},
        )

        def create(retrying: bool) -> None:
            if retrying:
                self._read_trials()  # the first attempt may have succeeded although its reply was lost
            if key not in self._trial_ids:
                self._trial_ids[key] = self._optuna.create_new_trial(
                    self._optuna.get_study_id_from_name(self.name), trial
                )

        self._retry(create)

    def report(self, key: ConfigKey, epoch: int, value: float) -> None:
        """Store a configuration's metric after an epoch."""
        self._retry(lambda retrying: self._optuna.set_trial_intermediate_value(self._trial_ids[key], epoch, value))

    def set_attr(self, key: ConfigKey, name: str, value: Any) -> None:
        """Store an attribute of a trial: ``seconds`` of training, ``early_stopped`` or ``error``."""
        self._retry(lambda retrying: self._optuna.set_trial_user_attr(self._trial_ids[key], name, value))

    def finish_trial(
        self, key: ConfigKey, state: TrialStateName, value: float | None, error: str | None = None
    ) -> None:
        """Set the final state of a configuration's trial."""
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

    def set_best_metrics(self, metrics: Metrics) -> None:
        """Store the best configuration's metrics on the whole validation split."""
        text = json.dumps(metrics.to_dict())
        self._retry(lambda retrying: self._study.set_user_attr(_BEST_METRICS_ATTR, text))

    def _retry(self, operation: Callable[[bool], T]) -> T:
        """Run `operation(retrying)`, retrying while the storage is unreachable; an earlier attempt may have succeeded unseen.

        Raises OSError when the disk is full, LockedError when another driver took the study, and NephrosError when the
        storage stays unreachable for `retry_seconds`.
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
                logger.warning(
                    "The storage %s can't be reached; training continues while it is retried.", display_url(self.url)
                )
            if time.monotonic() - first_failure > self.retry_seconds:
                raise NephrosError(
                    f"The storage {display_url(self.url)} can't be reached for {self.retry_seconds:.0f} seconds: repair it, then "
                    f"`nephros.resume_study({self.name!r})` continues after the last complete epochs."
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
