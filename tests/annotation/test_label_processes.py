"""Several processes on one file of labels: killed at any moment, writing at the same time, and cut off while cells are added."""

from __future__ import annotations

import errno
import os
import random
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nephros.annotation.label_database import create_database
from nephros.annotation.labels import LabelStore
from nephros.annotation.project import Project
from nephros.errors import FileError
from tests.conftest import square_images
from tests.killing import kill

ROOT = Path(__file__).parents[2]
N_CELLS = 50


def _start(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", *args],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def _labeler(path: Path, annotator: str, n_changes: int) -> subprocess.Popen[str]:
    return _start("tests.annotation.labeler", str(path), annotator, str(N_CELLS), str(n_changes))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_database(tmp_path / "labels.sqlite")
    store = LabelStore(tmp_path / "labels.sqlite", lambda: N_CELLS)
    store.add_class("tubule")
    store.add_class("glomerulus")
    store.close()
    return tmp_path / "labels.sqlite"


def _check(path: Path, lines: list[str], annotator: str) -> None:
    """Check that all changes that were reported as saved are there, and that requests are there whole or not at all."""
    store = LabelStore(path, lambda: N_CELLS)
    changes = {change.seq: change for change in store.changes_since(0)}
    for line in lines:
        seq, cell, class_id = map(int, line.split())
        saved = changes[seq - 1]
        assert (saved.cell, saved.class_id, saved.annotator) == (cell, class_id, annotator)
        assert changes[seq].class_id is None
    assert [change.class_id is None for change in changes.values()] == [False, True] * (len(changes) // 2)
    store.close()


@pytest.mark.slow
def test_no_saved_label_is_lost_by_twenty_kills(path: Path) -> None:
    rng = random.Random(0)
    n_before = 0
    for number in range(20):
        labeler = _labeler(path, f"ann {number}", 1_000_000)
        assert labeler.stdout is not None
        lines = [labeler.stdout.readline() for _ in range(rng.randint(1, 40))]
        time.sleep(rng.uniform(0, 0.02))  # anywhere in a transaction
        kill([labeler.pid])
        lines += [line for line in labeler.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        labeler.stdout.close()
        labeler.wait()
        _check(path, lines, f"ann {number}")
        store = LabelStore(path, lambda: N_CELLS)
        assert store.last_seq >= n_before + 2 * len(lines)
        assert store.by_annotator(f"ann {number}").max() >= 0
        n_before = store.last_seq
        store.close()


@pytest.mark.slow
def test_processes_write_and_read_at_the_same_time(path: Path) -> None:
    labelers = [_labeler(path, name, 30) for name in ("ann", "bob")]
    store, n_seen = LabelStore(path, lambda: N_CELLS), 0
    while any(labeler.poll() is None for labeler in labelers):
        changes = store.changes_since(n_seen)
        assert [change.seq for change in changes] == list(range(n_seen + 1, n_seen + 1 + len(changes)))
        n_seen += len(changes)
        store.apply([(0, 0), (1, None)], "here")
        time.sleep(0.01)  # SQLite's lock is not fair
    for labeler, name in zip(labelers, ("ann", "bob"), strict=True):
        output, _ = labeler.communicate()
        assert labeler.returncode == 0
        assert len(output.splitlines()) == 30
        _check(path, output.splitlines(), name)
    assert dict(store.annotators()).keys() == {"ann", "bob", "here"}
    assert store.by_annotator("ann").tolist() == store.by_annotator("bob").tolist()
    store.close()


@pytest.mark.slow
def test_an_addition_that_is_killed_leaves_the_project_as_it_was_or_complete(tmp_path: Path) -> None:
    images = square_images(3000, 3, 0)[0]
    np.savez(tmp_path / "a.npz", images=images[:100])
    np.savez(tmp_path / "b.npz", images=images[100:])
    project = Project.create(tmp_path / "kidney")
    project.add_cells(tmp_path / "a.npz")
    project.labels.add_class("tubule")
    project.labels.apply([(99, 0)], "ann")
    project.close()
    rng = random.Random(1)
    n_cells = 100
    for _ in range(8):
        adder = _start("tests.annotation.adder", str(project.root), str(tmp_path / "b.npz"))
        assert adder.stdout is not None
        adder.stdout.readline()  # it begins to add
        time.sleep(rng.uniform(0, 0.4))
        kill([adder.pid])
        adder.stdout.close()
        adder.wait()
        again = Project.open(project.root)
        assert again.n_cells in ({100, 3000} if n_cells == 100 else {3000})
        n_cells = again.n_cells
        assert np.array_equal(again.images(), images[:n_cells])
        assert len(again.table) == n_cells
        assert again.labels.current()[99] == 0
        again.close()
    final = Project.open(project.root)
    final.add_cells(tmp_path / "b.npz")
    assert final.n_cells == 3000
    assert not list(final.root.rglob(".*.tmp"))
    final.close()


@pytest.mark.parametrize("n_allowed", [0, 1, 2], ids=["images", "table", "project.json"])
def test_a_full_disk_adds_no_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_allowed: int) -> None:
    images = square_images(40, 3, 0)[0]
    np.savez(tmp_path / "a.npz", images=images[:20])
    np.savez(tmp_path / "b.npz", images=images[20:])
    project = Project.create(tmp_path / "kidney")
    project.add_cells(tmp_path / "a.npz")
    before = (project.root / "project.json").read_bytes()
    names = {file.name for file in project.root.iterdir()}
    real, n_calls = os.fsync, 0

    def fsync(fd: int) -> None:
        nonlocal n_calls
        n_calls += stat.S_ISREG(os.fstat(fd).st_mode)
        if n_calls > n_allowed:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(FileError, match="No space left"):
            project.add_cells(tmp_path / "b.npz")
    assert {file.name for file in project.root.iterdir()} == names
    assert (project.root / "project.json").read_bytes() == before
    again = Project.open(project.root)
    assert project.n_cells == again.n_cells == 20
    assert np.array_equal(again.images(), images[:20])
    assert project.add_cells(tmp_path / "b.npz").n_added == 20
    assert np.array_equal(project.images(), images)
