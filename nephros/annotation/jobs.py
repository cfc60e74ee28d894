"""Long work of a project in child processes: fine-tuning on its labels, and exports of the runs that come of it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nephros.annotation.export import write_training_data
from nephros.annotation.job_commands import (
    Command,
    check_methods,
    export_commands,
    finetune_command,
    progress_after,
    readable_line,
)
from nephros.annotation.project import Project
from nephros.annotation.project_runs import EXPORT_FILES, ProjectRun, data_path, exported_path, list_runs
from nephros.errors import IncompatibleError, InvalidArgument, NephrosError, UnknownName
from nephros.files import atomic_write, write_json

JOBS_FOLDER, RUNS_FOLDER, JOB_FILE, LOG_FILE = "jobs", "runs", "job.json", "output.txt"
MAX_RUNNING = 2
"""Jobs at one time; others wait."""
TERMINATE_S = 10.0
"""Seconds that a process has to end when its job is canceled, before it is killed."""
_MAX_MESSAGE = 500
_INTERRUPTED = "The server ended meanwhile."
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]{0,59}")


@dataclass(frozen=True)
class Job:
    """A job, as far as it is."""

    id: str
    """Such as ``finetune-1``."""
    kind: str
    """finetune or export."""
    run: str
    """Name of the run that it makes or exports."""
    state: str
    """queued, running, done, failed, canceled, or interrupted by the end of the server."""
    progress: float | None
    """0 to 1; None where that is not known."""
    message: str
    """The latest line of the output; of a failed job, why."""
    created: str
    """UTC, in ISO 8601."""
    format: str = ""
    """Of an export."""


class FinetuneJobs:
    """The jobs of one project, each in a child process of low priority. All methods may be called from several threads.

    Jobs are on disk: those that a server did not see end are interrupted when the next one opens the project.
    """

    def __init__(self, project: Project) -> None:
        """Read the jobs of the project."""
        self._project = project
        self._lock, self._slots = threading.RLock(), threading.Semaphore(MAX_RUNNING)
        self._jobs: dict[str, Job] = {}
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._threads: list[threading.Thread] = []
        self._listeners: list[Callable[[Job], None]] = []
        self._preparing: set[str] = set()  # ids of jobs whose files are being written, even if they have ended
        self._is_closed = False
        files = project.path(JOBS_FOLDER).glob(f"*/{JOB_FILE}")
        for file in sorted(files, key=lambda file: _number(file.parent.name)):
            if (job := _read_job(file)) is not None:
                self._jobs[job.id] = job
                if job.state in ("queued", "running"):
                    self._discard(job)
                    self._update(job, state="interrupted", message=_INTERRUPTED)

    def close(self) -> None:
        """End all processes; their jobs are interrupted."""
        with self._lock:
            self._is_closed = True
            active = [job for job in self._jobs.values() if job.state in ("queued", "running")]
        for job in active:
            self._stop(job.id, "interrupted", _INTERRUPTED)
        for thread in self._threads:
            thread.join()

    def add_listener(self, callback: Callable[[Job], None]) -> None:
        """Call `callback` with a job whenever it changes, in a background thread."""
        self._listeners.append(callback)

    def jobs(self) -> list[Job]:
        """Return all jobs, the first one first."""
        with self._lock:
            return list(self._jobs.values())

    def runs(self) -> list[ProjectRun]:
        """Return the finished runs, the latest first."""
        return list_runs(self._project.path(RUNS_FOLDER))

    def exported_file(self, run: str, export_format: str) -> Path | None:
        """Return the file of an export that is done; None where there is none.

        Raises UnknownName for a run or a format that doesn't exist.
        """
        path = exported_path(self._check_run(run), _check_format(export_format))
        return path if path.is_file() else None

    def start(self, name: str | None = None, *, methods: Sequence[str] = ()) -> Job:
        """Fine-tune the project's model on its labels.

        Args:
            name: of the run; None takes ``run-1`` and so on.
            methods: of `nephros.finetune`; empty for all but self-training, which takes the cells without a label too.

        Raises:
            UnknownName: there is no such method.
            InvalidArgument: a method is given twice, the name can't be used, or another run has it.
            IncompleteError: fewer than two classes have labels.
        """
        check_methods(methods)
        with self._lock:
            job = self._new_job("finetune", self._check_new_name(name))
        out = self._project.path(RUNS_FOLDER, job.run)
        with self._failing(job):
            write_training_data(self._project, data_path(out))
            return self._launch(job, [finetune_command(self._project.model, out, methods)])

    def export(self, run: str, export_format: str) -> Job:
        """Export a run: ``onnx`` its model; ``csv`` its predictions for all cells; ``geojson`` those of nuclei of stacks.

        Raises UnknownName for a run or a format that doesn't exist, and IncompatibleError for the GeoJSON of a project without
        stacks.
        """
        source, _ = self._check_run(run), _check_format(export_format)
        if export_format == "geojson" and not self._project.has_stack:
            raise IncompatibleError(
                "No cell of the project comes from a stack, and only nuclei of stacks have outlines: export a table."
            )
        with self._lock:
            job = self._new_job("export", run, export_format)
        with self._failing(job):
            exported_path(source, export_format).parent.mkdir(exist_ok=True)
            if export_format != "onnx":
                with atomic_write(self._folder(job) / "cells.npz") as file:
                    np.savez(file, images=self._project.images())
            return self._launch(job, export_commands(self._project, source, export_format, self._folder(job)))

    def cancel(self, job_id: str) -> None:
        """End a job's process; what it has made is removed. A job that has ended stays as it is.

        Raises UnknownName where there is no such job.
        """
        with self._lock:
            if job_id not in self._jobs:
                raise UnknownName("job_id", job_id, self._jobs, kind="job")
        self._stop(job_id, "canceled", "")

    # A job's life

    def _new_job(self, kind: str, run: str, export_format: str = "") -> Job:
        # Folders count as well: a killed server may leave one without a job in it.
        folder = self._project.path(JOBS_FOLDER)
        names = {*self._jobs, *(os.listdir(folder) if folder.is_dir() else ())}
        number = 1 + max(map(_number, names), default=0)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        job = Job(f"{kind}-{number}", kind, run, "queued", None, "", now, export_format)
        # Stored before its files are written, so that the next server removes those of a killed one.
        write_json(self._folder(job) / JOB_FILE, dataclasses.asdict(job))
        self._jobs[job.id] = job
        self._preparing.add(job.id)
        return job

    @contextlib.contextmanager
    def _failing(self, job: Job) -> Iterator[None]:
        """Within the block, an exception ends a new job: one that is refused is forgotten, any other has failed."""
        try:
            yield
        except NephrosError:
            with self._lock:
                del self._jobs[job.id]
            raise
        except BaseException as error:  # a full disk, no more threads, or a programming error
            self._stop(job.id, "failed", self._message_of(error))
            raise
        finally:
            with self._lock:
                if job.id in self._preparing:  # it was not launched
                    self._preparing.remove(job.id)
                    self._discard(job)
                if job.id not in self._jobs:
                    shutil.rmtree(self._folder(job), ignore_errors=True)

    def _launch(self, job: Job, commands: list[Command]) -> Job:
        """Start a job whose files are written, unless it was stopped meanwhile, and return it as it is now."""
        with self._lock:
            if self._is_closed:
                self._stop(job.id, "interrupted", _INTERRUPTED)
            job = self._jobs[job.id]
            if job.state == "queued":
                job = self._update(job)
                thread = threading.Thread(target=self._run, args=(job, commands), name=f"nephros-{job.id}", daemon=True)
                thread.start()
                self._threads.append(thread)
                self._preparing.remove(job.id)
        return job

    def _run(self, job: Job, commands: list[Command]) -> None:
        """Run a job's commands, one after the other, as soon as fewer than MAX_RUNNING others run."""
        with self._slots:
            methods = _methods_of(commands[0])
            for command in commands:
                try:
                    status = self._run_command(job.id, command, methods)
                except Exception as error:  # no more processes, a full disk, or a programming error
                    self._stop(job.id, "failed", self._message_of(error))
                    return
                if status is None:
                    return  # it was stopped
                if status:
                    self._end(job.id, "failed", self._error_of(job))
                    return
        self._end(job.id, "done", "")

    def _run_command(self, job_id: str, command: Command, methods: list[str]) -> int | None:
        """Run a command to its end and return its exit status; None if the job is stopped."""
        log = self._folder(self._jobs[job_id]) / LOG_FILE
        with self._lock:
            job = self._jobs[job_id]
            if job.state not in ("queued", "running"):
                return None
            process = subprocess.Popen(
                [sys.executable, "-m", "nephros.annotation.job_process", *command],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
                errors="replace", env=os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"}, start_new_session=True,
            )  # fmt: skip
            self._processes[job_id] = process
            job = self._update(job, state="running", progress=0.0 if methods else None)
        assert process.stdout is not None
        with process, log.open("a", encoding="utf-8") as file:
            for line in process.stdout:
                file.write(line)
                if not (text := readable_line(line, self._project.root)):
                    continue
                with self._lock:
                    job = self._jobs[job_id]
                    if job.state == "running":
                        progress = None if job.progress is None else progress_after(text, methods, job.progress)
                        job = self._update(job, progress=progress, message=text[:_MAX_MESSAGE])
            status = process.wait()
        with self._lock:
            del self._processes[job_id]
            return status if self._jobs[job_id].state == "running" else None

    def _stop(self, job_id: str, state: str, message: str) -> None:
        """End a job that waits or runs, and wait for its process."""
        with self._lock:
            job, process = self._jobs[job_id], self._processes.get(job_id)
            if job.state not in ("queued", "running"):
                return
            job = self._update(job, state=state, message=message)
            if job_id in self._preparing:
                return  # whoever writes its files removes them, once they are written
        if process is not None:
            with contextlib.suppress(OSError):
                process.terminate()
            try:
                process.wait(TERMINATE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._discard(job)

    def _end(self, job_id: str, state: str, message: str) -> None:
        with self._lock:
            job = self._jobs[job_id]
            if job.state != "running":
                return
            # A failed run is removed before anyone hears of it, so that its name is free.
            (self._folder(job) / "cells.npz").unlink(missing_ok=True)
            if state == "failed":
                self._discard(job)
            self._update(job, state=state, progress=1.0 if state == "done" else job.progress, message=message)

    def _discard(self, job: Job) -> None:
        """Remove what a job that did not end well has made, but not its output, which says why."""
        (self._folder(job) / "cells.npz").unlink(missing_ok=True)
        if job.kind == "finetune":
            out = self._project.path(RUNS_FOLDER, job.run)
            shutil.rmtree(out, ignore_errors=True)
            data_path(out).unlink(missing_ok=True)

    def _update(self, job: Job, **changes: Any) -> Job:
        """Store a job, on disk too where its state changes, and tell the listeners."""
        job = dataclasses.replace(job, **changes)
        with self._lock:
            self._jobs[job.id] = job
            if "state" in changes or not changes:
                write_json(self._folder(job) / JOB_FILE, dataclasses.asdict(job))
        for callback in self._listeners:
            callback(job)
        return job

    def _message_of(self, error: BaseException) -> str:
        return readable_line(str(error) or type(error).__name__, self._project.root)[:_MAX_MESSAGE]

    def _error_of(self, job: Job) -> str:
        """Return the last line of a process that failed, which says why."""
        lines = (self._folder(job) / LOG_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
        texts = [text for line in lines if (text := readable_line(line, self._project.root))]
        return texts[-1][:_MAX_MESSAGE] if texts else "The process ended without a message, perhaps for lack of memory."

    def _folder(self, job: Job) -> Path:
        return self._project.path(JOBS_FOLDER, job.id)

    def _check_run(self, name: str) -> ProjectRun:
        runs = {run.name: run for run in self.runs()}
        if name not in runs:
            raise UnknownName("run", name, runs, hint="" if runs else "The project has no finished run yet.")
        return runs[name]

    def _check_new_name(self, name: str | None) -> str:
        folder = self._project.path(RUNS_FOLDER)
        active = {
            job.run.casefold()
            for job in self._jobs.values()
            if job.state in ("queued", "running") or job.id in self._preparing
        }
        taken = active | (
            {path.name.casefold().removesuffix(".npz") for path in folder.iterdir()} if folder.is_dir() else set()
        )
        if name is None:
            return next(text for i in itertools.count(1) if (text := f"run-{i}") not in taken)
        if not _RUN_NAME.fullmatch(name) or name.endswith((" ", ".")):
            raise InvalidArgument(
                "name",
                name,
                "1 to 60 letters, digits, blanks, dots, dashes and underscores, with a letter or digit first",
            )
        if name.casefold() in taken:
            raise InvalidArgument("name", name, "the name of no other run")
        return name


def _methods_of(command: Command) -> list[str]:
    return command[command.index("--methods") + 1].split(",") if "--methods" in command else []


def _check_format(export_format: str) -> str:
    if export_format not in EXPORT_FILES:
        raise UnknownName("export_format", export_format, EXPORT_FILES, kind="format of exports")
    return export_format


def _number(job_id: str) -> int:
    text = job_id.rpartition("-")[2]
    return int(text) if text.isdecimal() else 0


def _read_job(file: Path) -> Job | None:
    """Return the job of a file; None where a killed server left no whole one."""
    try:
        job = Job(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return job if job.id == file.parent.name and _number(job.id) else None
