"""The overhead of a study in its first rung, against a bare loop that trains and validates the same configurations.

A trial's overhead is the difference of the two, measured on few enough images to stand out; its share refers to an epoch on
the real data. Writes to storage happen in a background thread of the study's process and are listed separately.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.common import Row, build_parser, parse_config, publish
from benchmarks.study_timing import RungBenchmark, Timings
from benchmarks.timing import summary
from nephros.data.load import SYNTHETIC, find_local_file
from nephros.presets import RECIPES

TARGET = 0.01
TINY_SUBSET = 64
"""Training images of an epoch that takes almost no time."""
PART_LABELS = {
    "lookup": "looking for an earlier checkpoint",
    "save": "writing the checkpoint",
    "scheduler": "scheduler: sampling, recipes, storage, dispatch",
    "write": "writes to storage, in the background",
    "write, cpu": "CPU time of these",
}


def run_rounds(benchmark: RungBenchmark, repeats: int) -> dict[str, list[Timings]]:
    """Time the bare loop and both kinds of study in turn, in reverse order every other round."""
    contenders: dict[str, Callable[[], Timings]] = {
        "bare": benchmark.time_bare_loop,
        "in_process": benchmark.time_in_process,
        "worker_process": benchmark.time_worker_process,
    }
    timings: dict[str, list[Timings]] = {name: [] for name in contenders}
    benchmark.warm_up()
    for repeat in range(repeats):
        for name in contenders if repeat % 2 == 0 else reversed(contenders):
            timings[name].append(contenders[name]())
    return timings


def rows(tiny: dict[str, list[Timings]], real: dict[str, list[Timings]]) -> list[Row]:
    """Return the table: one column for a study in this process, one for a study with one worker process."""
    names = {"in_process": "in_this_process", "worker_process": "in_one_worker_process"}
    epoch_seconds = sorted(parts["epoch"] for parts in real["bare"])[len(real["bare"]) // 2]

    def make_row(label: str, figures: Callable[[str], list[float]]) -> Row:
        return {"what": label} | {column: summary(figures(name)) for name, column in names.items()}

    def overhead(timings: dict[str, list[Timings]], name: str) -> list[float]:
        return [a["trial"] - b["trial"] for a, b in zip(timings[name], timings["bare"], strict=True)]

    lines = [
        make_row("bare-loop epoch, seconds", lambda _: [parts["epoch"] for parts in real["bare"]]),
        make_row("overhead per trial, ms", lambda name: [1000 * value for value in overhead(tiny, name)]),
        make_row(
            "its share of a bare-loop epoch", lambda name: [value / epoch_seconds for value in overhead(tiny, name)]
        ),
        make_row(
            "trial of the whole rung against the bare loop's, minus 1",
            lambda name: [a["trial"] / b["trial"] - 1 for a, b in zip(real[name], real["bare"], strict=True)],
        ),
    ]
    # With epochs of real length, as far as this process can measure.
    in_process = real["in_process"]
    foreground = [sum(parts[name] for name in ("lookup", "save", "scheduler")) for parts in in_process]
    with_background = [value + parts["write, cpu"] for value, parts in zip(foreground, in_process, strict=True)]
    for label, values in (
        ("added up beside real epochs", foreground),
        ("with the background's CPU time", with_background),
    ):
        share = [value / parts["epoch"] for value, parts in zip(values, in_process, strict=True)]
        lines.append(
            {"what": f"{label}, ms per trial", names["in_process"]: summary([1000 * value for value in values])}
        )
        lines.append({"what": "its share of its epoch", names["in_process"]: summary(share), "target": TARGET})
    for part, label in PART_LABELS.items():
        lines.append(
            {"what": f"{label}, ms", names["in_process"]: summary([1000 * parts[part] for parts in in_process])}
        )
    lines[2] |= {"target": TARGET}
    return lines


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.add_argument("--recipe", default="poster", help="default: poster")
    parser.add_argument("--subset", type=int, default=10_000, help="training images of the rung (default: 10000)")
    parser.add_argument("--configs", type=int, default=9, help="of the rung (default: 9)")
    parser.set_defaults(repeats=3)
    config = parse_config(parser, "tuning_overhead")
    args = config.args
    torch.set_num_threads(1)
    config = dataclasses.replace(config, device=torch.device("cpu"))
    source = "tissuemnist" if config.data == "auto" and find_local_file("tissuemnist") else SYNTHETIC
    subset, n_configs = (160, 2) if config.quick else (args.subset, args.configs)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        recipe = RECIPES[args.recipe]
        tiny = run_rounds(
            RungBenchmark(recipe, SYNTHETIC, TINY_SUBSET, n_configs, Path(folder)),
            2 if config.quick else 3 * config.repeats,
        )
        benchmark = RungBenchmark(recipe, source, subset, n_configs, Path(folder))
        real = run_rounds(benchmark, config.repeats)
    title = (
        f"A study's first rung ({n_configs} configurations of {recipe.name}, {subset:,} images of {benchmark.title})"
    )
    publish(config, title, rows(tiny, real), benchmark.title)


if __name__ == "__main__":
    main()
