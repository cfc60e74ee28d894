"""Files that become cells of a project in the background, one upload after another."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from nephros.annotation.adding import AddedCells
from nephros.annotation.cell_reading import Progress
from nephros.errors import InvalidArgument, NephrosError
from nephros.server.project.schemas import JobInfo
from nephros.text_tables import pluralize

logger = logging.getLogger(__name__)

MAX_FINISHED = 20
"""Jobs that are listed after their end."""
REPORT_INTERVAL_S = 0.5
"""Seconds between two reports of progress."""


class ImportCanceled(Exception):
    """Nobody wants the cells any more."""


class ImportJobs:
    """The imports of a project since the start; any thread may call it."""

    def __init__(self, publish: Callable[[JobInfo], None]) -> None:
        """Set who learns of each change of a job."""
        self._publish = publish
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nephros-import")
        self._lock = threading.Lock()
        self._jobs: dict[str, JobInfo] = {}
        self._canceled: set[str] = set()
        self._n_started = 0
        self._start = secrets.token_hex(3)
        """Part of each id: a page that waits for an import of an earlier start must not take another one for it."""
        self._last: Future[Any] | None = None
        """Of the imports, with a job or without, which are made one after the other."""

    def jobs(self) -> list[JobInfo]:
        """Return all jobs, the oldest first."""
        with self._lock:
            return list(self._jobs.values())

    def start(self, add: Callable[[Progress], AddedCells], close: Callable[[], None]) -> JobInfo:
        """Add cells as soon as the imports before are done, and then call `close`."""
        with self._lock:
            self._n_started += 1
            job_id = f"import-{self._start}-{self._n_started}"
            job = JobInfo(
                id=job_id,
                kind="import",
                state="queued",
                progress=None,
                message="Waiting for other imports",
                run=None,
                format=None,
            )
            self._jobs[job_id] = job
            finished = [other.id for other in self._jobs.values() if other.state not in ("queued", "running")]
            for other_id in finished[:-MAX_FINISHED]:
                del self._jobs[other_id]
        self._publish(job)
        with self._lock:
            self._last = self._thread.submit(self._run, job_id, add, close)
        return job

    def add_now(self, add: Callable[[Progress], AddedCells]) -> Future[AddedCells] | None:
        """Add cells without a job, which takes no longer than reading them; None where other imports come first."""
        with self._lock:
            if self._last is not None and not self._last.done():
                return None
            self._last = future = self._thread.submit(add, lambda _share, _text: None)
        return future

    def cancel(self, job_id: str) -> JobInfo:
        """Stop an import before its cells are added; InvalidArgument if there is no such job."""
        with self._lock:
            if job_id not in self._jobs:
                raise InvalidArgument("job", job_id, "a job of the project")
            self._canceled.add(job_id)
            return self._jobs[job_id]

    def close(self) -> None:
        """Stop all imports; the project is as it was before each."""
        with self._lock:
            self._canceled.update(self._jobs)
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _run(self, job_id: str, add: Callable[[Progress], AddedCells], close: Callable[[], None]) -> None:
        last_report = 0.0

        def report(share: float | None, text: str) -> None:
            nonlocal last_report
            if job_id in self._canceled:
                raise ImportCanceled
            if time.monotonic() - last_report >= REPORT_INTERVAL_S:
                last_report = time.monotonic()
                self._update(job_id, state="running", progress=share, message=text)

        try:
            report(None, "Reading cells")
            added = add(report)
            self._update(job_id, state="done", progress=1.0, message=_summary(added))
        except ImportCanceled:
            self._update(job_id, state="canceled", message="Canceled: no cells were added.")
        except NephrosError as error:
            self._update(job_id, state="failed", message=str(error))
        except Exception as error:
            logger.exception("An import failed")
            self._update(
                job_id, state="failed", message=f"Internal error ({type(error).__name__}): see the server log."
            )
        finally:
            close()

    def _update(self, job_id: str, **values: object) -> None:
        with self._lock:
            job = self._jobs[job_id] = self._jobs[job_id].model_copy(update=values)
        self._publish(job)


def _summary(added: AddedCells) -> str:
    parts = [f"{pluralize(added.n_added, 'cell')} added"]
    if added.n_present:
        parts.append(f"{added.n_present:,} were there already")
    if added.errors:
        parts.append(f"{pluralize(len(added.errors), 'input')} can't be read: {added.errors[0]}")
    sentences = ["; ".join(parts), *added.notes]
    return " ".join(sentence.rstrip(".") + "." for sentence in sentences)
