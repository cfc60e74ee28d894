"""The jobs of `benchmarks.gpu`: what waits for what, what the deadline ends, and what is kept."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import Job, keep_small_files, run_jobs, student_epochs


def _job(name: str, code: str, *, after: Path | None = None, is_draws: bool = False) -> Job:
    return Job(name, lambda: [sys.executable, "-c", code], lambda: after is None or after.exists(), is_draws)


def test_a_job_begins_after_the_one_that_it_waits_for(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    jobs = [
        _job("student", f"assert open({str(file)!r}).read() == 'done'", after=file),
        _job("teacher", f"import os; p = {str(file)!r}; open(p + '~', 'w').write('done'); os.rename(p + '~', p)"),
    ]  # fmt: skip
    run_jobs(jobs, tmp_path, time.monotonic() + 600, workers=1)
    assert [job.state for job in jobs] == ["done", "done"]


def test_the_deadline_ends_what_runs_and_workers_limit_the_draws(tmp_path: Path) -> None:
    jobs = [_job(f"draws-{i}", "import time; time.sleep(3600)", is_draws=True) for i in range(3)]
    run_jobs(jobs, tmp_path, time.monotonic() + 1, workers=2)
    assert [job.state for job in jobs] == ["exit code -15", "exit code -15", "waiting"]


def test_a_job_that_fails_leaves_its_log(tmp_path: Path) -> None:
    job = _job("network", "raise SystemExit('no GPU here')")
    run_jobs([job], tmp_path, time.monotonic() + 600, workers=1)
    assert job.state == "exit code 1"
    assert "no GPU here" in (tmp_path / "small/network.log").read_text(encoding="utf-8")


@pytest.mark.parametrize(("seconds_left", "epochs"), [(0, 8), (115 + 25 * 10.7, 25), (10_000, 60)])
def test_students_take_the_epochs_that_fit(seconds_left: float, epochs: int, tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("epoch,seconds\n1,30\n2,8\n3,7\n", encoding="utf-8")
    assert student_epochs(tmp_path, time.monotonic() + seconds_left + 5) == epochs


def test_rows_of_all_draws_are_kept_once(tmp_path: Path) -> None:
    for name, rows in (("a-10", "a,10,0"), ("a-20", "a,10,0\na,20,0")):
        folder = tmp_path / "parts" / name / "transfer"
        folder.mkdir(parents=True)
        (folder / "rows.csv").write_text(f"task,size,draw\n{rows}\n", encoding="utf-8")
    (tmp_path / "small").mkdir()
    keep_small_files(tmp_path)
    assert (tmp_path / "small/rows.csv").read_text(encoding="utf-8") == "task,size,draw\na,10,0\na,20,0\n"
