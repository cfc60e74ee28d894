"""What a machine with one GPU, lent for some minutes, does: tests, the transfer experiment, networks, and rates.

    python -m benchmarks.gpu --runs RUNS --minutes 9 --stages tests,transfer,student

Each job is a process with one CPU thread, since small networks keep a GPU busy only when several are trained at a time; NVIDIA's
multi-process service (`nvidia-cuda-mps-control -d`) lets them share it. The stages run side by side, in the
order below where there are more jobs than workers; draws of the transfer experiment fill the workers that are left, and `rates`
runs alone. NAME=MINUTES limits a stage. At the deadline whatever is left is ended. Checkpoints and finished draws stay in RUNS,
from where the same command goes on. RUNS/home has archives of what is worth keeping, written once a minute: with --from they go
on elsewhere, and `python -m benchmarks.gpu.merge` puts them where they belong.

Records of ten draws at a time beside three networks on an H100: a draw took 119 to 157 seconds (results/transfer-draws.csv), an
epoch of 323 steps about 8 seconds, with 64 channels as with 160 (results/frontier-runs/). At that rate the 30 epochs of nephros,
of 647 steps each, take eight minutes; those of the source rare-nephros almost seven, and of frequent-nephros almost three.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.gpu.home import pack, unpack
from benchmarks.gpu.job import add_options
from benchmarks.gpu.jobs import Job, run_jobs
from benchmarks.gpu.parts import join_parts
from benchmarks.gpu.stages import STAGES, Setting, Stage, group_deadlines, groups, stage_deadline, stage_jobs
from nephros.device import available_cores

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
    parser.add_argument("--from", dest="origin", type=Path, nargs="*", default=[], help="home of earlier calls")
    return parser


def run_stages(stages: list[Stage], setting: Setting, args: argparse.Namespace) -> list[Job]:
    """Run the stages one group after another; return their jobs."""
    deadline = time.monotonic() + 60 * args.minutes
    workers = args.workers or max(2, available_cores() - 2)
    grouped, jobs = groups(stages), []
    for group, group_deadline in zip(grouped, group_deadlines(grouped, deadline), strict=True):
        new = [job for stage in group for job in stage_jobs(stage, setting, stage_deadline(stage, group_deadline))]
        at_a_time = 1 if group[0].alone else workers
        save = partial(pack, setting.runs, setting.runs / "home")
        run_jobs(new, setting.runs / "logs", at_a_time, save, partial(waits_for_parts, args.parts, setting))
        jobs += new
    return jobs


def waits_for_parts(parts: Path | None, setting: Setting) -> bool:
    """Put the data together if its parts are complete; return whether it is still to come."""
    if parts is None or setting.has_data():
        return False
    return join_parts(parts, parts) is None


def main() -> None:
    """Run the stages."""
    parser = build_parser()
    args = parser.parse_args()
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
    for job in run_stages(stages, setting, args):
        print(f"{job.name:28} {job.state:14} {job.seconds:5.0f} s")
    print(f"In {runs / 'home'}:", *sorted(path.name for path in (runs / "home").iterdir()))


if __name__ == "__main__":
    main()
