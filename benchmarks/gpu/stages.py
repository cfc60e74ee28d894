"""What there is to do, in stages, and the jobs of each."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.gpu.draws import missing_cells, rows_so_far
from benchmarks.gpu.jobs import Job
from benchmarks.gpu.networks import NETWORKS, is_complete, run_of
from nephros.data.load import find_local_file, is_builtin
from nephros.workflows.transfer import select_tasks

MAX_QUICK_LABELS = 10
MIN_DRAW_SECONDS = 20.0
"""Before the first draws have shown how long they take."""
RATES = ("recorded_steps", "machine_share", "mixed_precision")
"""Benchmarks; the longest comes last."""
FEW_ROUNDS = ("--repeats", "3", "--seconds", "1")
MAX_STARTS = 2


@dataclass(frozen=True)
class Stage:
    """Some jobs with a time limit."""

    name: str
    title: str
    networks: tuple[str, ...] = ()
    minutes: float | None = None
    """Most that it may take; None for all that is left."""
    alone: bool = False
    """Whether its jobs run one after another, with nothing beside them, since they measure rates."""


STAGES = {
    stage.name: stage
    for stage in (
        Stage("tests", "tests that need a GPU", minutes=2.0),
        Stage("transfer", "sources and draws of the transfer experiment that are missing"),
        Stage("student", "nephros-large once more, and nephros-distilled, taught by both", ("second-128", "second-64")),
        Stage("third", "nephros-distilled, taught by nephros-large once more", ("third-64",)),
        Stage("fast", "nephros-fast, taught by the larger bundled models", ("second-32",)),
        Stage("seeds", "nephros by its whole recipe, three seeds", ("nephros-0", "nephros-1", "nephros-2")),
        Stage("resnet18", "MedMNIST's ResNet-18, as many of its epochs as fit", ("medmnist-resnet18-0",)),
        Stage("resnet50", "MedMNIST's ResNet-50, likewise", ("medmnist-resnet50-0",)),
        Stage("strong", "strong-baseline, in the epochs that fit", ("strong-baseline-0",)),
        Stage(
            "frontier", "three wide teachers and three students of theirs",
            ("wide-128", "wide-160", "deep-96", "student-64", "student-128", "student-160"),
        ),
        Stage("rates", "recorded steps, the share of the matrix rate, and mixed precision", minutes=3.0, alone=True),
    )
}  # fmt: skip
"""In the order of their worth per second; last, what runs alone."""


@dataclass(frozen=True)
class Setting:
    """What all jobs share."""

    runs: Path
    data: str
    device: str
    quick: bool
    tasks: tuple[str, ...] = ()
    """Of the transfer experiment; all, if empty."""
    earlier_draws: Path | None = None

    def has_data(self) -> bool:
        """Return whether the data is complete."""
        return find_local_file(self.data) is not None if is_builtin(self.data) else Path(self.data).is_file()

    def command(self, kind: str, *args: object) -> Callable[[float], list[str]]:
        """Return the command of a job of `benchmarks.gpu.job`, by the seconds that it has."""
        options = ["--runs", str(self.runs), "--data", self.data, "--device", self.device]
        fixed = [sys.executable, "-m", "benchmarks.gpu.job", kind, *map(str, args), *options]
        return lambda seconds: [*fixed, "--seconds", f"{seconds:.0f}", *(["--quick"] if self.quick else [])]


def stage_jobs(stage: Stage, setting: Setting, deadline: float) -> list[Job]:
    """Return the jobs of a stage that are not done."""
    if stage.name == "tests":
        return [Job("tests", setting.command("tests"), lambda: True, deadline)]
    if stage.name == "rates":
        return [_rate_job(name, setting, deadline) for name in RATES]
    if stage.name == "transfer":
        return _transfer_jobs(setting, deadline)
    return _network_jobs(stage.networks, setting, deadline)


def groups(stages: Sequence[Stage]) -> list[list[Stage]]:
    """Return stages that run side by side, in the order in which they do."""
    result: list[list[Stage]] = []
    for stage in stages:
        if result and not stage.alone and not result[-1][-1].alone:
            result[-1].append(stage)
        else:
            result.append([stage])
    return result


def group_deadlines(stages: Sequence[Sequence[Stage]], deadline: float, per_minute: float = 60.0) -> list[float]:
    """Return when each group ends at the latest, so that those after it have the minutes that they may take."""
    minutes = [max(stage.minutes or 0.0 for stage in group) for group in stages]
    return [deadline - per_minute * sum(minutes[i + 1 :]) for i in range(len(minutes))]


def stage_deadline(stage: Stage, group_deadline: float) -> float:
    """Return when a stage that begins now ends at the latest."""
    return group_deadline if stage.minutes is None else min(time.monotonic() + 60 * stage.minutes, group_deadline)


def _rate_job(name: str, setting: Setting, deadline: float) -> Job:
    saved = ["--quick"] if setting.quick else [*FEW_ROUNDS, "--save", str(setting.runs / "records")]
    data = "auto" if setting.data == "tissuemnist" else "synthetic"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--device", setting.device, "--data", data, *saved]
    return Job(name, lambda _: command, lambda: True, deadline)


def _network_jobs(names: Sequence[str], setting: Setting, deadline: float) -> list[Job]:
    jobs: dict[str, Job] = {}
    for name in names:
        if is_complete(run_of(name, setting.runs)):
            continue
        before = [jobs[teacher] for teacher in NETWORKS[name].teachers if teacher in jobs]
        ready = _after(before, setting.has_data)
        jobs[name] = Job(name, setting.command("network", name), ready, deadline, max_starts=MAX_STARTS)
    return list(jobs.values())


def _after(jobs: Sequence[Job], condition: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: condition() and all(job.is_over for job in jobs)


def _transfer_jobs(setting: Setting, deadline: float) -> list[Job]:
    """Return a job per source, and one per task and number of labels, which waits for its source."""
    tasks = {task.key: task for task in select_tasks(setting.tasks)}
    cells = missing_cells([*tasks.values()], {row.cell for row in rows_so_far(setting.runs, setting.earlier_draws)})
    cells = [cell for cell in cells if not setting.quick or (cell[1] <= MAX_QUICK_LABELS and cell[2] == 0)]
    jobs = []
    for key in dict.fromkeys(key for key, _, _ in cells if tasks[key].trains_its_source):
        if not is_complete(setting.runs / "transfer" / key):
            command = setting.command("source", key)
            jobs.append(Job(f"source-{key}", command, setting.has_data, deadline, max_starts=MAX_STARTS))
    for key, size in dict.fromkeys((key, size) for key, size, _ in cells):
        source = setting.runs / "transfer" / key
        if tasks[key].trains_its_source:
            ready: Callable[[], bool] = partial(is_complete, source)
        else:
            ready = setting.has_data if tasks[key].classes else lambda: True
        draws = [draw for *cell, draw in cells if cell == [key, size]]
        command = setting.command("draws", key, size, *draws)
        job = Job(f"{key}-{size}", command, ready, deadline, is_draw=True, n_parts=len(draws), max_starts=MAX_STARTS)
        job.min_seconds = 0.0 if setting.quick else MIN_DRAW_SECONDS
        jobs.append(job)
    return jobs


def describe_plan(grouped: Sequence[Sequence[Stage]], setting: Setting, ends: Sequence[float]) -> str:
    """Return what the groups of stages do, in which order; `ends` are the minutes after which each ends at the latest."""
    lines = []
    for group, end in zip(grouped, ends, strict=True):
        lines.append(f"{'Alone, one after another' if group[0].alone else 'Side by side'}, until {end:.1f} min:")
        for stage in group:
            limit = "" if stage.minutes is None or stage.alone else f" (at most {stage.minutes:g} min)"
            jobs = stage_jobs(stage, setting, 0.0)
            draws = [job.name for job in jobs if job.is_draw]
            n_draws = sum(job.n_parts for job in jobs if job.is_draw)
            parts = [job.name for job in jobs if not job.is_draw]
            if draws:
                parts.append(f"{n_draws} draws as workers become free: {draws[0]}, {draws[-1]} last")
            lines.append(f"  {stage.name}{limit}: {', '.join(parts) or 'nothing that is not done'}")
    return "\n".join(lines)
