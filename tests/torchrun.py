"""Helpers that start torchrun and find the processes that it starts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TIMEOUT_S = 180
"""Seconds that a test waits for a run."""


@contextlib.contextmanager
def start_torchrun(processes: int, *args: str, restarts: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Start `python -m args` in `processes` processes with one thread each, and end them with the block."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *torchrun, "--max-restarts", str(restarts), "-m", *args]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()  # torchrun then ends its own processes
            process.communicate()


def wait_for_exit(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the process to end; return exit status, stdout and stderr."""
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, stdout, stderr


def run_torchrun(processes: int, *args: str) -> tuple[int, str, str]:
    """Start `python -m args` in `processes` processes and wait; return exit status, stdout and stderr."""
    with start_torchrun(processes, *args) as process:
        return wait_for_exit(process)


def error_lines(stderr: str) -> list[str]:
    """Return the error lines of nephros itself."""
    return [line for line in stderr.splitlines() if line.startswith("nephros: ")]


def find_rank_pid(process: subprocess.Popen[str], rank: int) -> int | None:
    """Return the process id of a rank started by torchrun, or None if there is none (or no /proc)."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == str(process.pid) and b"RANK=%d" % rank in environment:
            return int(folder.name)
    return None
