"""kill -9 of the driver or of a worker at twenty random moments: the study ends as one that was never killed."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from nephros.tuning.checkpoint_store import best_name
from nephros.tuning.optuna_storage import Storage, address
from nephros.tuning.study_folder import StudyFolder
from nephros.tuning.study_state import Records
from tests.conftest import made_up, write_npz
from tests.tuning.conftest import timeless

pytestmark = pytest.mark.slow

KILLS = 20
LIMIT = 600
RECIPE = """
name: small
model: {network: course, features: 4, depth: 1, hidden: [64], dropout: 0.2}
optimizer: {name: sgd, lr: 0.01, momentum: 0.9}
augment: {flips: dihedral, shift: 1}
batch_size: 32
"""
SPACE = """
optimizer.lr: {low: 0.001, high: 0.3, log: true}
model.hidden: [[64], [96, 32]]
batch_size: [16, 32]
"""


def _start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "nephros", "tune", *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )


def _new(folder: Path, name: str, workers: int) -> subprocess.Popen[bytes]:
    return _start(
        folder, "small.yaml", "--data", "squares.npz", "--space", "space.yaml", "--max-epochs", "8", "--eta", "2",
        "--workers", str(workers), "--name", name,
    )  # fmt: skip


def _workers(driver: int) -> list[int]:
    """Return the process numbers of a driver's workers."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                words = (entry / "cmdline").read_bytes()
            except (OSError, IndexError):
                continue
            if parent == driver and b"nephros.tuning.worker" in words:
                found.append(int(entry.name))
    return found


def _alive(pid: int) -> bool:
    try:
        return "nephros.tuning.worker" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def _written(study: Path) -> float:
    """Return when a checkpoint was last written, seconds since the epoch."""
    return (study / "checkpoints").stat().st_mtime if (study / "checkpoints").exists() else 0.0


def _at_work(study: Path, driver: int, since: float) -> bool:
    return _written(study) > since and bool(_workers(driver))


def _none_alive(workers: list[int]) -> bool:
    return not any(map(_alive, workers))


def _until(process: subprocess.Popen[bytes], ready: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is so; not for ever, and not longer than the process lives."""
    deadline = time.monotonic() + seconds
    while not ready() and time.monotonic() < deadline and (process.poll() is None or seconds < 60):
        time.sleep(0.01)


def _finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors.decode()


def _records(folder: Path, name: str) -> Records:
    return Storage(address(str(StudyFolder(folder / "studies" / name).database)), name).records()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    write_npz(folder / "squares.npz", made_up(n=960))
    (folder / "small.yaml").write_text(RECIPE)
    (folder / "space.yaml").write_text(SPACE)
    return folder


@pytest.fixture(scope="module")
def whole(place: Path) -> Records:
    _finish(_new(place, "whole", 1))
    return _records(place, "whole")


def test_killed_at_random_moments_the_study_ends_as_one_never_killed(place: Path, whole: Records) -> None:
    chance = random.Random(3)
    victims = ["driver", "worker"] * (KILLS // 2)
    chance.shuffle(victims)
    for number in itertools.count():  # a quick machine is through with a study before all are killed
        name = f"killed{number}"
        _disturb(place, name, victims, chance)
        _compare(place, name, whole)
        if not victims:
            break
    assert number < 10


def _disturb(place: Path, name: str, victims: list[str], chance: random.Random) -> None:
    """Run a study to its end, and meanwhile kill one victim after another; those that are killed leave the list."""
    process, study = _new(place, name, 2), place / "studies" / name
    while victims:
        begun = time.time()
        if victims[-1] == "worker" or chance.random() < 0.7:
            _until(process, partial(_at_work, study, process.pid, begun))
        time.sleep(1.5 * chance.random())
        workers = _workers(process.pid)
        if process.poll() is not None:
            break
        if victims[-1] == "worker":
            if workers:
                os.kill(chance.choice(workers), signal.SIGKILL)
                victims.pop()
            continue
        process.send_signal(signal.SIGKILL)
        victims.pop()
        process.communicate()
        _until(process, partial(_none_alive, workers), 20)
        assert _none_alive(workers), "a worker outlived its driver"
        process = _start(place, "--resume", name) if StudyFolder(study).manifest.exists() else _new(place, name, 2)
    _finish(process)


def _compare(place: Path, name: str, whole: Records) -> None:
    """Assert that a study has the records, the best weights and the files of the one that was never killed."""
    records, best = _records(place, name), whole.best
    assert timeless(records) == timeless(whole)
    assert records.judged == whole.judged
    assert best is not None
    kept = best_name(*best.key, best.epochs)
    one, other = (
        torch.load(place / "studies" / run / "checkpoints" / kept, weights_only=True)["model"]
        for run in ("whole", name)
    )
    assert all(torch.equal(one[key], other[key]) for key in one)
    study = place / "studies" / name
    assert not list(study.rglob(".*.tmp"))
    assert sorted(os.listdir(study / "checkpoints")) == sorted(os.listdir(place / "studies" / "whole" / "checkpoints"))


def test_four_workers_find_the_same(place: Path, whole: Records) -> None:
    _finish(_new(place, "four", 4))
    assert timeless(_records(place, "four")) == timeless(whole)


def test_a_second_driver_is_refused_and_the_first_goes_on(place: Path, whole: Records) -> None:
    first = _new(place, "twice", 1)
    manifest = StudyFolder(place / "studies" / "twice").manifest
    deadline = time.monotonic() + 120
    while not manifest.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    second = _start(place, "--resume", "twice")
    _, errors = second.communicate(timeout=LIMIT)
    assert second.returncode == 2
    assert errors.decode().count("\n") == 1
    assert "Another process is running the study in studies/twice" in errors.decode()
    shown = _start(place, "--show", "twice")
    _finish(shown)
    _finish(first)
    assert timeless(_records(place, "twice")) == timeless(whole)
