"""Long experiments side by side on one GPU, within some minutes: wide networks, their students, and the transfer experiment.

    python -m benchmarks.gpu --runs RUNS --minutes 9

Each job is a process with one CPU thread, since small networks keep a GPU busy only when several are trained at a time; NVIDIA's
multi-process service (`nvidia-cuda-mps-control -d`) lets them share it. Students begin when their teachers are complete, with as
many epochs as the time allows. At the deadline whatever is left is ended; checkpoints and finished draws stay in RUNS, and
RUNS/small holds what is worth keeping: weights, histories, records and rows.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nephros.experiments.transfer import LABELS_PER_CLASS, TransferTask
from nephros.runs import RunFolder
from nephros.workflows.transfer import select_tasks

KEPT_FILES = ("run.json", "recipe.yaml", "history.csv", "weights.safetensors", "val/metrics.json")
"""Files of a run that RUNS/small holds."""
STUDENT_EPOCHS = (8, 60)
"""Fewest and most."""
LARGE_BATCHES = ("--batch_size", "512", "--optimizer.lr")
"""With which a network, whose steps take as long as the CPU needs to start their kernels, takes half as long per epoch."""
SECONDS_AROUND_STUDENTS = 115
"""For the teachers' predictions before their first epoch, and for scores and report after the last."""

VALIDATION_SECONDS = 1.5


@dataclass
class Job:
    """A process that begins when it may."""

    name: str
    command: Callable[[], list[str]]
    ready: Callable[[], bool]
    is_draws: bool = False
    process: subprocess.Popen[bytes] | None = None
    start: float = 0.0
    seconds: float = 0.0

    @property
    def state(self) -> str:
        """waiting, running, done, or the exit code."""
        if self.process is None:
            return "waiting"
        code = self.process.poll()
        return "running" if code is None else "done" if code == 0 else f"exit code {code}"


def is_complete(run: Path) -> bool:
    """Return whether a run is trained, scored and reported."""
    return RunFolder.exists(run) and RunFolder.open(run).info().status == "complete"


def train_command(runs: Path, name: str, recipe: str, device: str, *options: str) -> list[str]:
    """Return the command that trains one network."""
    out = ["--out", str(runs / name), "--device", device]
    return [sys.executable, "-m", "nephros", "train", recipe, *options, *out]


def draws_command(
    folder: Path, task: str, size: int, device: str, sources: Sequence[Path], done: Path | None
) -> list[str]:
    """Return the command for all draws of one number of labels, in a folder of its own that shares the source."""
    (folder / "transfer").mkdir(parents=True, exist_ok=True)
    source = next((root for root in sources if is_complete(root)), None)
    if source is not None and not (folder / "transfer" / task).exists():
        (folder / "transfer" / task).symlink_to(source)
    if done is not None and not (folder / "transfer/rows.csv").exists():
        shutil.copy(done, folder / "transfer/rows.csv")
    code = "import sys; from nephros.workflows.transfer import reproduce_transfer; " + (
        f"reproduce_transfer(only=[{task!r}], runs=sys.argv[1], out=sys.argv[1], labels_per_class=({size},), device={device!r})"
    )
    return [sys.executable, "-c", code, str(folder)]


def network_jobs(runs: Path, device: str, deadline: float) -> list[Job]:
    """Return three wide teachers, and three students of all of them."""
    width = "--model.base_channels"
    teachers = {
        "wide-128": (width, "128", "--distillation_weight", "0.7", "--seed", "11"),
        "wide-160": (width, "160", "--distillation_weight", "0.5", "--seed", "12"),
        "deep-96": (width, "96", "--model.depth", "2", "--distillation_weight", "0.5", "--seed", "13"),
    }
    students = {
        "student-64": (width, "64", "--distillation_weight", "0.9", "--init", "nephros-distilled", "--seed", "21"),
        "student-128": (width, "128", "--distillation_weight", "0.8", "--init", str(runs / "wide-128"), "--seed", "22"),
        "student-160": (width, "160", "--distillation_weight", "0.8", "--init", str(runs / "wide-160"), "--seed", "23"),
    }

    def teacher(name: str) -> Job:
        options = (*teachers[name], *LARGE_BATCHES, "0.028", "--epochs", "18", "--teachers", "nephros-distilled")
        return Job(name, lambda: train_command(runs, name, "nephros-large", device, *options), lambda: True)

    def student(name: str) -> Job:
        def command() -> list[str]:
            complete = [runs / teacher for teacher in teachers if is_complete(runs / teacher)]
            names, epochs = ",".join(map(str, complete)), student_epochs(complete[0], deadline) if complete else 0
            options = (*students[name], *LARGE_BATCHES, "0.02", "--epochs", str(epochs), "--teachers", names)
            return train_command(runs, name, "nephros-large", device, *options)

        return Job(name, command, lambda: all(job.state not in ("waiting", "running") for job in teacher_jobs))

    teacher_jobs = [teacher(name) for name in teachers]
    return [*teacher_jobs, *map(student, students)]


def student_epochs(teacher: Path, deadline: float) -> int:
    """Return how many epochs fit until the deadline, by the seconds that those of a teacher took."""
    with (teacher / "history.csv").open(encoding="utf-8", newline="") as file:
        seconds = sorted(float(row["seconds"]) for row in csv.DictReader(file))
    per_epoch = 1.15 * seconds[len(seconds) // 2] + VALIDATION_SECONDS
    epochs = (deadline - time.monotonic() - SECONDS_AROUND_STUDENTS) / per_epoch
    return int(min(max(epochs, STUDENT_EPOCHS[0]), STUDENT_EPOCHS[1]))


def draw_jobs(runs: Path, device: str, tasks: Sequence[TransferTask], done: Path | None) -> list[Job]:
    """Return the jobs of the transfer experiment; `done` has rows that are there already.

    A source that is not in RUNS/transfer is trained by the job with the fewest labels, for which the task's others wait.
    """
    jobs = []
    for task in tasks:
        sources = [runs / "transfer" / task.key, runs / f"parts/{task.key}-{LABELS_PER_CLASS[0]}/transfer/{task.key}"]
        for size in LABELS_PER_CLASS:
            name = f"{task.key}-{size}"
            command = partial(draws_command, runs / "parts" / name, task.key, size, device, sources, done)
            waits = task.trains_its_source and size != LABELS_PER_CLASS[0]
            jobs.append(Job(name, command, partial(_any_complete, sources) if waits else lambda: True, is_draws=True))
    return jobs


def _any_complete(runs: Sequence[Path]) -> bool:
    return any(map(is_complete, runs))


def run_jobs(jobs: list[Job], runs: Path, deadline: float, workers: int) -> None:
    """Run jobs until the deadline, at most `workers` of draws at a time, and end those that are left."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    (runs / "small").mkdir(parents=True, exist_ok=True)
    while time.monotonic() < deadline and any(job.state in ("waiting", "running") for job in jobs):
        for job in jobs:
            if job.state == "running":
                job.seconds = time.monotonic() - job.start
            n_draws = sum(other.is_draws and other.state == "running" for other in jobs)
            if job.state == "waiting" and job.ready() and not (job.is_draws and n_draws >= workers):
                with (runs / "small" / f"{job.name}.log").open("wb") as log:
                    job.process = subprocess.Popen(job.command(), stdout=log, stderr=subprocess.STDOUT, env=env)
                job.start = time.monotonic()
        time.sleep(0.2)
    for job in jobs:
        if job.process is not None and job.state == "running":
            job.process.terminate()
    for job in jobs:
        if job.process is not None:
            job.process.wait()


def keep_small_files(runs: Path) -> None:
    """Copy the small files of all runs, and the rows of all draws, to RUNS/small."""
    for info in [*runs.glob("*/run.json"), *runs.glob("parts/*/transfer/*/run.json")]:
        if not info.parent.is_symlink():
            target = runs / "small" / info.parent.name
            kept = KEPT_FILES if (info.parent / "weights.safetensors").exists() else (*KEPT_FILES, "checkpoint.pt")
            for name in kept:
                if (info.parent / name).exists():
                    (target / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(info.parent / name, target / name)
    lines: dict[str, None] = {}
    for rows in sorted(runs.glob("parts/*/transfer/rows.csv")):
        lines |= dict.fromkeys(rows.read_text(encoding="utf-8").splitlines())
    (runs / "small" / "rows.csv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main() -> None:
    """Run the jobs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder for everything")
    parser.add_argument("--minutes", type=float, default=9.0, help="until all jobs are ended (default: 9)")
    parser.add_argument("--device", default="cuda", help="auto, cpu or cuda (default: cuda)")
    parser.add_argument("--workers", type=int, default=10, help="draws at a time (default: 10)")
    parser.add_argument("--tasks", nargs="*", default=[], help="of the transfer experiment")
    parser.add_argument("--no-networks", action="store_true", help="leave the networks out")
    parser.add_argument("--done", type=Path, help="rows.csv of draws that are there already")
    args = parser.parse_args()
    runs, deadline = args.runs.resolve(), time.monotonic() + 60 * args.minutes
    tasks = select_tasks(args.tasks) if args.tasks else []
    draws = draw_jobs(runs, args.device, tasks, args.done)
    jobs = [*([] if args.no_networks else network_jobs(runs, args.device, deadline)), *draws]
    run_jobs(jobs, runs, deadline, args.workers)
    keep_small_files(runs)
    for job in jobs:
        print(f"{job.name:24} {job.state:14} {job.seconds:5.0f} s")


if __name__ == "__main__":
    main()
