"""The labels of a project in an SQLite file: every change is kept, and on disk before anyone is told that it is saved."""

from __future__ import annotations

import contextlib
import datetime
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.classes import (
    MAX_CLASSES,
    LabelClass,
    check_color,
    check_distinct,
    check_name,
    next_color,
)
from nephros.annotation.label_database import EFFECTIVE_CHANGES, connect, translate_errors
from nephros.errors import InvalidArgument

_COLUMNS = "seq, cell, class_id, annotator, time, undoes"
_UNDO = f"""
insert into changes (cell, class_id, annotator, time, undoes)
select cell, null, annotator, :time, seq from {EFFECTIVE_CHANGES} where cell = :cell and annotator = :annotator
order by seq desc limit 1
"""


@dataclass(frozen=True)
class Change:
    """A label that an annotator set or removed."""

    seq: int
    """Position among all changes, ascending."""
    cell: int
    class_id: int | None
    """The class as the annotator set it, before any merge; None where the label was removed."""
    annotator: str
    time: str
    """UTC, in ISO 8601."""
    undoes: int | None = None
    """The change that this one takes back, as if it had not been made; None where it sets or removes a label."""


@dataclass(frozen=True)
class _ClassRow:
    name: str
    color: str
    merged_into: int | None


class LabelStore:
    """Classes, and the changes of labels by all annotators. All methods may be called from several threads and processes.

    A cell's label is that of the latest change, whoever made it; each annotator's own labels are those of their own changes.
    Changes that were undone don't count.
    Every method raises FileError where the file can't be read or written, such as on a full disk, and then nothing is changed.
    """

    def __init__(self, path: Path, n_cells: Callable[[], int]) -> None:
        """Open the file; `n_cells` returns the number of cells that the project has at the moment.

        Raises:
            FileError: the file is missing, damaged, or of a newer version of nephros.
        """
        self.path, self._n_cells = path, n_cells
        self._lock = threading.RLock()
        self._connection = connect(path)
        self._close = weakref.finalize(self, self._connection.close)
        self._last_seq = 0
        self._latest = np.full(0, -1, np.int16)
        self._by_annotator: dict[str, dict[int, int]] = {}

    def close(self) -> None:
        """Close the file; the store can't be used afterwards."""
        with self._lock:
            self._close()

    # Classes

    def classes(self) -> list[LabelClass]:
        """Return the classes that are not merged into others, by id."""
        with self._lock:
            rows = self._class_rows()
            counts = np.bincount(self.current() + 1, minlength=max(rows, default=-1) + 2)
        return [
            LabelClass(class_id, row.name, row.color, int(counts[class_id + 1]))
            for class_id, row in rows.items()
            if row.merged_into is None
        ]

    def add_class(self, name: str, color: str | None = None) -> LabelClass:
        """Add a class of a new name; without a color it gets the next one of the palette.

        Raises:
            InvalidArgument: the name or the color can't be used, or there are too many classes.
            IncompatibleError: another class has the name.
        """
        with self._transaction():
            rows = self._class_rows()
            active = {class_id: row.name for class_id, row in rows.items() if row.merged_into is None}
            name = check_name("name", name)
            check_distinct(name, active.values())
            if len(rows) >= MAX_CLASSES:
                raise InvalidArgument("name", name, f"one of at most {MAX_CLASSES:,} classes")
            used = [rows[class_id].color for class_id in active]
            color = next_color(used) if color is None else check_color(color)
            class_id = max(rows, default=-1) + 1
            self._connection.execute("insert into classes values (?, ?, ?, null)", (class_id, name, color))
            self._log_class_edit(class_id)
        return LabelClass(class_id, name, color, 0)

    def rename(self, class_id: int, name: str) -> None:
        """Give a class another name; InvalidArgument if there is no such class, or NephrosError if the name can't be used."""
        with self._transaction():
            rows = self._class_rows()
            self._check_active(class_id, rows)
            name = check_name("name", name)
            check_distinct(
                name, [row.name for other, row in rows.items() if row.merged_into is None and other != class_id]
            )
            self._connection.execute("update classes set name = ? where id = ?", (name, class_id))
            self._log_class_edit(class_id)

    def recolor(self, class_id: int, color: str) -> None:
        """Give a class another color; InvalidArgument if there is no such class or the color is none."""
        with self._transaction():
            self._check_active(class_id, self._class_rows())
            self._connection.execute("update classes set color = ? where id = ?", (check_color(color), class_id))
            self._log_class_edit(class_id)

    def merge(self, class_id: int, into: int) -> None:
        """Make all labels of a class, earlier and later ones, labels of another class; their changes stay as they are.

        Raises:
            InvalidArgument: one of the classes doesn't exist, or they are the same.
        """
        with self._transaction():
            rows = self._class_rows()
            self._check_active(class_id, rows)
            self._check_active(into, rows, "into")
            if class_id == into:
                raise InvalidArgument("into", into, "another class than the one that is merged")
            self._connection.execute("update classes set merged_into = ? where id = ?", (into, class_id))
            self._log_class_edit(class_id)

    # Labels

    def apply(self, changes: Sequence[tuple[int, int | None]], annotator: str, *, undo: Sequence[int] = ()) -> int:
        """Set or, with the class None, remove labels of cells, all or none, and return the number of the last change.

        When it returns, the changes are on disk. A class that was merged into another one counts as that.

        Args:
            changes: cells and their classes.
            annotator: whose labels they are.
            undo: cells whose last change by the annotator is taken back, after which the annotator has the label of before,
                or none, and the cell the latest one of anyone; those without such a change stay as they are.

        Raises:
            InvalidArgument: there is no such cell or class, or the annotator's name can't be used.
        """
        annotator = check_name("annotator", annotator)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        with self._transaction():
            self._check_changes([*changes, *((cell, None) for cell in undo)])
            self._connection.executemany(
                "insert into changes (cell, class_id, annotator, time) values (?, ?, ?, ?)",
                [
                    (int(cell), None if class_id is None else int(class_id), annotator, now)
                    for cell, class_id in changes
                ],
            )
            self._connection.executemany(
                _UNDO, [{"cell": int(cell), "annotator": annotator, "time": now} for cell in undo]
            )
            return int(self._connection.execute("select coalesce(max(seq), 0) from changes").fetchone()[0])

    def changes_since(self, seq: int) -> list[Change]:
        """Return the changes after that of number `seq`, in order; 0 for all."""
        with self._lock, translate_errors(self.path):
            rows = self._connection.execute(f"select {_COLUMNS} from changes where seq > ? order by seq", (seq,))
            return [Change(*row) for row in rows]

    def changes_of(self, cell: int) -> list[Change]:
        """Return the changes of a cell, in order, also those that were undone."""
        with self._lock, translate_errors(self.path):
            rows = self._connection.execute(f"select {_COLUMNS} from changes where cell = ? order by seq", (int(cell),))
            return [Change(*row) for row in rows]

    def latest_changes(self, annotator: str | None = None) -> list[Change]:
        """Return the latest change of each cell that was ever labeled, by cell; with an annotator, of theirs."""
        with self._lock, translate_errors(self.path):
            rows = self._connection.execute(
                f"select max(seq), cell, class_id, annotator, time from {EFFECTIVE_CHANGES} where ?1 is null or annotator = ?1 "
                "group by cell order by cell",
                (annotator,),
            )
            return [Change(*row) for row in rows]

    def current(self) -> NDArray[np.int16]:
        """Return the class of each cell, (n,), by the latest change of anyone; -1 where there is none."""
        with self._lock:
            self._refresh()
            return self._resolve(self._fit(self._latest))

    def by_annotator(self, name: str) -> NDArray[np.int16]:
        """Return the class that an annotator gave to each cell, (n,), -1 for none; all are -1 for an unknown annotator."""
        with self._lock:
            self._refresh()
            labels = np.full(self._n_cells(), -1, np.int16)
            for cell, class_id in self._by_annotator.get(name, {}).items():
                if cell < len(labels):
                    labels[cell] = class_id
            return self._resolve(labels)

    def annotators(self) -> list[tuple[str, int]]:
        """Return everyone who has changed a label, in the order of their first change, with the number of their labels."""
        with self._lock:
            self._refresh()
            return [
                (name, sum(class_id >= 0 for class_id in labels.values()))
                for name, labels in self._by_annotator.items()
            ]

    @property
    def last_seq(self) -> int:
        """The number of the last change, also of another process; 0 if there is none."""
        with self._lock, translate_errors(self.path):
            return int(self._connection.execute("select coalesce(max(seq), 0) from changes").fetchone()[0])

    @property
    def revision(self) -> int:
        """A number that grows with every change of a label or a class, also of another process."""
        with self._lock, translate_errors(self.path):
            n_edits = self._connection.execute("select coalesce(max(seq), 0) from class_edits").fetchone()[0]
            return self.last_seq + int(n_edits)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """Make what the block writes one transaction, which is on disk at the end, or nothing of it after an exception."""
        with self._lock, translate_errors(self.path):
            self._connection.execute(
                "begin immediate"
            )  # takes the lock first, so that no other process writes between a check and its change
            try:
                yield
                self._connection.execute("commit")
            except BaseException:
                if self._connection.in_transaction:  # SQLite itself rolls back where the disk is full
                    self._connection.execute("rollback")
                raise

    def _class_rows(self) -> dict[int, _ClassRow]:
        with translate_errors(self.path):
            rows = self._connection.execute("select id, name, color, merged_into from classes order by id").fetchall()
        return {row[0]: _ClassRow(*row[1:]) for row in rows}

    def _log_class_edit(self, class_id: int) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        self._connection.execute(
            "insert into class_edits (class_id, name, color, merged_into, time) "
            "select id, name, color, merged_into, ? from classes where id = ?",
            (now, class_id),
        )

    def _check_active(self, class_id: int, rows: dict[int, _ClassRow], parameter: str = "class_id") -> None:
        active = [str(other) for other, row in rows.items() if row.merged_into is None]
        if class_id not in rows or rows[class_id].merged_into is not None:
            raise InvalidArgument(
                parameter, class_id, f"the id of a class: {', '.join(active[:20]) or 'there is none'}"
            )

    def _check_changes(self, changes: Sequence[tuple[int, int | None]]) -> None:
        n_cells, rows = self._n_cells(), self._class_rows()
        for cell, class_id in changes:
            if not 0 <= cell < n_cells:
                raise InvalidArgument(
                    "cell", cell, f"from 0 to {n_cells - 1}" if n_cells else "left out: there is none"
                )
            if class_id is not None and class_id not in rows:
                raise InvalidArgument("class_id", class_id, f"the id of a class, {', '.join(map(str, [*rows][:20]))}")

    def _refresh(self) -> None:
        """Read the changes since the last call, of this process and of others."""
        with translate_errors(self.path):
            rows = self._connection.execute(
                "select seq, cell, coalesce(class_id, -1), annotator, undoes from changes where seq > ? order by seq",
                (self._last_seq,),
            ).fetchall()
            if not rows:
                return
            counting = self._connection.execute(
                f"select cell, coalesce(class_id, -1), annotator from {EFFECTIVE_CHANGES} where cell in "
                "(select cell from changes where undoes is not null and seq > ? and seq <= ?) order by seq",
                (self._last_seq, rows[-1][0]),
            ).fetchall()
        n_cells = max(self._n_cells(), 1 + max(cell for _, cell, *_ in rows))
        self._latest = np.pad(self._latest, (0, max(0, n_cells - len(self._latest))), constant_values=-1)
        for _, cell, class_id, annotator, _ in rows:
            self._set(cell, class_id, annotator)
        # Cells of which a change was undone begin again, with what still counts.
        for cell in {cell for _, cell, _, _, undoes in rows if undoes is not None}:
            self._latest[cell] = -1
            for labels in self._by_annotator.values():
                labels.pop(cell, None)
        for cell, class_id, annotator in counting:
            self._set(cell, class_id, annotator)
        self._last_seq = rows[-1][0]

    def _set(self, cell: int, class_id: int, annotator: str) -> None:
        self._latest[cell] = class_id
        self._by_annotator.setdefault(annotator, {})[cell] = class_id

    def _fit(self, labels: NDArray[np.int16]) -> NDArray[np.int16]:
        n_cells = self._n_cells()
        return np.pad(labels[:n_cells], (0, max(0, n_cells - len(labels))), constant_values=-1)

    def _resolve(self, labels: NDArray[np.int16]) -> NDArray[np.int16]:
        """Return labels with the class that each was merged into."""
        rows = self._class_rows()
        target = np.arange(-1, max(rows, default=-1) + 1, dtype=np.int16)
        for class_id, row in rows.items():
            final, into = class_id, row.merged_into
            while into is not None:
                final, into = into, rows[into].merged_into
            target[class_id + 1] = final
        resolved: NDArray[np.int16] = target[labels + 1]
        return resolved
