"""One driver per study: a lock that its holder's death releases, beside an SQLite file or in a PostgreSQL server."""

from __future__ import annotations

import contextlib
from pathlib import Path

import sqlalchemy
from sqlalchemy import URL, Connection

from nephros.errors import LockedError
from nephros.files import file_lock
from nephros.training.seeding import derive_seed

CONNECT_ARGS = {"connect_timeout": 10, "keepalives_idle": 30, "tcp_user_timeout": 30_000}
"""Timeouts of a PostgreSQL connection, after which a silent server counts as gone: seconds, seconds, milliseconds."""


class StudyLock:
    """The exclusive right to write to a study."""

    def __init__(self, url: URL, study: str) -> None:
        self._url, self._study = url, study
        self._stack = contextlib.ExitStack()
        self._connection: Connection | None = None
        self._acquired = False

    def acquire(self) -> None:
        """Take the lock until `release` or the end of this process; LockedError when another process holds it."""
        if self._url.get_backend_name() == "sqlite":
            database = Path(str(self._url.database))
            try:
                self._stack.enter_context(
                    file_lock(database.with_name(f".{database.name}.{self._study}.lock"), wait=False)
                )
            except BlockingIOError:
                raise self._locked_error() from None
        else:
            self._connect()
        self._acquired = True

    def _connect(self) -> None:
        engine = sqlalchemy.create_engine(self._url, poolclass=sqlalchemy.NullPool, connect_args=CONNECT_ARGS)
        connection = self._stack.enter_context(engine.connect().execution_options(isolation_level="AUTOCOMMIT"))
        key = derive_seed(0, "nephros study", self._study)
        if not connection.scalar(sqlalchemy.text("select pg_try_advisory_lock(:key)"), {"key": key}):
            self._disconnect()
            raise self._locked_error()
        self._connection = connection

    def check(self) -> None:
        """Raise the database's error when the server, and the lock with it, is gone; take the lock again once it is back.

        Raises LockedError when another driver was faster. Does nothing if the lock was never taken, as by a reader.
        """
        if not self._acquired or self._url.get_backend_name() == "sqlite":
            return
        try:
            if self._connection is None:
                self._connect()
            else:
                self._connection.execute(sqlalchemy.text("select 1"))
        except sqlalchemy.exc.DBAPIError:
            self._disconnect()
            raise

    def release(self) -> None:
        """Release the lock."""
        self._acquired = False
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
                connection.invalidate()
        self._stack.close()
        self._stack = contextlib.ExitStack()

    def _locked_error(self) -> LockedError:
        return LockedError(
            f"Another process is running the study {self._study}: wait for it or stop it; "
            f"`nephros.show_study({self._study!r})` shows its progress."
        )
