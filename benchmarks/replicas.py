"""Training steps on all cores, one replica of the network on each, against torch's own threads and against one thread.

Each way to use the cores is a process of its own. All take turns on an idle machine, and then beside a process that keeps one
core busy. As many independent runs of one thread as there are cores never wait for each other: they are the bound of any way. One
thread on batches of a replica's size shows what smaller batches cost.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch

from benchmarks.common import RESULTS, BenchmarkConfig, Row, build_parser, parse_config, publish
from benchmarks.timing import Contender, interleave, mean_rate, ratio, summary
from benchmarks.waiting import busy_process
from benchmarks.workloads import endless_batches, load_split, trainer_for, training_steps
from nephros.device import autocast_dtype, available_cores, dtype_name, torch_threads
from nephros.environment import PROCESS_DEFAULTS
from nephros.presets import RECIPES
from nephros.recipe import Recipe

RECIPE_NAMES = ("nephros-fast", "course-1")


def serve_case(recipe: Recipe, threads: int, replicas: int, quick: bool, real: bool) -> None:
    """Train for as many seconds as each line of standard input says; print images per second and processor seconds per image."""
    torch.set_num_threads(threads)
    split, _ = load_split(quick, real)
    trainer = trainer_for(recipe, split, torch.device("cpu"), replicas)
    units = training_steps(trainer, endless_batches(trainer))
    with torch_threads(max(1, threads // replicas)):
        rate = mean_rate(units, torch.device("cpu"))
        for line in sys.stdin:
            start, processor_start = time.perf_counter(), time.process_time()
            images_per_s = rate(float(line))
            processor_s = (time.process_time() - processor_start) / (images_per_s * (time.perf_counter() - start))
            print(json.dumps([images_per_s, processor_s]), flush=True)


@contextmanager
def case_processes(
    n: int, argv: Sequence[str], env: Mapping[str, str], processor_us_per_image: list[float]
) -> Iterator[Contender]:
    """Start `n` processes that train at the same time; yield a contender whose rate is the sum of theirs.

    Each turn appends the microseconds of processor time that an image takes to a list.
    """
    command = [sys.executable, "-m", "benchmarks.replicas", "--case", *argv]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, cwd=RESULTS.parents[1], env=env, **pipes)) for _ in range(n)
        ]

        def turn(seconds: float) -> float:
            for process in processes:
                print(seconds, file=process.stdin, flush=True)
            lines = [process.stdout.readline() if process.stdout else "" for process in processes]
            if not all(lines):
                raise RuntimeError(f"{' '.join(command[1:])} ended early")
            images_per_s, processor_s = zip(*map(json.loads, lines), strict=True)
            processor_us_per_image.append(1e6 * sum(processor_s) / n)
            return float(sum(images_per_s))

        yield turn


def measure(recipe: Recipe, config: BenchmarkConfig) -> list[Row]:
    """Return one row per way to use the cores, without and with a busy process."""
    n, dtype = available_cores(), autocast_dtype(recipe.amp, config.device)
    former, single, bound = f"one process, {n} threads (the former default)", "one thread", f"{n} independent runs"
    options = ["--data", config.data, *(["--quick"] if config.quick else [])]
    ours = {**os.environ, **PROCESS_DEFAULTS}
    spinning = ours | {"GOMP_SPINCOUNT": "300000"}  # GNU OpenMP's own number, in a program that imports nephros
    whole, part = str(recipe.batch_size), str(recipe.batch_size // n)
    ways: dict[str, tuple[int, int, int, str, Mapping[str, str]]] = {
        former: (1, n, 1, whole, ours),
        "the same, threads that spin while they wait": (1, n, 1, whole, spinning),
        single: (1, 1, 1, whole, ours),
        "one thread, on batches of a replica's size": (1, 1, 1, part, ours),
        f"{n} replicas": (1, n, n, whole, ours),
        bound: (n, 1, 1, whole, ours),
    }
    processor_us: dict[str, list[float]] = {name: [] for name in ways}
    rows: list[Row] = []
    with ExitStack() as stack:
        contenders = {
            name: stack.enter_context(
                case_processes(
                    processes, [recipe.name, str(threads), str(replicas), batch, *options], env, processor_us[name]
                )
            )
            for name, (processes, threads, replicas, batch, env) in ways.items()
        }
        for background, background_process in (("nothing", nullcontext), ("a busy process", busy_process)):
            for values in processor_us.values():
                values.clear()
            with background_process():
                rates = interleave(contenders, config)
            rows += [
                {
                    "recipe": recipe.name,
                    "precision": dtype_name(dtype) if dtype else "float32",
                    "background_load": background,
                    "cores_used_by": name,
                    "images_per_s": summary(way_rates),
                    "ratio_to_one_thread": ratio(way_rates, rates[single]),
                    "ratio_to_former_default": ratio(way_rates, rates[former]),
                    "ratio_to_independent_runs": ratio(way_rates, rates[bound]),
                    "processor_us_per_image": summary(processor_us[name][1:]),  # the first turn warms up
                }
                for name, way_rates in rates.items()
            ]
    return rows


def main() -> None:
    """Run the benchmark, or a case of it."""
    if "--case" in sys.argv[1:]:
        case_parser = argparse.ArgumentParser()
        case_parser.add_argument("--case", nargs=4)
        case_parser.add_argument("--quick", action="store_true")
        case_parser.add_argument("--data")
        args = case_parser.parse_args()
        name, threads, replicas, batch_size = args.case
        recipe = replace(RECIPES[name], batch_size=int(batch_size))
        serve_case(recipe, int(threads), int(replicas), args.quick, args.data == "auto")
        return
    parser = build_parser(__doc__ or "")
    parser.set_defaults(repeats=5, device="cpu")
    parser.add_argument("--recipes", nargs="+", default=RECIPE_NAMES, choices=list(RECIPES), metavar="RECIPE")
    config = parse_config(parser, "replicas")
    if config.device.type != "cpu":
        parser.error("this benchmark is of the CPU: give --device cpu.")
    data = load_split(config.quick, config.data == "auto")[1]
    names = config.args.recipes[:1] if config.quick else config.args.recipes
    rows = [row for name in names for row in measure(RECIPES[name], config)]
    publish(config, f"Training steps on {available_cores()} cores, {data}", rows, data)


if __name__ == "__main__":
    main()
