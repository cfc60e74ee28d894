"""Jobs side by side: processes that begin when they may, in their order, and end at their deadlines at the latest."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS_TO_END = 10.0
"""After which processes that were asked to end are killed."""
SAVE_INTERVAL = 60.0
DRAW_SHARE = 0.9
"""Share of the usual seconds of a draw that must be left for one to begin."""
LOG_LINES = 5
"""Last lines of its log that are shown of a job that fails."""
JOB_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "PYTHONUNBUFFERED": "1",  # so that the log of a job that is ended says how far it came
}


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
    n_parts: int = 1
    """Pieces that are saved one by one, so that a job may begin if one of them could end."""
    max_starts: int = 1
    """How often it may begin: where processes share a GPU by the multi-process service, a fault of one can end all."""
    process: subprocess.Popen[bytes] | None = None
    start: float = 0.0
    seconds: float = 0.0
    was_cut: bool = False
    n_starts: int = 0
    is_noted: bool = False
    """Whether its end was reported."""

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
        self.start = time.monotonic()
        self.n_starts += 1
        with log.open("ab") as stream:
            command = self.command(self.deadline - self.start)
            env = {**os.environ, **JOB_ENVIRONMENT}
            self.process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=env)


def end_jobs(jobs: Sequence[Job]) -> None:
    """End those that run: all are asked at first, and those that do not listen are killed."""
    running = [(job, job.process) for job in jobs if job.process is not None and job.state == "running"]
    for job, process in running:
        job.was_cut = True
        process.terminate()
    limit = time.monotonic() + SECONDS_TO_END
    for _, process in running:
        try:
            process.wait(max(0.0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run_jobs(
    jobs: Sequence[Job],
    logs: Path,
    workers: int,
    save: Callable[[], object] = lambda: None,
    waits: Callable[[], bool] = lambda: False,
) -> None:
    """Run jobs, at most `workers` at a time, until all are over or none can begin; call `save` once a minute and at the end.

    `waits`, which is called again and again, says whether something from outside may still let jobs begin. Whatever is
    running when this is interrupted is ended, too. A line is printed for each job that begins or ends.
    """
    logs.mkdir(parents=True, exist_ok=True)
    queue = sorted(jobs, key=lambda job: job.is_draw)
    begin = time.monotonic()
    next_save = begin + SAVE_INTERVAL
    try:
        while not all(job.is_over for job in jobs):
            waiting = waits()
            if not _advance(queue, logs, workers, begin) and not waiting:
                break
            if time.monotonic() >= next_save:
                _try_to(save)
                next_save = time.monotonic() + SAVE_INTERVAL
            time.sleep(0.5)
    finally:
        end_jobs(jobs)
        _note_ends(queue, logs, begin)
        _try_to(save)


def _try_to(save: Callable[[], object]) -> None:
    """Save, whose failure must not end the jobs: they change files while it reads them."""
    try:
        save()
    except Exception:
        traceback.print_exc()


def _advance(queue: Sequence[Job], logs: Path, workers: int, begin: float) -> int:
    """End jobs whose time is up, and begin as many as there are free workers; return how many are running."""
    end_jobs([job for job in queue if time.monotonic() >= job.deadline])
    _note_ends(queue, logs, begin)
    n_running = sum(job.state == "running" for job in queue)
    for job in queue:
        if n_running < workers and job.state == "waiting" and not job.is_over and job.ready():
            job.begin(logs / f"{job.name}.log")
            _say(begin, f"{job.name} begins")
            n_running += 1
    return n_running


def _note_ends(queue: Sequence[Job], logs: Path, begin: float) -> None:
    """Update the seconds of what runs, and note what has ended since the last call."""
    for job in queue:
        if job.process is not None and not job.is_noted:
            job.seconds = time.monotonic() - job.start
            if job.state != "running":
                _note_end(job, queue, logs, begin)


def _note_end(job: Job, queue: Sequence[Job], logs: Path, begin: float) -> None:
    """Say how a job ended; let it begin again, if it failed and may; take from a draw how many seconds others need."""
    job.is_noted = True
    _say(begin, f"{job.name}: {job.state} after {job.seconds:.0f} s")
    if job.state.startswith("exit code"):
        log = logs / f"{job.name}.log"
        print(*log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:], sep="\n", flush=True)
        if job.n_starts < job.max_starts:
            job.process, job.is_noted = None, False
    done = [draw.seconds / draw.n_parts for draw in queue if draw.is_draw and draw.state == "done"]
    if job.is_draw and done:
        for draw in queue:
            draw.min_seconds = DRAW_SHARE * statistics.median(done) if draw.is_draw else draw.min_seconds


def _say(begin: float, event: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - begin), 60)
    print(f"{minutes:3}:{seconds:02} {event}", flush=True)
