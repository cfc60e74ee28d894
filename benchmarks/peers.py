"""The same network and batch size trained by nephros and by the usual stacks: a plain loop, a loop like timm's, and Lightning.

Lightning is measured in a separate environment with nephros and lightning: --lightning-python ENV/bin/python.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import torch

from benchmarks.common import Row, build_parser, parse_config, publish, run_module
from benchmarks.peers_case import STACKS
from benchmarks.timing import Contender, interleave, ratio, summary
from benchmarks.workloads import load_train_split


def stack_contender(python: str, stack: str, workers: int, options: list[str]) -> Contender:
    """Return a contender that runs a stack in a new process; its rate is images per second."""

    def turn(seconds: float) -> float:
        args = [stack, "--workers", str(workers), "--seconds", str(seconds), *options]
        return float(run_module("peers_case", args, python)["images_per_s"])

    return turn


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.set_defaults(repeats=5, seconds=10.0)
    parser.add_argument(
        "--recipe", default="nephros", help="recipe that gives network and batch size (default: nephros)"
    )
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0, 2], help="worker processes of the DataLoaders (default: 0 2)"
    )
    parser.add_argument(
        "--lightning-python", metavar="PYTHON", help="Python of an environment with nephros and lightning"
    )
    config = parse_config(parser, "peers")
    config = replace(config, device=torch.device("cpu"))  # all stacks run there
    options = ["--recipe", config.args.recipe]
    options += [
        flag for flag, enabled in (("--quick", config.quick), ("--synthetic", config.data == "synthetic")) if enabled
    ]
    _, data = load_train_split(config)
    contenders = {"nephros": stack_contender(sys.executable, "nephros", 0, options)}
    for stack in STACKS[1:]:
        python = config.args.lightning_python if stack == "lightning" else sys.executable
        for workers in config.args.workers if python else []:
            contenders[f"{stack}, {workers} workers"] = stack_contender(python, stack, workers, options)
    rates = interleave(contenders, config)
    ours = rates["nephros"]
    rows: list[Row] = [
        {"stack": name, "images_per_s": summary(stack_rates), "nephros_speedup": ratio(ours, stack_rates)}
        for name, stack_rates in rates.items()
    ]
    publish(config, f"Training {config.args.recipe} in several stacks, {data}", rows, data)


if __name__ == "__main__":
    main()
