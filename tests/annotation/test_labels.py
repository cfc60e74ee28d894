"""Labels and classes: what is applied is what is read, by whom, after merges, and from other processes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from nephros.annotation.label_database import create_database
from nephros.annotation.labels import LabelStore
from nephros.errors import FileError, IncompatibleError, InvalidArgument
from nephros.tissue.class_colors import CLASS_COLORS


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    create_database(tmp_path / "labels.sqlite")
    store = LabelStore(tmp_path / "labels.sqlite", lambda: 6)
    store.add_class("tubule")
    store.add_class("glomerulus")
    return store


def test_the_latest_change_of_anyone_is_the_label(store: LabelStore) -> None:
    assert store.apply([(0, 0), (1, 1), (2, 0)], "ann") == 3
    store.apply([(1, 0), (2, None)], "bob")
    assert store.current().tolist() == [0, 0, -1, -1, -1, -1]
    assert store.by_annotator("ann").tolist() == [0, 1, 0, -1, -1, -1]
    assert store.by_annotator("bob").tolist() == [-1, 0, -1, -1, -1, -1]
    assert store.by_annotator("nobody").tolist() == [-1] * 6
    assert store.annotators() == [("ann", 3), ("bob", 1)]
    assert [(c.seq, c.cell, c.class_id, c.annotator) for c in store.changes_since(3)] == [
        (4, 1, 0, "bob"),
        (5, 2, None, "bob"),
    ]
    assert [c.annotator for c in store.changes_of(1)] == ["ann", "bob"]
    assert [(c.id, c.name, c.color, c.n_labels) for c in store.classes()] == [
        (0, "tubule", CLASS_COLORS[0], 2),
        (1, "glomerulus", CLASS_COLORS[1], 0),
    ]


def _state(store: LabelStore) -> tuple[list[int], dict[str, list[int]], list[int]]:
    by_annotator = {name: store.by_annotator(name).tolist() for name, _ in store.annotators()}
    return store.current().tolist(), by_annotator, [change.seq for change in store.latest_changes()]


def test_undo_leaves_the_annotator_and_the_cell_as_they_were(store: LabelStore) -> None:
    store.apply([(0, 0), (1, 0)], "bo")
    store.apply([(1, 1)], "ann")
    before = _state(store)
    store.apply([(0, 1), (1, 0)], "ann")
    store.apply([(2, 1)], "ann")
    assert store.apply([], "ann", undo=[0, 1, 2]) == 9
    assert _state(store) == before == ([0, 1] + [-1] * 4, {"bo": [0, 0] + [-1] * 4, "ann": [-1, 1] + [-1] * 4}, [1, 3])
    assert store.annotators() == [("bo", 2), ("ann", 1)]
    assert [(change.class_id, change.undoes) for change in store.changes_of(0)] == [(0, None), (1, None), (None, 4)]
    assert _state(LabelStore(store.path, lambda: 6)) == before  # as another process reads it
    store.apply([], "ann", undo=[0, 1])  # of cell 0 the annotator has nothing left, of cell 1 the first label
    assert store.current().tolist() == [0, 0] + [-1] * 4
    store.apply([(0, 1)], "ann")
    assert store.current().tolist() == [1, 0] + [-1] * 4


def test_undo_leaves_later_labels_of_others(store: LabelStore) -> None:
    store.apply([(0, 0)], "ann")
    store.apply([(0, None)], "bo")
    store.apply([], "ann", undo=[0])
    assert store.current().tolist() == [-1] * 6
    store.apply([], "bo", undo=[0])
    assert _state(store) == ([-1] * 6, {"ann": [-1] * 6, "bo": [-1] * 6}, [])
    with pytest.raises(InvalidArgument):
        store.apply([(1, 0)], "ann", undo=[6])
    assert store.last_seq == 4


def test_a_file_of_an_earlier_version_is_brought_up_to_date(store: LabelStore) -> None:
    store.apply([(0, 0)], "ann")
    store.close()
    with sqlite3.connect(store.path) as connection:
        connection.execute("alter table changes drop column undoes")
        connection.execute("pragma user_version = 1")
    later, other = LabelStore(store.path, lambda: 6), LabelStore(store.path, lambda: 6)
    later.apply([(0, 1)], "ann")
    other.apply([], "ann", undo=[0])
    assert later.current().tolist() == [0] + [-1] * 5


def test_merged_classes_count_as_one_and_keep_their_changes(store: LabelStore) -> None:
    store.add_class("podocyte", "#ABCDEF")
    store.apply([(0, 0), (1, 1), (2, 2)], "ann")
    store.merge(2, into=1)
    store.merge(1, into=0)
    store.apply([(3, 2)], "ann")  # from a page that hasn't heard of the merge
    assert store.current().tolist() == [0, 0, 0, 0, -1, -1]
    assert [c.class_id for c in store.changes_since(0)] == [0, 1, 2, 2]
    assert [(c.name, c.n_labels) for c in store.classes()] == [("tubule", 4)]
    assert store.add_class("podocyte").id == 3  # the name is free again, the id isn't
    with pytest.raises(InvalidArgument):
        store.rename(2, "again")
    with pytest.raises(InvalidArgument):
        store.merge(0, into=2)
    with pytest.raises(InvalidArgument):
        store.merge(0, into=0)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "\x1b[31m", "a" * 81, "\u202etac", "\ud800", "\u200b"])
def test_names_that_cannot_be_shown_are_refused(store: LabelStore, name: str) -> None:
    with pytest.raises(InvalidArgument):
        store.add_class(name)
    with pytest.raises(InvalidArgument):
        store.rename(0, name)
    with pytest.raises(InvalidArgument):
        store.apply([(0, 0)], name)
    assert store.last_seq == 0


@pytest.mark.parametrize("name", ["tubule", " tubule ", "tub\u200bule", "tubule\u200d"])
def test_names_that_look_the_same_are_refused(store: LabelStore, name: str) -> None:
    for write in (lambda: store.add_class(name), lambda: store.rename(1, name)):
        with pytest.raises(IncompatibleError, match="There is a class tubule already"):
            write()


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "=1+1", "-tubule", "@x", "é", "e\u0301", "近位", "👩‍⚕️", "Tubule"]
)
def test_other_names_are_kept(store: LabelStore, name: str) -> None:
    store.rename(0, name)
    assert store.classes()[0].name == ("é" if name == "e\u0301" else name)


@pytest.mark.parametrize("color", ["red", "#fff", "#12345g", "", "#1234567", "url(x)"])
def test_colors_are_six_digits(store: LabelStore, color: str) -> None:
    with pytest.raises(InvalidArgument):
        store.recolor(0, color)
    with pytest.raises(InvalidArgument):
        store.add_class("other", color)


@pytest.mark.parametrize("change", [(-1, 0), (6, 0), (0, 2), (0, -1)])
def test_a_wrong_change_leaves_all_of_its_request_out(store: LabelStore, change: tuple[int, int]) -> None:
    with pytest.raises(InvalidArgument):
        store.apply([(0, 0), change, (1, 0)], "ann")
    assert store.last_seq == 0
    assert store.current().tolist() == [-1] * 6


def test_nothing_to_change_is_no_change(store: LabelStore) -> None:
    seq = store.last_seq
    assert store.apply([], "anna") == seq


def test_another_store_sees_changes_at_once(store: LabelStore) -> None:
    other = LabelStore(store.path, lambda: 6)
    revision = other.revision
    store.apply([(5, 1)], "ann")
    assert other.current().tolist() == [-1] * 5 + [1]
    assert other.revision > revision
    revision = other.revision
    store.rename(1, "vessel")
    assert other.classes()[1].name == "vessel"
    assert other.revision > revision
    other.apply([(5, None)], "bob")
    assert store.current().tolist() == [-1] * 6


def test_commits_are_durable(store: LabelStore) -> None:
    connection = store._connection
    assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    assert connection.execute("pragma synchronous").fetchone() == (2,)  # FULL


def test_a_full_disk_changes_nothing(store: LabelStore) -> None:
    n_pages = store._connection.execute("pragma page_count").fetchone()[0]
    store._connection.execute(f"pragma max_page_count = {n_pages + 2}")
    store.apply([(0, 1)], "ann")
    many = [(cell, 0) for cell in range(6)] * 500
    with pytest.raises(FileError, match="full"):
        store.apply(many, "ann")
    assert store.current().tolist() == [1] + [-1] * 5
    store._connection.execute("pragma max_page_count = 100000")
    store.apply(many, "ann")
    assert store.current().tolist() == [0] * 6


def test_labels_of_cells_that_are_gone_stay_in_the_file(store: LabelStore) -> None:
    store.apply([(5, 1)], "ann")
    smaller = LabelStore(store.path, lambda: 3)
    assert smaller.current().tolist() == [-1] * 3
    assert smaller.by_annotator("ann").tolist() == [-1] * 3
    assert LabelStore(store.path, lambda: 8).current().tolist() == [-1] * 5 + [1, -1, -1]


def _damage_header(path: Path) -> None:
    path.write_bytes(b"not SQLite" * 100)


def _damage_pages(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    content = bytearray(path.read_bytes())
    content[4096:12288] = b"\xa5" * 8192
    path.write_bytes(content)


def _cut(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    path.write_bytes(path.read_bytes()[:6000])


def _make_newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("pragma user_version = 3")


def _replace(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("create table other (x)")


@pytest.mark.parametrize("damage", [_damage_header, _damage_pages, _cut, _make_newer, _replace, Path.unlink])
def test_damaged_files_are_refused_in_one_sentence(store: LabelStore, damage) -> None:  # type: ignore[no-untyped-def]
    store.apply([(0, 0)], "ann")
    store.close()
    damage(store.path)
    before = store.path.read_bytes() if store.path.exists() else None
    with pytest.raises(FileError, match="restore it from a copy") as caught:
        LabelStore(store.path, lambda: 6)
    assert "\n" not in str(caught.value)
    assert caught.value.path == store.path
    assert (store.path.read_bytes() if store.path.exists() else None) == before  # nothing is made in its place


def test_many_labels_are_read_as_arrays(store: LabelStore) -> None:
    large = LabelStore(store.path, lambda: 5000)
    large.apply([(cell, cell % 2) for cell in range(5000)], "ann")
    assert np.array_equal(large.current(), np.arange(5000) % 2)
