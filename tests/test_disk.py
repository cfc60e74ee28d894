"""Atomic files, and a disk that fills up during a run."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nephros.files import atomic_write, file_digest, file_lock, write_json, write_text
from tests.conftest import squares_dataset, write_npz


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_text(path, "old")

    def fail() -> None:
        with atomic_write(path, "w") as file:
            file.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_nan_and_infinity_become_null_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": [float("inf"), 1.5], "z": (1, "ä")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": None, "y": [None, 1.5], "z": [1, "ä"]}


def test_halves_of_surrogate_pairs_are_written_as_escapes(tmp_path: Path) -> None:
    """They stand for bytes of file names that are no text, as in a run's record of its data."""
    name = os.fsdecode(b"caf\xe9.npz")
    write_json(tmp_path / "a.json", {"path": name})
    assert json.loads((tmp_path / "a.json").read_bytes().decode()) == {"path": name}
    write_text(tmp_path / "a.html", f"<p>{name} é</p>")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == r"<p>caf\udce9.npz é</p>"


def test_text_has_the_same_bytes_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a text file that is opened without `newline` gets \\r\\n, and its digest is another one."""
    fdopen = os.fdopen

    def fdopen_on_windows(fd: int, mode: str, newline: str | None = None, **options: Any) -> Any:
        return fdopen(fd, mode, newline="\r\n" if newline is None and "b" not in mode else newline, **options)

    monkeypatch.setattr("nephros.files.os.fdopen", fdopen_on_windows)
    write_text(tmp_path / "recipe.yaml", "name: a\nepochs: 1\n")
    assert (tmp_path / "recipe.yaml").read_bytes() == b"name: a\nepochs: 1\n"


def _locking(fd: int, mode: int, n_bytes: int) -> None:
    """Lock as `msvcrt.locking` does."""
    assert n_bytes == 1
    try:
        fcntl.flock(fd, mode)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "Permission denied") from None


@pytest.mark.parametrize("system", ["posix", "windows"])
def test_a_lock_is_held_by_one_at_a_time(system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if system == "windows":
        msvcrt = SimpleNamespace(locking=_locking, LK_NBLCK=fcntl.LOCK_EX | fcntl.LOCK_NB, LK_UNLCK=fcntl.LOCK_UN)
        monkeypatch.setattr("nephros.files.fcntl", None)
        monkeypatch.setattr("nephros.files.msvcrt", msvcrt, raising=False)
    lock = tmp_path / ".lock"
    order: list[str] = []

    def wait_for_the_lock() -> None:
        with file_lock(lock):
            order.append("second")

    with file_lock(lock):
        with pytest.raises(BlockingIOError), file_lock(lock, wait=False):
            pass
        second = threading.Thread(target=wait_for_the_lock)
        second.start()
        second.join(0.3)
        order.append("first")
    second.join(10)
    assert order == ["first", "second"]
    with file_lock(lock, wait=False):  # it was released
        pass


def test_folders_that_are_created_are_flushed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr("nephros.files.sync_folder", flushed.append)
    write_text(tmp_path / "a" / "b" / "c.txt", "text")
    assert set(flushed) == {tmp_path, tmp_path / "a", tmp_path / "a" / "b"}


def test_file_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a", "md5") == "900150983cd24fb0d6963f7d28e17f72"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount_point = tmp_path / "disk"
    mount_point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mount_point)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a small disk")
    yield mount_point
    subprocess.run(["umount", "--lazy", str(mount_point)], check=False)


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_the_run_resumes_once_there_is_space(small_disk: Path, tmp_path: Path) -> None:
    data = write_npz(tmp_path / "cells.npz", squares_dataset(n=80))
    run = small_disk / "run"
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 2_000_000)
    # A checkpoint of course-1 takes about 0.4 MB, which momentum doubles: none fits beside the ballast.
    args = ["course-1", "--epochs", "2", "--optimizer.momentum", "0.9", "--model.base_channels", "20"]
    command = [sys.executable, "-m", "nephros", "train"]
    failed = subprocess.run(
        [*command, *args, "--data", str(data), "--out", str(run)], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1
    assert f"run again; `nephros train --resume {run}` continues" in failed.stderr
    assert "the disk is full" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not list(run.rglob(".*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    resumed = subprocess.run([*command, "--resume", str(run)], capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert (run / "report.html").exists()


@pytest.mark.slow
def test_a_file_size_limit_is_one_sentence_too(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "cells.npz", squares_dataset(n=80))
    run = tmp_path / "run"
    # With files limited to 200 kB the checkpoint doesn't fit, as on a full disk, and no privileges are needed.
    script = (
        "import resource, sys, nephros.cli\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "nephros.cli.main(sys.argv[1:])"
    )
    args = ["train", "course-1", "--epochs", "1", "--data", str(data), "--out", str(run)]
    failed = subprocess.run([sys.executable, "-c", script, *args], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "the disk is full" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not list(run.rglob(".*.tmp"))
    assert not (run / "checkpoint.pt").exists()
