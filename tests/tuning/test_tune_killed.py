"""kill -9 of the driver or of a worker at twenty random moments: the study ends like one that was never killed."""

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

from nephros.tuning.checkpoint_store import best_checkpoint_name
from nephros.tuning.database import storage_url
from nephros.tuning.optuna_storage import StudyStorage
from nephros.tuning.study_folder import StudyFolder
from nephros.tuning.study_state import StudyState
from tests.conftest import squares_dataset, write_npz
from tests.tuning.conftest import reproducible_part

pytestmark = pytest.mark.slow

KILLS = 20
LIMIT = 600
RECIPE = """
name: small
model: {network: course, base_channels: 4, depth: 1, hidden: [64], dropout: 0.2}
optimizer: {name: sgd, lr: 0.01, momentum: 0.9}
augment: {flips: dihedral, shift: 1}
batch_size: 32
"""
SPACE = """
optimizer.lr: {low: 0.001, high: 0.3, log: true}
model.hidden: [[64], [96, 32]]
batch_size: [16, 32]
"""


def _start(folder: Path, *args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "nephros", "tune", *args],
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
    """Return the process ids of a driver's workers."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                command = (entry / "cmdline").read_bytes()
            except (OSError, IndexError):
                continue
            if parent == driver and b"nephros.tuning.worker" in command:
                pids.append(int(entry.name))
    return pids


def _alive(pid: int) -> bool:
    try:
        return "nephros.tuning.worker" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def _last_checkpoint_time(study: Path) -> float:
    """Return when a checkpoint was last written, seconds since the epoch."""
    return (study / "checkpoints").stat().st_mtime if (study / "checkpoints").exists() else 0.0


def _is_training(study: Path, driver: int, since: float) -> bool:
    return _last_checkpoint_time(study) > since and bool(_workers(driver))


def _none_alive(workers: list[int]) -> bool:
    return not any(map(_alive, workers))


def _wait_until(process: subprocess.Popen[bytes], ready: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until `ready` holds, at most `seconds`, and no longer than the process lives."""
    deadline = time.monotonic() + seconds
    while not ready() and time.monotonic() < deadline and (process.poll() is None or seconds < 60):
        time.sleep(0.01)


def _finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors.decode()


def _load_state(folder: Path, name: str) -> StudyState:
    return StudyStorage(storage_url(str(StudyFolder(folder / "studies" / name).database)), name).load_state()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    write_npz(folder / "squares.npz", squares_dataset(n=960))
    (folder / "small.yaml").write_text(RECIPE)
    (folder / "space.yaml").write_text(SPACE)
    return folder


@pytest.fixture(scope="module")
def reference_state(workspace: Path) -> StudyState:
    _finish(_new(workspace, "whole", 1))
    return _load_state(workspace, "whole")


def test_a_study_killed_at_random_moments_ends_like_one_never_killed(
    workspace: Path, reference_state: StudyState
) -> None:
    rng = random.Random(3)
    victims = ["driver", "worker"] * (KILLS // 2)
    rng.shuffle(victims)
    for number in itertools.count():  # on a fast machine a study may finish before all kills
        name = f"killed{number}"
        _run_with_kills(workspace, name, victims, rng)
        _assert_same(workspace, name, reference_state)
        if not victims:
            break
    assert number < 10


def _run_with_kills(workspace: Path, name: str, victims: list[str], rng: random.Random) -> None:
    """Run a study to its end while killing one victim after another, removing each from the list."""
    process, study = _new(workspace, name, 2), workspace / "studies" / name
    while victims:
        start = time.time()
        if victims[-1] == "worker" or rng.random() < 0.7:
            _wait_until(process, partial(_is_training, study, process.pid, start))
        time.sleep(1.5 * rng.random())
        workers = _workers(process.pid)
        if process.poll() is not None:
            break
        if victims[-1] == "worker":
            if workers:
                os.kill(rng.choice(workers), signal.SIGKILL)
                victims.pop()
            continue
        process.send_signal(signal.SIGKILL)
        victims.pop()
        process.communicate()
        _wait_until(process, partial(_none_alive, workers), 20)
        assert _none_alive(workers), "a worker outlived its driver"
        process = (
            _start(workspace, "--resume", name)
            if StudyFolder(study).manifest_file.exists()
            else _new(workspace, name, 2)
        )
    _finish(process)


def _assert_same(workspace: Path, name: str, reference_state: StudyState) -> None:
    """Assert that a study has the state, the best weights and the files of the one that was never killed."""
    study_state, best = _load_state(workspace, name), reference_state.best
    assert reproducible_part(study_state) == reproducible_part(reference_state)
    assert study_state.best_metrics == reference_state.best_metrics
    assert best is not None
    checkpoint = best_checkpoint_name(*best.key, best.epochs)
    reference_weights, weights = (
        torch.load(workspace / "studies" / run / "checkpoints" / checkpoint, weights_only=True)["model"]
        for run in ("whole", name)
    )
    assert all(torch.equal(reference_weights[key], weights[key]) for key in reference_weights)
    study = workspace / "studies" / name
    assert not list(study.rglob(".*.tmp"))
    assert sorted(os.listdir(study / "checkpoints")) == sorted(
        os.listdir(workspace / "studies" / "whole" / "checkpoints")
    )


def test_four_workers_get_the_same_result(workspace: Path, reference_state: StudyState) -> None:
    _finish(_new(workspace, "four", 4))
    assert reproducible_part(_load_state(workspace, "four")) == reproducible_part(reference_state)


def test_a_second_driver_is_refused_and_the_first_continues(workspace: Path, reference_state: StudyState) -> None:
    first = _new(workspace, "twice", 1)
    manifest = StudyFolder(workspace / "studies" / "twice").manifest_file
    deadline = time.monotonic() + 120
    while not manifest.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    second = _start(workspace, "--resume", "twice")
    _, errors = second.communicate(timeout=LIMIT)
    assert second.returncode == 2
    assert errors.decode().count("\n") == 1
    assert "studies/twice" in errors.decode()
    assert "`nephros tune --show twice`" in errors.decode()
    show_process = _start(workspace, "--show", "twice")
    _finish(show_process)
    _finish(first)
    assert reproducible_part(_load_state(workspace, "twice")) == reproducible_part(reference_state)
