"""What a machine with one GPU, lent for some minutes, does: tests, the transfer experiment, networks, and rates.

    python -m benchmarks.gpu --runs RUNS --minutes 9 --stages tests,transfer,student

Each job is a process with one CPU thread, since small networks keep a GPU busy only when several are trained at a time. NVIDIA's
multi-process service lets them share it: it is started where it is installed, a first process tries it out, and it is stopped if
that fails. The stages run side by side, in the order below where there are more jobs than workers; draws of the transfer
experiment fill the workers that are left, and `rates` runs alone. NAME=MINUTES limits a stage. --plan shows what would be done.

A job that fails begins again once. At the deadline whatever is left is ended, which takes up to half a minute more. Checkpoints
and finished draws stay in RUNS, from where the same command goes on. RUNS/home has archives of what is worth keeping, written
once a minute: with --from they go on elsewhere, and `python -m benchmarks.gpu.merge` puts them where they belong.

benchmarks/README.md says how to use it on a machine that is lent for a quarter of an hour, and what to expect.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.gpu.home import pack, unpack
from benchmarks.gpu.job import add_options
from benchmarks.gpu.jobs import Job, run_jobs
from benchmarks.gpu.parts import join_parts, missing_parts
from benchmarks.gpu.sharing import shared_gpu
from benchmarks.gpu.stages import (
    STAGES,
    Setting,
    Stage,
    describe_plan,
    group_deadlines,
    groups,
    stage_deadline,
    stage_jobs,
)
from nephros.device import available_cores

PROBE_SECONDS = 120.0
EARLIER_DRAWS = Path(__file__).parents[2] / "results/transfer-draws.csv"


def read_stages(text: str) -> list[Stage]:
    """Return the stages of such as ``tests,transfer=6``, in their order; ValueError for what is none."""
    stages = {}
    for part in text.split(","):
        name, _, minutes = part.strip().partition("=")
        if name not in STAGES:
            raise ValueError(f"{name} is no stage. The stages: {', '.join(STAGES)}.")
        stages[name] = STAGES[name] if not minutes else replace(STAGES[name], minutes=float(minutes))
    return [stages[name] for name in STAGES if name in stages]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    stages = "\n".join(f"  {stage.name:10}{stage.title}" for stage in STAGES.values())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        epilog=f"stages:\n{stages}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(parser)
    parser.add_argument("--stages", required=True, help="names, with commas, such as tests,transfer=6")
    parser.add_argument("--minutes", type=float, default=9.0, help="until all jobs are ended (default: 9)")
    parser.add_argument("--workers", type=int, help="jobs at a time (default: two fewer than there are cores)")
    parser.add_argument("--tasks", nargs="*", default=[], help="of the transfer experiment (default: all)")
    parser.add_argument("--draws", type=Path, default=EARLIER_DRAWS, help="CSV file of draws that are there already")
    parser.add_argument("--parts", type=Path, help="folder in which parts of the data arrive")
    parser.add_argument("--plan", action="store_true", help="show what would be done, and do nothing")
    parser.add_argument("--from", dest="origin", type=Path, nargs="*", default=[], help="home of earlier calls")
    return parser


def show_plan(stages: list[Stage], setting: Setting, args: argparse.Namespace) -> None:
    """Print what will be done, in which order, and what it waits for."""
    grouped = groups(stages)
    missing = [] if args.parts is None else missing_parts(args.parts)
    data = "is there" if setting.has_data() else f"is waited for: {', '.join(missing)}" if missing else "is missing"
    print(f"{args.minutes:g} minutes, {_workers(args)} jobs at a time, in {setting.runs}; {setting.data} {data}.")
    print(describe_plan(grouped, setting, group_deadlines(grouped, args.minutes, 1.0)), flush=True)


def _workers(args: argparse.Namespace) -> int:
    return int(args.workers or max(2, available_cores() - 2))


def run_stages(stages: list[Stage], setting: Setting, args: argparse.Namespace, deadline: float) -> list[Job]:
    """Run the stages one group after another; return their jobs."""
    grouped, jobs = groups(stages), []
    for group, group_deadline in zip(grouped, group_deadlines(grouped, deadline), strict=True):
        new = [job for stage in group for job in stage_jobs(stage, setting, stage_deadline(stage, group_deadline))]
        at_a_time = 1 if group[0].alone else _workers(args)
        save = partial(pack, setting.runs, setting.runs / "home")
        run_jobs(new, setting.runs / "logs", at_a_time, save, partial(waits_for_parts, args.parts, setting))
        jobs += new
    return jobs


def waits_for_parts(parts: Path | None, setting: Setting) -> bool:
    """Put the data together if its parts are complete; return whether it is still to come."""
    if parts is None or setting.has_data():
        return False
    try:
        return join_parts(parts, parts) is None
    except ValueError as error:  # a part may have its size before it has its content
        print(error, flush=True)
        return True


def probe_works(setting: Setting) -> bool:
    """Return whether a new process can compute on the device; what it says is printed."""
    try:
        return (
            subprocess.run(setting.command("probe")(PROBE_SECONDS), timeout=PROBE_SECONDS, check=False).returncode == 0
        )
    except subprocess.TimeoutExpired:
        print(f"{sys.executable} took more than {PROBE_SECONDS:.0f} s to import torch and compute.", flush=True)
        return False


def main() -> None:
    """Run the stages."""
    parser = build_parser()
    args = parser.parse_args()
    deadline = time.monotonic() + 60 * args.minutes
    try:
        stages = read_stages(args.stages)
    except ValueError as error:
        parser.error(str(error))
    if args.parts is not None:
        os.environ["NEPHROS_DATA"] = str(args.parts.resolve())
    for origin in args.origin:
        print(f"{len(unpack(origin, args.runs))} files of {origin}")
    runs = args.runs.resolve()
    setting = Setting(runs, args.data, args.device, args.quick, tuple(args.tasks), args.draws)
    show_plan(stages, setting, args)
    if args.plan:
        return
    if args.device == "cpu":
        jobs = run_stages(stages, setting, args, deadline)
    else:
        with shared_gpu(partial(probe_works, setting)) as is_shared:
            print(f"The jobs share the GPU {'by the multi-process service' if is_shared else 'in turns'}.", flush=True)
            jobs = run_stages(stages, setting, args, deadline)
    for job in jobs:
        print(f"{job.name:28} {job.state:14} {job.seconds:5.0f} s")
    print(f"In {runs / 'home'}:", *sorted(path.name for path in (runs / "home").iterdir()))


if __name__ == "__main__":
    main()
