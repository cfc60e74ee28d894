"""How OpenMP threads should wait for each other: wait policies compared with sleeping at once, idle and under load.

Each case is a process of its own, as the policy is set before torch is imported.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish, run_module
from benchmarks.timing import interleave, ratio, summary

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
WAIT_POLICIES = {
    "sleep at once": PASSIVE,
    "spin 2,000 times, then sleep (nephros)": PASSIVE | {"GOMP_SPINCOUNT": "2000"},
    "spin 10,000 times, then sleep": PASSIVE | {"GOMP_SPINCOUNT": "10000"},
    "OpenMP's default": {},
}


def measure_case(recipe: str, quick: bool, seconds: float) -> float:
    """Return the images per second of a recipe's training steps, in this process."""
    import torch

    from benchmarks.timing import mean_rate
    from benchmarks.workloads import endless_batches, load_split, trainer_for, training_steps
    from nephros.presets import RECIPES

    cpu = torch.device("cpu")
    trainer = trainer_for(RECIPES[recipe], load_split(quick, real=False)[0], cpu)
    rate = mean_rate(training_steps(trainer, endless_batches(trainer)), cpu)
    rate(seconds / 2)
    return rate(seconds)


def contender(recipe: str, policy: Mapping[str, str], quick: bool) -> Callable[[float], float]:
    """Return a contender that runs a case in a new process with this wait policy."""
    env = {name: value for name, value in os.environ.items() if name not in PASSIVE}
    # An empty value counts as set for nephros, which leaves it, and as unset for OpenMP.
    policy_env = dict.fromkeys(PASSIVE, "") | dict(policy)

    def turn(seconds: float) -> float:
        argv = ["--case", recipe, str(seconds), *(["--quick"] if quick else [])]
        return float(run_module("waiting", argv, env=env | policy_env))

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


def measure(recipe: str, config: BenchmarkConfig) -> list[Row]:
    """Return one row per wait policy, without and with a busy process."""
    rows: list[Row] = []
    policies = dict(list(WAIT_POLICIES.items())[: 2 if config.quick else None])
    for background, background_process in (("nothing", nullcontext), ("a busy process", busy_process)):
        with background_process():
            rates = interleave(
                {name: contender(recipe, policy, config.quick) for name, policy in policies.items()}, config
            )
        for name, policy_rates in rates.items():
            ratio_to_passive = ratio(policy_rates, rates["sleep at once"])
            rows.append(
                {
                    "recipe": recipe,
                    "background_load": background,
                    "wait_policy": name,
                    "images_per_s": summary(policy_rates),
                    "ratio_to_passive": ratio_to_passive,
                }
            )
    return rows


def main() -> None:
    """Run the benchmark, or a case of it."""
    if "--case" in sys.argv[1:]:
        case_parser = argparse.ArgumentParser()
        case_parser.add_argument("--case", nargs=2)
        case_parser.add_argument("--quick", action="store_true")
        args = case_parser.parse_args()
        print(json.dumps(measure_case(args.case[0], args.quick, float(args.case[1]))))
        return
    parser = build_parser(__doc__ or "")
    parser.set_defaults(repeats=5, seconds=4.0)
    config = parse_config(parser, "waiting")
    if config.device.type != "cpu":
        parser.error("this benchmark is of the CPU: give --device cpu.")
    rows = [
        row
        for recipe in (("course-1",) if config.quick else ("nephros", "course-1"))
        for row in measure(recipe, config)
    ]
    publish(
        config,
        f"Training steps on {config.hardware['threads']} threads that wait for each other",
        rows,
        "synthetic cells",
    )


if __name__ == "__main__":
    main()
