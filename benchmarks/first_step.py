"""What `nephros.train` does before its first step, in a new process: seconds, and seconds of processor time, by stage."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish
from benchmarks.timing import summary
from nephros.data.load import find_local_file

RECIPE, TARGET_S = "nephros-fast", 2.5
PROBE = """
import json, sys, time
marks = [("start", time.perf_counter(), time.process_time())]
def mark(name):
    marks.append((name, time.perf_counter(), time.process_time()))
import nephros
nephros.train
mark("import torch and nephros")
from nephros.training.optimizer_step import OptimizerStep
from nephros.training.trainer import Trainer
init, step = Trainer.__init__, OptimizerStep.take
def timed_init(self, *args, **kwargs):
    mark("read the data, describe the run")
    init(self, *args, **kwargs)
def timed_step(self, *args, **kwargs):
    mark("begin to train")
    step(self, *args, **kwargs)
    mark("first step")
    print(json.dumps(marks))
    sys.stdout.flush()
    raise SystemExit
Trainer.__init__, OptimizerStep.take = timed_init, timed_step
nephros.train({recipe!r}, {data!r}, out={out!r})
"""


def time_stages(data: str, out: Path) -> dict[str, tuple[float, float]]:
    """Return the wall and processor seconds of each stage of one run; all that precede the first step are added up, too."""
    script = PROBE.format(recipe=RECIPE, data=data, out=str(out))
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if not completed.stdout.strip():
        raise RuntimeError(f"the run ended before its first step:\n{completed.stderr}")
    marks = json.loads(completed.stdout.splitlines()[-1])
    pairs = itertools.pairwise(marks)
    stages = {name: (wall - start, cpu - cpu_start) for (_, start, cpu_start), (name, wall, cpu) in pairs}
    *before, _first = stages.values()
    return stages | {"all before the first step": (sum(wall for wall, _ in before), sum(cpu for _, cpu in before))}


def measure(config: BenchmarkConfig, data: str) -> list[Row]:
    """Return one row per stage."""
    with tempfile.TemporaryDirectory() as scratch:
        n_warmups, n_runs = (0, 1) if config.quick else (1, config.repeats)
        runs = [time_stages(data, Path(scratch) / f"run{i}") for i in range(n_warmups + n_runs)][n_warmups:]
    return [
        {
            "stage": stage,
            "seconds": summary([run[stage][0] for run in runs]),
            "processor_seconds": summary([run[stage][1] for run in runs]),
            **({"target_seconds": TARGET_S} if stage.startswith("all") else {}),
        }
        for stage in runs[0]
    ]


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.set_defaults(repeats=5)
    config = parse_config(parser, "first_step")
    is_real = config.data == "auto" and find_local_file("tissuemnist") is not None
    data = "tissuemnist" if is_real else "synthetic"
    publish(config, f"Before the first step of {RECIPE}", measure(config, data), data)


if __name__ == "__main__":
    main()
