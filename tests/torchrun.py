"""Starting torchrun, and finding the processes that it starts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LIMIT = 180
"""Seconds that a test waits for one run."""


@contextlib.contextmanager
def started(processes: int, *words: str, restarts: int = 0) -> Iterator[subprocess.Popen[str]]:
    """Start `python -m words` in so many processes on one machine, each with one thread; none outlives the block."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *torchrun, "--max-restarts", str(restarts), "-m", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()  # upon which torchrun ends its own processes
            process.communicate()


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end; return the exit status, what was printed, and the errors."""
    printed, errors = process.communicate(timeout=LIMIT)
    return process.returncode, printed, errors


def run(processes: int, *words: str) -> tuple[int, str, str]:
    """Start `python -m words` in so many processes, and `finish` it."""
    with started(processes, *words) as process:
        return finish(process)


def said(errors: str) -> list[str]:
    """Return nephros's own error lines."""
    return [line for line in errors.splitlines() if line.startswith("nephros: ")]


def rank_process(process: subprocess.Popen[str], rank: int) -> int | None:
    """Return the process id of a rank that torchrun has started, or None when there is none (or no /proc)."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == str(process.pid) and b"RANK=%d" % rank in environment:
            return int(folder.name)
    return None
