"""One job, in a process of its own: python -m benchmarks.gpu.job network NAME | source TASK | draw TASK SIZE DRAW."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from benchmarks.gpu.draws import run_draw, train_source
from benchmarks.gpu.networks import train_one


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all jobs share."""
    parser.add_argument("--runs", type=Path, required=True, help="folder for everything")
    parser.add_argument("--data", default="tissuemnist", help="name or file (default: tissuemnist)")
    parser.add_argument("--device", default="cuda", help="auto, cpu or cuda (default: cuda)")
    parser.add_argument("--quick", action="store_true", help="one epoch and one method, to try everything out")


def main() -> None:
    """Run a job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("network", "source", "draw"))
    parser.add_argument("what", nargs="+")
    parser.add_argument("--seconds", type=float, required=True, help="that it has")
    add_options(parser)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    name, shared = args.what[0], (args.runs, args.data, args.device)
    if args.kind == "network":
        train_one(name, *shared, args.seconds, args.quick)
    elif args.kind == "source":
        train_source(name, *shared, args.quick)
    else:
        run_draw((name, int(args.what[1]), int(args.what[2])), *shared, args.quick)


if __name__ == "__main__":
    main()
