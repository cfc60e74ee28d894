"""A study in Optuna's storage, one trial per configuration, so that Optuna's dashboard and plots can open it.

The step of an intermediate value is the number of epochs trained. A configuration that isn't promoted is PRUNED, one that
reaches its bracket's end COMPLETE, a failed one FAIL. Only the driver writes, in the background (`WriteBehindQueue`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from nephros.errors import FileError, IncompatibleError, InvalidArgument, LockedError, NephrosError
from nephros.evaluation.metrics import Metrics
from nephros.reading import MalformedContent, decode, describe_failure, file_errors, parse_json
from nephros.tuning.database import CONNECT_ARGS, StudyLock, check_sqlite, connect_sqlite, display_url
from nephros.tuning.sample import SampledParams, decode_params, optuna_direction
from nephros.tuning.settings import StudySettings
from nephros.tuning.space import Dimension, parse_space
from nephros.tuning.study_state import Config, ConfigKey, StudyState, TrialStateName, check_config

logger = logging.getLogger(__name__)
T = TypeVar("T")
_SETTINGS_ATTR, _BEST_METRICS_ATTR = "nephros:settings", "nephros:best_metrics"
_STATE_NAMES: dict[TrialState, TrialStateName] = {
    TrialState.RUNNING: "running",
    TrialState.PRUNED: "pruned",
    TrialState.COMPLETE: "complete",
    TrialState.FAIL: "failed",
}
_SIGNS_OF_DAMAGE = ("malformed", "not a database", "no such table", "no such column", "readonly database")
"""Parts of SQLite's messages about what no waiting mends."""
_NEW_STUDY = "start a new study under another `name`"
_CONNECTION_ERRORS = (OperationalError, InterfaceError, optuna.exceptions.StorageInternalError)


class StudyStorage:
    """One study in a database."""

    retry_seconds = 600.0
    """Seconds during which writes to an unreachable storage are retried, while training continues."""

    def __init__(self, url: URL, name: str) -> None:
        """Connect; InvalidArgument at once when the storage can't be reached, FileError when it is not a database for studies."""
        self.url, self.name = url, name
        self.lock = StudyLock(url, name)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sqlite = url.get_backend_name() == "sqlite"
        if sqlite:
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
            check_sqlite(Path(str(url.database)))
        engine_kwargs: dict[str, Any] = (
            {"creator": partial(connect_sqlite, str(url.database))}
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
        except RuntimeError as error:  # Optuna's, for tables of another version
            raise IncompatibleError(
                f"The database {display_url(url)} was written by another version of Optuna than {optuna.__version__}: install "
                "that version, run `optuna storage upgrade` on a copy, or start a new study."
            ) from error
        except Exception as error:
            if isinstance(error, NephrosError | OSError):
                raise
            raise self._damaged(error) from error
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

    def _damaged(self, error: Exception) -> FileError:
        return FileError(
            display_url(self.url),
            f"The study {self.name} in {display_url(self.url)} can't be read ({describe_failure(error)}): restore the "
            "database, or start a new study under another `name`.",
        )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn whatever stored values make Optuna, or the code in the block, raise into a FileError."""
        try:
            yield
        except (*_CONNECTION_ERRORS, NephrosError, OSError):
            raise
        except Exception as error:
            raise self._damaged(error) from error

    @property
    def study_names(self) -> list[str]:
        """Names of all studies in the database."""
        with self._reading():
            return [study.study_name for study in self._optuna.get_all_studies()]

    @property
    def exists(self) -> bool:
        """Whether the database holds a study of this name."""
        return self.name in self.study_names

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
        with file_errors(display_url(self.url), _NEW_STUDY, name=f"The study {self.name} in {display_url(self.url)}"):
            return decode(StudySettings, stored)

    @property
    def _study(self) -> optuna.Study:
        return optuna.load_study(study_name=self.name, storage=self._optuna)

    def trials(self) -> list[FrozenTrial]:
        """Return nephros's own trials, ordered by bracket and index."""
        return self._retry(lambda retrying: self._read_trials())

    def _read_trials(self) -> list[FrozenTrial]:
        trials_by_key: dict[ConfigKey, FrozenTrial] = {}
        with self._reading():
            trials = self._study.get_trials(deepcopy=False)
        for trial in sorted(trials, key=lambda trial: trial.number):
            if trial.state not in _STATE_NAMES or not {"bracket", "index"} & set(trial.user_attrs):
                continue  # another program's
            key = trial.user_attrs.get("bracket"), trial.user_attrs.get("index")
            if type(key[0]) is not int or type(key[1]) is not int:
                raise self._damaged(MalformedContent(f"trial {trial.number} has no bracket or index"))
            trials_by_key.setdefault((key[0], key[1]), trial)
            self._trial_ids.setdefault((key[0], key[1]), trial._trial_id)
        return [trials_by_key[key] for key in sorted(trials_by_key, key=lambda key: (-key[0], key[1]))]

    def load_state(self) -> StudyState:
        """Return the study's state as it is stored."""
        settings = self._retry(lambda retrying: self.load_settings())
        space = parse_space(settings.space, settings.base_recipe, f"The space of study {self.name}")
        trials = self.trials()
        stored_metrics = self._retry(lambda retrying: self._study.user_attrs.get(_BEST_METRICS_ATTR))
        with self._reading():
            configs = [_config(trial, space) for trial in trials]
            for config in configs:
                check_config(config, settings, space)
            best_metrics = Metrics.from_dict(parse_json(stored_metrics)) if stored_metrics else None
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
                text = f"{error} {error.__cause__}"
                if any(sign in text for sign in _SIGNS_OF_DAMAGE):
                    raise self._damaged(error) from error
                if "disk is full" in text:
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


def _config(trial: FrozenTrial, space: tuple[Dimension, ...]) -> Config:
    attrs = trial.user_attrs
    values = {
        "bracket": attrs["bracket"],
        "index": attrs["index"],
        "number": trial.number,
        "state": _STATE_NAMES[trial.state],
        "error": attrs.get("error"),
        "early_stopped": attrs.get("early_stopped", False),
        "seconds": attrs.get("seconds", 0.0),
    }
    config = decode(Config, {**values, "params": decode_params(trial.params, space)}, f"trial {trial.number}")
    return dataclasses.replace(config, values=dict(sorted(trial.intermediate_values.items())))


class WriteBehindQueue:
    """Writes to the storage and removals of checkpoints, in order, by one background thread, so that no worker waits for a disk.

    The storage always holds a prefix of what was decided. A crash loses the rest, but the checkpoints, which are removed in
    the same order, still hold it.
    """

    def __init__(self) -> None:
        self._writes: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._drain, daemon=True)
        self._thread.start()

    def put(self, write: Callable[[], None]) -> None:
        """Queue a write after all earlier ones; raises what an earlier write raised."""
        self.raise_pending()
        self._writes.put(write)

    def raise_pending(self) -> None:
        """Raise the error of the first write that failed, if any."""
        if self._error is not None:
            raise self._error

    def close(self, *, drain: bool) -> None:
        """End the thread: with `drain` after all writes, raising what one of them raised; else after the current write."""
        if not drain:
            self._error = self._error or InterruptedError()
        self._writes.put(None)
        if drain:
            self._thread.join()
            self.raise_pending()
        else:
            self._thread.join(timeout=5)

    def _drain(self) -> None:
        while (write := self._writes.get()) is not None:
            if self._error is None:
                try:
                    write()
                except Exception as error:
                    self._error = error
