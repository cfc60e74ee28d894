"""The same network and batch in our loop and in the usual stacks: a plain loop, timm's way, and Lightning, side by side.

Lightning is measured in an environment of its own, that has nephros and lightning: --lightning-python ENV/bin/python.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import torch

from benchmarks.common import Row, in_process, parse, parser, publish
from benchmarks.peers_case import STACKS
from benchmarks.timing import Contender, interleave, ratio, summary
from benchmarks.workloads import open_data


def case(python: str, stack: str, workers: int, options: list[str]) -> Contender:
    """Return a contender that runs a stack in a new process; its rate is images a second."""

    def turn(seconds: float) -> float:
        words = [stack, "--workers", str(workers), "--seconds", str(seconds), *options]
        return float(in_process("peers_case", words, python)["images_per_s"])

    return turn


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__ or "")
    made.set_defaults(repeats=5, seconds=10.0)
    made.add_argument("--recipe", default="nephros", help="whose network and batch (default: nephros)")
    made.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of the DataLoaders (default: 0 2)")
    made.add_argument("--lightning-python", metavar="PYTHON", help="of an environment with nephros and lightning")
    settings = parse(made, "peers")
    settings = replace(settings, device=torch.device("cpu"))  # which all stacks run on
    options = ["--recipe", settings.options.recipe]
    options += [flag for flag, on in (("--quick", settings.quick), ("--synthetic", settings.data == "synthetic")) if on]
    _, data = open_data(settings)
    contenders = {"nephros": case(sys.executable, "nephros", 0, options)}
    for stack in STACKS[1:]:
        python = settings.options.lightning_python if stack == "lightning" else sys.executable
        for workers in settings.options.workers if python else []:
            contenders[f"{stack}, {workers} workers"] = case(python, stack, workers, options)
    rates = interleave(contenders, settings)
    ours = rates["nephros"]
    rows: list[Row] = [
        {"stack": name, "images_per_s": summary(found), "ours_to_it": ratio(ours, found)}
        for name, found in rates.items()
    ]
    publish(settings, f"Training {settings.options.recipe} in several stacks, {data}", rows, data)


if __name__ == "__main__":
    main()
