"""A project while it is served: its classifier, its jobs, its listening pages, and the threads in which all of it is called."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hmac
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from nephros.annotation.jobs import FinetuneJobs, Job
from nephros.annotation.model import AnnotationModel
from nephros.annotation.project import Project
from nephros.errors import FileError, InvalidArgument
from nephros.server.limits import MemoryBudget, RequestRejected
from nephros.server.project.events import EventHub
from nephros.server.project.import_jobs import ImportJobs
from nephros.server.project.schemas import ChangeEvent, JobInfo

P = ParamSpec("P")
R = TypeVar("R")

READ_THREADS, FILE_THREADS = 6, 4
"""Threads for what is read, and for files and jobs. Labels have one of their own, so that they never wait for these; SQLite makes
one change at a time anyway."""
MAX_BUFFERED_BYTES = 256 << 20
"""Memory for the images and tables that are on their way to clients."""
SCRATCH_FOLDER = "uploads"
"""Below the project: files on their way in or out. It is emptied when the project is opened."""


class ProjectSession:
    """What the routes of a project share."""

    def __init__(self, project: Project, model: AnnotationModel, jobs: FinetuneJobs) -> None:
        """Take a project that this process has locked, and what was made for it; the application starts and closes them."""
        self.project, self.model, self.jobs = project, model, jobs
        self.token = secrets.token_urlsafe(24)
        """What each write must carry."""
        self.events = EventHub(self._read_change)
        self.budget = MemoryBudget(MAX_BUFFERED_BYTES)
        self.n_labels_saved = 0
        """Changes of labels that were saved since the start."""
        self.imports = ImportJobs(self.events.publish_job)
        self._readers = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="nephros-project-read")
        self._label_writer = ThreadPoolExecutor(1, thread_name_prefix="nephros-project-labels")
        self._file_workers = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="nephros-project-files")

    def start(self) -> None:
        """Begin to work on the features, and to tell pages of changes; called in the event loop."""
        shutil.rmtree(self.project.root / SCRATCH_FOLDER, ignore_errors=True)
        self.events.start()
        self.model.add_listener(lambda _: self.events.publish_change())
        self.jobs.add_listener(lambda job: self.events.publish_job(job_info(job)))
        self.model.start()

    def close(self) -> None:
        """Stop the threads; labels are on disk already."""
        self.events.close()
        self.imports.close()
        for threads in (self._readers, self._label_writer, self._file_workers):
            threads.shutdown(wait=True, cancel_futures=True)
        self.jobs.close()
        self.model.close()

    def check_token(self, token: str) -> None:
        """Raise RequestRejected unless a write carries the token; the comparison takes constant time."""
        if not hmac.compare_digest(token.encode("latin-1", "replace"), self.token.encode()):
            raise RequestRejected(
                403, "A change needs the token of this start of the server, in X-Nephros-Token: reload the page."
            )

    async def read(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function that reads in a thread."""
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._readers, call)

    async def write(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function that changes labels or classes in a thread; it ends even if the client has gone meanwhile.

        Raises:
            RequestRejected: the file of labels can't be written, such as on a full disk; the page sends its labels again.
        """
        call = functools.partial(function, *args, **kwargs)
        try:
            return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._label_writer, call))
        except FileError as error:
            raise RequestRejected(507, str(error).replace(f"{self.project.root}{os.sep}", "")) from error

    async def work(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function that writes files, or starts or ends a job, in a thread; it ends even if the client has gone."""
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._file_workers, call))

    def all_jobs(self) -> list[JobInfo]:
        """Return the imports, and what runs in processes of its own."""
        return self.imports.jobs() + [job_info(job) for job in self.jobs.jobs()]

    def check_cells(self, cells: Sequence[int]) -> None:
        """Raise InvalidArgument if there is no such cell."""
        n_cells = self.project.n_cells
        for cell in cells:
            if cell >= n_cells:
                expected = f"from 0 to {n_cells - 1}" if n_cells else "left out, since the project has no cells yet"
                raise InvalidArgument("cell", cell, expected)

    @contextlib.contextmanager
    def scratch_folder(self) -> Iterator[Path]:
        """Within the block there is an empty folder for files on their way; its name is the server's own."""
        folder = self.project.root / SCRATCH_FOLDER / secrets.token_hex(8)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _read_change(self) -> ChangeEvent:
        return await self.read(self._change)

    def _change(self) -> ChangeEvent:
        status, labels = self.model.status(), self.project.labels
        return ChangeEvent(
            revision=status.revision,
            seq=labels.last_seq,
            labels_revision=labels.revision,
            features_done=status.features_done,
            n_cells=self.project.n_cells,
            state=status.state,
        )


def job_info(job: Job) -> JobInfo:
    """Return a job as responses and events describe it."""
    return JobInfo(
        id=job.id, kind=job.kind, state=job.state, progress=job.progress, message=job.message, run=job.run,
        format=job.format or None,
    )  # fmt: skip
