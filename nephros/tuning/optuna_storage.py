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

from nephros.errors import UserError
from nephros.tuning.sample import Drawn, direction, plain
from nephros.tuning.settings import Settings
from nephros.tuning.space import parse
from nephros.tuning.study_lock import PATIENCE, Lease
from nephros.tuning.study_state import Config, Key, Records, State

T = TypeVar("T")
_SETTINGS, _JUDGED = "nephros:settings", "nephros:judged"
_STATES: dict[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.PRUNED: "pruned",
    TrialState.COMPLETE: "complete",
    TrialState.FAIL: "failed",
}
_TROUBLE = (OperationalError, InterfaceError, optuna.exceptions.StorageInternalError)


def address(storage: str) -> URL:
    """Return the URL of an SQLite file or a database; UserError when it is neither SQLite nor PostgreSQL."""
    if "://" not in storage:
        return URL.create("sqlite", database=str(Path(storage).expanduser().absolute()))
    try:
        url = sqlalchemy.make_url(storage)
    except sqlalchemy.exc.ArgumentError:
        raise UserError(
            f"--storage {storage} is not a URL: write it as postgresql://USER:PASSWORD@HOST/DATABASE."
        ) from None
    if url.get_backend_name() == "sqlite" and url.database:
        return address(url.database)
    if url.get_backend_name() != "postgresql" or not url.database:
        raise UserError(
            f"--storage {shown(url)} can't be used: name an SQLite file or postgresql://USER:PASSWORD@HOST/DATABASE."
        )
    # The driver that comes with nephros[tune]; SQLAlchemy's own choice has changed between its versions.
    return url.set(drivername="postgresql+psycopg2") if url.drivername == "postgresql" else url


def shown(url: URL) -> str:
    """Return a URL without its password, or an SQLite file's path."""
    return str(url.database) if url.get_backend_name() == "sqlite" else bare(url)


def bare(url: URL) -> str:
    """Return a URL without its password, to be written down."""
    return url._replace(password=None).difference_update_query(["password", "sslpassword"]).render_as_string()


def _sqlite(file: str) -> sqlite3.Connection:
    """Connect to a file so that a write waits for no disk: only a power failure can lose the last ones.

    Those are made again from the checkpoints; nothing can leave the file damaged.
    """
    connection = sqlite3.connect(file, timeout=60, check_same_thread=False)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=normal")
    return connection


class Storage:
    """The place of one study."""

    patience = 600.0
    """Seconds for which a storage that stopped answering is tried again, while training goes on."""

    def __init__(self, url: URL, name: str, say: Callable[[str], None] = print) -> None:
        """Connect; UserError at once when the storage does not answer."""
        self.url, self.name, self._say = url, name, say
        self.lease = Lease(url, name)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sqlite = url.get_backend_name() == "sqlite"
        if sqlite:
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        options: dict[str, Any] = (
            {"creator": partial(_sqlite, str(url.database))}
            if sqlite
            else {
                "pool_pre_ping": True,
                "connect_args": PATIENCE,
            }
        )
        tables = Lease(url, "-tables-")  # two processes that make the tables at once would crash
        try:
            self._wait(tables)
            try:
                self._optuna = optuna.storages.RDBStorage(url.render_as_string(False), engine_kwargs=options)
            finally:
                tables.release()
        except (*_TROUBLE, ImportError) as error:
            reason = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()[0]
            mend = "name a file that can be written" if sqlite else "start its server, or mend the address or password"
            raise UserError(f"--storage {shown(url)} does not answer ({reason}): {mend}.") from None
        self._ids: dict[Key, int] = {}

    def _wait(self, lease: Lease) -> None:
        until = time.monotonic() + 60
        while True:
            try:
                return lease.take()
            except UserError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    @property
    def exists(self) -> bool:
        """Whether the study is there."""
        return any(study.study_name == self.name for study in self._optuna.get_all_studies())

    @property
    def begun(self) -> bool:
        """Whether the study is there and knows its settings."""
        return self._keep(lambda again: self.exists and _SETTINGS in self._study.user_attrs)

    def there_already(self) -> UserError:
        """Return what to say to someone who would start a study that exists."""
        return UserError(
            f"There is a study {self.name} in {shown(self.url)} already: go on with it by "
            f"`nephros tune --resume {self.name}`, or give another --name."
        )

    def ensure(self, settings: Settings) -> None:
        """Make the study if need be; UserError when there is one of its name with other settings."""
        self._keep(lambda again: self._ensure(settings))

    def _ensure(self, settings: Settings) -> None:
        if not self.exists:
            optuna.create_study(storage=self._optuna, study_name=self.name, direction=direction(settings))
        stored = self._study.user_attrs.get(_SETTINGS)
        if stored is None and not self._study.get_trials(deepcopy=False):
            self._study.set_user_attr(_SETTINGS, settings.to_dict())
        elif stored != json.loads(json.dumps(settings.to_dict())):
            raise UserError(
                f"The study {self.name} in {shown(self.url)} was made with other settings (space, data or version) than "
                "its folder says: start a new one with another --name."
            )

    def settings(self) -> Settings:
        """Return the settings that the study was made with; UserError when it is missing or was not made by nephros."""
        stored: Any = self._study.user_attrs.get(_SETTINGS) if self.exists else None
        if stored is None:
            raise UserError(f"There is no study {self.name} in {shown(self.url)}: name one that `nephros tune` made.")
        try:
            return Settings(**stored)
        except TypeError:
            raise UserError(
                f"The study {self.name} was made by another version of nephros: start a new one with another --name."
            ) from None

    @property
    def _study(self) -> optuna.Study:
        return optuna.load_study(study_name=self.name, storage=self._optuna)

    def trials(self) -> list[FrozenTrial]:
        """Return our trials in the order of their brackets and indices, whatever the order they were made in."""
        return self._keep(lambda again: self._read_trials())

    def _read_trials(self) -> list[FrozenTrial]:
        found: dict[Key, FrozenTrial] = {}
        for trial in sorted(self._study.get_trials(deepcopy=False), key=lambda trial: trial.number):
            key = trial.user_attrs.get("bracket"), trial.user_attrs.get("index")
            if trial.state in _STATES and isinstance(key[0], int) and isinstance(key[1], int):
                found.setdefault((key[0], key[1]), trial)
                self._ids.setdefault((key[0], key[1]), trial._trial_id)
        return [found[key] for key in sorted(found, key=lambda key: (-key[0], key[1]))]

    def records(self) -> Records:
        """Return the study as it stands."""
        settings = self._keep(lambda again: self.settings())
        space = parse(settings.space, settings.base, f"The space of study {self.name}")
        configs = [_config(trial, plain(trial.params, space)) for trial in self.trials()]
        judged = self._keep(lambda again: self._study.user_attrs.get(_JUDGED))
        return Records(settings, {config.key: config for config in configs}, json.loads(judged) if judged else None)

    def add(self, key: Key, drawn: Drawn) -> None:
        """Make a configuration's trial, whole or not at all."""
        params, distributions = drawn
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=distributions,
            user_attrs={"bracket": key[0], "index": key[1]},
        )

        def make(again: bool) -> None:
            if again:
                self._read_trials()  # the first attempt may have come through, though its answer did not
            if key not in self._ids:
                self._ids[key] = self._optuna.create_new_trial(self._optuna.get_study_id_from_name(self.name), trial)

        self._keep(make)

    def report(self, key: Key, epoch: int, value: float) -> None:
        """Store the metric of a configuration after an epoch."""
        self._keep(lambda again: self._optuna.set_trial_intermediate_value(self._ids[key], epoch, value))

    def note(self, key: Key, name: str, value: Any) -> None:
        """Store what a rung took (seconds), or that the configuration has ended early."""
        self._keep(lambda again: self._optuna.set_trial_user_attr(self._ids[key], name, value))

    def finish(self, key: Key, state: State, value: float | None, error: str | None = None) -> None:
        """Close a configuration's trial for good."""
        if error is not None:
            self.note(key, "error", error)
        wanted = next(theirs for theirs, ours in _STATES.items() if ours == state)

        def close(again: bool) -> None:
            try:
                self._optuna.set_trial_state_values(self._ids[key], wanted, None if value is None else [value])
            except optuna.exceptions.UpdateFinishedTrialError:
                if not again:
                    raise

        self._keep(close)

    def judge(self, metrics: dict[str, Any]) -> None:
        """Store what the best configuration came to on all of validation."""
        self._keep(lambda again: self._study.set_user_attr(_JUDGED, json.dumps(metrics)))

    def _keep(self, write: Callable[[bool], T]) -> T:
        """Write, again and again while the storage is away; `write` hears whether an earlier attempt may have worked.

        Raises OSError when the disk is full, UserError when the storage stays away or another driver took the study.
        """
        since = None
        while True:
            try:
                self.lease.check()
                return write(since is not None)
            except _TROUBLE as error:
                if "disk is full" in f"{error} {error.__cause__}":
                    raise OSError(errno.ENOSPC, "No space left on device", shown(self.url)) from None
                trouble: Exception = error
            if since is None:
                since = time.monotonic()
                self._say(f"warning: the storage {shown(self.url)} does not answer; training goes on, trying again.")
            if time.monotonic() - since > self.patience:
                raise UserError(
                    f"The storage {shown(self.url)} has not answered for {self.patience:.0f} seconds: mend it, then "
                    f"`nephros tune --resume {self.name}`, which goes on after the last whole epochs."
                ) from trouble
            time.sleep(min(5.0, self.patience / 20))


def _config(trial: FrozenTrial, params: dict[str, Any]) -> Config:
    notes = trial.user_attrs
    return Config(
        bracket=notes["bracket"],
        index=notes["index"],
        number=trial.number,
        params=params,
        values=dict(sorted(trial.intermediate_values.items())),
        state=_STATES[trial.state],
        error=notes.get("error"),
        ended=notes.get("ended", False),
        seconds=notes.get("seconds", 0.0),
    )
