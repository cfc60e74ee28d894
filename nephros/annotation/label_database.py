"""The SQLite file of a project's labels: its tables, its checks, and its failures as plain sentences."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from nephros.errors import FileError, LockedError
from nephros.reading import MalformedContent, check_is_file, file_errors

SCHEMA_VERSION = 2
LOCK_TIMEOUT_S = 20
"""Seconds for which a change waits for that of another process."""
EFFECTIVE_CHANGES = """(
    select * from changes as change where undoes is null
    and not exists (select 1 from changes as undo where undo.cell = change.cell and undo.undoes = change.seq)
)"""
"""The changes that count: neither undone, nor such that undo one, whose seq they have in the column undoes."""
_HEADER = b"SQLite format 3\0"
_TABLES = {"classes", "changes", "class_edits"}
_SCHEMA = f"""
create table classes (id integer primary key, name text not null, color text not null, merged_into integer references classes);
create table class_edits (
    seq integer primary key autoincrement, class_id integer not null, name text not null, color text not null,
    merged_into integer, time text not null
);
create table changes (
    seq integer primary key autoincrement, cell integer not null, class_id integer references classes,
    annotator text not null, time text not null, undoes integer
);
create index changes_by_cell on changes (cell, seq);
pragma user_version = {SCHEMA_VERSION};
"""


def create_database(path: Path) -> None:
    """Write an empty file of labels, which must not exist."""
    with translate_errors(path), contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.executescript(f"begin; {_SCHEMA} commit;")


def connect(path: Path) -> sqlite3.Connection:
    """Open a file of labels such that a commit returns only when it is on disk.

    Raises:
        FileError: the file is missing, damaged, of another program, or of a newer version of nephros.
        LockedError: another program keeps it locked.
    """
    with file_errors(path, "restore it from a copy of the project", name=f"The file of labels {path}"):
        check_is_file(path)
        with open(path, "rb") as file:
            if file.read(len(_HEADER)) != _HEADER:
                raise MalformedContent("it is not an SQLite database")
        connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT_S, check_same_thread=False, isolation_level=None)
        try:
            with _locked_errors(path):
                _prepare(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Check the file, and make commits durable."""
    if connection.execute("pragma quick_check(1)").fetchone()[0] != "ok":
        raise MalformedContent("it is damaged")
    version = connection.execute("pragma user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise MalformedContent(f"it was written by a newer version of nephros, in format {version}")
    tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    if not tables >= _TABLES:
        raise MalformedContent("it has no labels: it belongs to another program")
    connection.execute("pragma journal_mode = wal")  # stays as it is on file systems that have no shared memory
    connection.execute("pragma synchronous = full")
    if version < SCHEMA_VERSION:
        _update_schema(connection)


def _update_schema(connection: sqlite3.Connection) -> None:
    connection.execute("begin immediate")
    if connection.execute("pragma user_version").fetchone()[0] < SCHEMA_VERSION:  # no other process was faster
        connection.execute("alter table changes add column undoes integer")
        connection.execute(f"pragma user_version = {SCHEMA_VERSION}")
    connection.execute("commit")


@contextlib.contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into plain sentences.

    Raises:
        FileError: the file can't be read or written; nothing of the transaction is kept.
        LockedError: another program keeps it locked.
    """
    try:
        with _locked_errors(path):
            yield
    except sqlite3.Error as error:
        text = str(error)
        if "full" in text:
            raise FileError(path, f"Labels can't be saved to {path}: the disk is full; free some space.") from error
        if "readonly" in text or "unable to open" in text:
            raise FileError(
                path, f"Labels can't be saved to {path}: it can't be written; check its permissions and its folder's."
            ) from error
        raise FileError(
            path, f"The file of labels {path} can't be used ({text}); restore it from a copy of the project."
        ) from error


@contextlib.contextmanager
def _locked_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise LockedError(f"Another program keeps {path} locked: wait for it, or stop it.") from error
        raise
