"""The database of a study, an SQLite file or one in a PostgreSQL server: its address, its check, and the lock of its driver."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import sqlalchemy
from sqlalchemy import URL, Connection

from nephros.errors import InvalidArgument, LockedError
from nephros.files import file_lock
from nephros.reading import MalformedContent, check_is_file, file_errors
from nephros.training.seeding import derive_seed

_EXPECTED_STORAGE = "an SQLite file or a URL such as postgresql://USER:PASSWORD@HOST/DATABASE"
CONNECT_ARGS = {"connect_timeout": 10, "keepalives_idle": 30, "tcp_user_timeout": 30_000}
"""Timeouts of a PostgreSQL connection, after which a silent server counts as gone: seconds, seconds, milliseconds."""
LOCK_TIMEOUT_S = 20
"""Seconds to wait for another program's lock on an SQLite file when a study is opened."""
_SQLITE_HEADER = b"SQLite format 3\0"
_OPTUNA_TABLES = {"studies", "trials", "trial_params", "trial_intermediate_values", "version_info"}


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


def connect_sqlite(file: str) -> sqlite3.Connection:
    """Connect to a file so that writes don't wait for the disk.

    Only a power failure can lose the last writes, which are then recovered from the checkpoints; the file stays intact.
    """
    connection = sqlite3.connect(file, timeout=60, check_same_thread=False)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=normal")
    return connection


def check_sqlite(file: Path) -> None:
    """Raise FileError unless a file is absent, empty, or an intact SQLite database without other tables than Optuna's.

    Optuna would add its tables to those of any other program, and find out about damage only in the middle of a study.
    """
    if not file.exists():
        return
    with file_errors(file, "restore it, or name another file as `storage`", name=f"The database {file}"):
        check_is_file(file)
        with open(file, "rb") as opened:
            header = opened.read(len(_SQLITE_HEADER))
        if header not in (b"", _SQLITE_HEADER):
            raise MalformedContent("it is not an SQLite database")
        with contextlib.closing(sqlite3.connect(file, timeout=LOCK_TIMEOUT_S)) as connection:
            try:
                damage = connection.execute("pragma quick_check(1)").fetchone()[0]
                tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
            except sqlite3.OperationalError as error:
                if "locked" in str(error):
                    raise LockedError(f"Another program keeps {file} locked: wait for it, or stop it.") from None
                raise
        if damage != "ok":
            raise MalformedContent("it is damaged")
        if tables and not tables >= _OPTUNA_TABLES:
            raise MalformedContent(f"it belongs to another program, with tables such as {min(tables - _OPTUNA_TABLES)}")


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
