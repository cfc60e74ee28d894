"""kill -9 at any moment, also while writing, then resume: the weights are those of an uninterrupted run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import squares_dataset, write_npz

pytestmark = pytest.mark.slow

# Wide enough that writing the checkpoint (some 40 MB) takes a good part of an epoch.
FLAGS = [
    "course-1", "--epochs", "6", "--model.base_channels", "8", "--model.hidden", "[1500,1500]", "--batch_size", "64",
    "--augment.flips", "dihedral", "--model.dropout", "0.3", "--optimizer.momentum", "0.9", "--optimizer.lr", "0.01",
]  # fmt: skip
TIMEOUT_S = 180


def _start(*args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "nephros", "train", *args], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def _finish(process: subprocess.Popen[bytes]) -> None:
    _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, stderr.decode()


def _kill_when(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> bool:
    """Kill the process once `ready`; return whether that happened before it ended."""
    deadline = time.monotonic() + TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if ready():
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return True
        time.sleep(0.002)
    process.communicate()
    return False


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "squares.npz", squares_dataset(n=320))


@pytest.fixture(scope="module")
def uninterrupted_weights(data: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("whole") / "run"
    _finish(_start(*FLAGS, "--data", str(data), "--out", str(out), "--test"))
    return (out / "weights.safetensors").read_bytes()


def test_a_run_killed_at_several_points_ends_with_the_same_bits(
    data: Path, uninterrupted_weights: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "run"

    def epochs_done() -> int:
        history = out / "history.csv"
        return len(history.read_text().splitlines()) - 1 if history.exists() else 0

    def is_writing() -> bool:
        return any(out.glob(".checkpoint.pt.*.tmp"))

    points: list[Callable[[], bool]] = [
        lambda: (out / "run.json").exists(),
        lambda: epochs_done() >= 1,
        lambda: epochs_done() >= 2 and is_writing(),
        is_writing,
        lambda: (out / "val" / "metrics.json").exists(),
    ]
    killed = [_kill_when(_start(*FLAGS, "--data", str(data), "--out", str(out), "--test"), points[0])]
    killed += [_kill_when(_start("--resume", str(out)), point) for point in points[1:]]
    # A busy machine may miss the moment of writing, but the first two points must be hit.
    assert killed[:2] == [True, True]
    assert sum(killed) >= 3
    _finish(_start("--resume", str(out)))
    assert (out / "weights.safetensors").read_bytes() == uninterrupted_weights
    assert not list(out.rglob(".*.tmp"))
    assert json.loads((out / "run.json").read_text())["status"] == "complete"
    reads = (out / "test" / "reads.jsonl").read_text().splitlines()
    assert 1 <= len(reads) <= 2
    assert (out / "report.html").stat().st_size > 0


def test_the_same_command_gives_the_same_bits(data: Path, uninterrupted_weights: bytes, tmp_path: Path) -> None:
    out = tmp_path / "run"
    _finish(_start(*FLAGS, "--data", str(data), "--out", str(out)))
    assert (out / "weights.safetensors").read_bytes() == uninterrupted_weights
