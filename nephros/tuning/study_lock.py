"""One driver a study: a lock that dies with its holder, beside an SQLite file or in a PostgreSQL server."""

from __future__ import annotations

import contextlib
from pathlib import Path

import sqlalchemy
from sqlalchemy import URL, Connection

from nephros.errors import UserError
from nephros.files import locked
from nephros.training.parts import seed_for

PATIENCE = {"connect_timeout": 10, "keepalives_idle": 30, "tcp_user_timeout": 30_000}
"""Of a PostgreSQL connection: seconds, seconds and milliseconds after which a silent server counts as gone."""


class Lease:
    """The right to write to a study."""

    def __init__(self, url: URL, study: str) -> None:
        self._url, self._study = url, study
        self._stack = contextlib.ExitStack()
        self._connection: Connection | None = None
        self._taken = False

    def take(self) -> None:
        """Take the right, and keep it until `release` or the end of this process; UserError when another has it."""
        if self._url.get_backend_name() == "sqlite":
            database = Path(str(self._url.database))
            try:
                self._stack.enter_context(
                    locked(database.with_name(f".{database.name}.{self._study}.lock"), wait=False)
                )
            except BlockingIOError:
                raise self._refusal() from None
        else:
            self._connect()
        self._taken = True

    def _connect(self) -> None:
        engine = sqlalchemy.create_engine(self._url, poolclass=sqlalchemy.NullPool, connect_args=PATIENCE)
        connection = self._stack.enter_context(engine.connect().execution_options(isolation_level="AUTOCOMMIT"))
        key = seed_for(0, "nephros study", self._study)
        if not connection.scalar(sqlalchemy.text("select pg_try_advisory_lock(:key)"), {"key": key}):
            self._drop()
            raise self._refusal()
        self._connection = connection

    def check(self) -> None:
        """Raise an error of the database's when the server went away, and the right with it; take it again if it is back.

        UserError when another driver was faster. Nothing happens where the right was never taken, as for a reader.
        """
        if not self._taken or self._url.get_backend_name() == "sqlite":
            return
        try:
            if self._connection is None:
                self._connect()
            else:
                self._connection.execute(sqlalchemy.text("select 1"))
        except sqlalchemy.exc.DBAPIError:
            self._drop()
            raise

    def release(self) -> None:
        """Give the right back."""
        self._taken = False
        self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError):
                connection.invalidate()
        self._stack.close()
        self._stack = contextlib.ExitStack()

    def _refusal(self) -> UserError:
        return UserError(
            f"Another process is running the study {self._study}: wait for it or stop it; "
            f"`nephros tune --show {self._study}` shows how far it is."
        )
