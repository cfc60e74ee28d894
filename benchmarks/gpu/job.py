"""One job, in a process of its own: python -m benchmarks.gpu.job KIND.

KIND is `network NAME`, `source TASK`, `draws TASK SIZE DRAW [DRAW ...]`, `tests` or `probe`.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import time
from pathlib import Path

GPU_TESTS = (
    "tests/test_gpu.py", "-m", "gpu", "-v", "--durations=5", "-p", "no:cacheprovider", "-p", "xdist.plugin", "-n", "0",
    "-W", "default",
)  # fmt: skip
"""With versions of other packages than ours, whose warnings are not errors."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that all jobs share."""
    parser.add_argument("--runs", type=Path, required=True, help="folder for everything")
    parser.add_argument("--data", default="tissuemnist", help="name or file (default: tissuemnist)")
    parser.add_argument("--device", default="cuda", help="auto, cpu or cuda (default: cuda)")
    parser.add_argument("--quick", action="store_true", help="one epoch and one method, to try everything out")


def interrupt(*_: object) -> None:
    """End as at Ctrl-C: a process that is killed while its kernels run can take down all that share the GPU with it."""
    raise KeyboardInterrupt


def run_tests() -> int:
    """Run the tests that need a GPU; return pytest's exit code."""
    import pytest

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # those of an image for deep learning import half of it
    return int(pytest.main([*GPU_TESTS]))


def probe(device: str) -> None:
    """Take steps of nephros on synthetic cells, and say how long what every job does at its start takes, and an epoch alone."""
    start = time.perf_counter()
    import matplotlib.font_manager  # noqa: F401  # makes its cache, once for all jobs

    from benchmarks.gpu import draws  # noqa: F401
    from benchmarks.gpu.networks import measure_rate
    from benchmarks.workloads import TRAIN_IMAGES, load_split
    from nephros import device as devices
    from nephros.presets import RECIPES

    imported = time.perf_counter()
    torch_device = devices.resolve_device(device)
    split, _ = load_split(quick=True, real=False)
    rate = measure_rate(RECIPES["nephros"], split, torch_device, 2.0)
    print(
        f"{devices.device_name(torch_device)}: imports took {imported - start:.0f} s, the first step and 4 s of steps "
        f"{time.perf_counter() - imported:.0f} s; nephros trains on {rate:,.0f} images/s with nothing beside it, which is "
        f"{TRAIN_IMAGES / rate:.1f} s per epoch",
        flush=True,
    )


def main() -> None:
    """Run a job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("network", "source", "draws", "tests", "probe"))
    parser.add_argument("what", nargs="*")
    parser.add_argument("--seconds", type=float, required=True, help="that it has")
    add_options(parser)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupt)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        raise SystemExit(run_job(args))
    except KeyboardInterrupt:
        raise SystemExit("Ended at its deadline.") from None


def run_job(args: argparse.Namespace) -> int:
    """Run what the arguments name; return the exit code."""
    shared = (args.runs, args.data, args.device)
    if args.kind == "tests":
        return run_tests()
    if args.kind == "probe":
        probe(args.device)
    elif args.kind == "network":
        from benchmarks.gpu.networks import train_one

        train_one(args.what[0], *shared, args.seconds, args.quick)
    else:
        from benchmarks.gpu.draws import run_draws, train_source

        if args.kind == "source":
            train_source(args.what[0], *shared, args.quick)
        else:
            task, size, *draws = args.what
            run_draws(task, int(size), [int(draw) for draw in draws], *shared, args.quick)
    return 0


if __name__ == "__main__":
    main()
