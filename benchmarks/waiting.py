"""How threads should wait for each other: OpenMP's ways, beside sleeping at once, with and without a busy process beside.

Each case is a process of its own, since the way is chosen before torch is imported.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

from benchmarks.common import Row, Settings, in_process, parse, parser, publish
from benchmarks.timing import interleave, ratio, summary

SLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
WAYS = {
    "sleep at once": SLEEP,
    "spin 2,000 times, then sleep (nephros)": SLEEP | {"GOMP_SPINCOUNT": "2000"},
    "spin 10,000 times, then sleep": SLEEP | {"GOMP_SPINCOUNT": "10000"},
    "as OpenMP does unless told": {},
}


def case(recipe: str, quick: bool, seconds: float) -> float:
    """Return the images a second of a recipe's training steps, in this process."""
    import torch

    from benchmarks.timing import mean_rate
    from benchmarks.workloads import batches_of, fit_of, open_split, steps
    from nephros.presets import RECIPES

    cpu = torch.device("cpu")
    fit = fit_of(RECIPES[recipe], open_split(quick, real=False)[0], cpu)
    rate = mean_rate(steps(fit, batches_of(fit)), cpu)
    rate(seconds / 2)
    return rate(seconds)


def contender(recipe: str, way: Mapping[str, str], quick: bool) -> Callable[[float], float]:
    """Return a contender that runs a case in a new process that waits in this way."""
    kept = {name: value for name, value in os.environ.items() if name not in SLEEP}
    # What is empty counts as set, so that nephros leaves it, and OpenMP takes it for unset.
    chosen = dict.fromkeys(SLEEP, "") | dict(way)

    def turn(seconds: float) -> float:
        words = ["--case", recipe, str(seconds), *(["--quick"] if quick else [])]
        return float(in_process("waiting", words, env=kept | chosen))

    return turn


@contextmanager
def busy_process() -> Iterator[None]:
    """Keep one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measure(recipe: str, settings: Settings) -> list[Row]:
    """Return a row a way, without and with a busy process beside."""
    rows: list[Row] = []
    ways = dict(list(WAYS.items())[: 2 if settings.quick else None])
    for beside, load in (("nothing", nullcontext), ("a busy process", busy_process)):
        with load():
            rates = interleave({name: contender(recipe, way, settings.quick) for name, way in ways.items()}, settings)
        for name, found in rates.items():
            against = ratio(found, rates["sleep at once"])
            rows.append(
                {
                    "recipe": recipe,
                    "beside": beside,
                    "way": name,
                    "images_per_s": summary(found),
                    "to_sleeping": against,
                }
            )
    return rows


def main() -> None:
    """Run the benchmark, or a case of it."""
    if "--case" in sys.argv[1:]:
        own = argparse.ArgumentParser()
        own.add_argument("--case", nargs=2)
        own.add_argument("--quick", action="store_true")
        asked = own.parse_args()
        print(json.dumps(case(asked.case[0], asked.quick, float(asked.case[1]))))
        return
    made = parser(__doc__ or "")
    made.set_defaults(repeats=5, seconds=4.0)
    settings = parse(made, "waiting")
    if settings.device.type != "cpu":
        made.error("this benchmark is of the CPU: give --device cpu.")
    rows = [
        row
        for recipe in (("course-1",) if settings.quick else ("nephros", "course-1"))
        for row in measure(recipe, settings)
    ]
    publish(
        settings,
        f"Training steps on {settings.machine['threads']} threads that wait for each other",
        rows,
        "synthetic cells",
    )


if __name__ == "__main__":
    main()
