"""Jobs side by side: processes that begin when they may, in their order, and end at their deadlines at the latest."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS_TO_END = 10.0
"""After which a process that was asked to end is killed."""
SAVE_INTERVAL = 60.0


@dataclass
class Job:
    """A process with one CPU thread."""

    name: str
    command: Callable[[float], list[str]]
    """Takes the seconds until its deadline."""
    ready: Callable[[], bool]
    deadline: float
    """In the time of `time.monotonic`."""
    is_draw: bool = False
    """Whether it begins only after all others that are ready."""
    min_seconds: float = 0.0
    """Before its deadline, when it does not begin any more, since it could not end."""
    process: subprocess.Popen[bytes] | None = None
    start: float = 0.0
    seconds: float = 0.0
    was_cut: bool = False

    @property
    def state(self) -> str:
        """waiting, running, done, cut (at its deadline), or the exit code."""
        if self.process is None:
            return "waiting"
        code = self.process.poll()
        if code is None:
            return "running"
        return "done" if code == 0 else "cut" if self.was_cut else f"exit code {code}"

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or can't begin any more."""
        state = self.state
        return time.monotonic() >= self.deadline - self.min_seconds if state == "waiting" else state != "running"

    def begin(self, log: Path) -> None:
        """Start the process."""
        env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        self.start = time.monotonic()
        with log.open("ab") as stream:
            command = self.command(self.deadline - self.start)
            self.process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=env)

    def end(self) -> None:
        """End the process: asked at first, and killed if it does not listen."""
        if self.process is not None and self.state == "running":
            self.was_cut = True
            self.process.terminate()
            try:
                self.process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def run_jobs(
    jobs: Sequence[Job],
    logs: Path,
    workers: int,
    save: Callable[[], object] = lambda: None,
    waits: Callable[[], bool] = lambda: False,
) -> None:
    """Run jobs, at most `workers` at a time, until all are over or none can begin; call `save` once a minute and at the end.

    `waits`, which is called again and again, says whether something from outside may still let jobs begin. Whatever is
    running when this is interrupted is ended, too.
    """
    logs.mkdir(parents=True, exist_ok=True)
    queue = sorted(jobs, key=lambda job: job.is_draw)
    next_save = time.monotonic() + SAVE_INTERVAL
    try:
        while not all(job.is_over for job in jobs):
            waiting = waits()
            if not _advance(queue, logs, workers) and not waiting:
                break
            if time.monotonic() >= next_save:
                save()
                next_save = time.monotonic() + SAVE_INTERVAL
            time.sleep(0.5)
    finally:
        for job in jobs:
            job.end()
        save()


def _advance(queue: Sequence[Job], logs: Path, workers: int) -> int:
    """End jobs whose time is up, and begin as many as there are free workers; return how many are running."""
    n_running = 0
    for job in queue:
        if job.state == "running":
            job.seconds = time.monotonic() - job.start
            if time.monotonic() >= job.deadline:
                job.end()
            else:
                n_running += 1
    for job in queue:
        if n_running < workers and job.state == "waiting" and not job.is_over and job.ready():
            job.begin(logs / f"{job.name}.log")
            n_running += 1
    return n_running
