"""How fast the bundled models predict: five views, the image alone, eight bits, and all models, quiet and beside a busy process.

All take turns: in the runtime, with many cells and with one at a time; on a folder of PNG files by the whole command; and behind
`nephros serve` with 64 clients that send a cell at a time.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish
from benchmarks.predict_files import time_stages
from benchmarks.serving import load_contender, percentiles_ms, request_bodies, server
from benchmarks.timing import interleave, mean_rate, ratio, summary
from benchmarks.waiting import busy_process
from benchmarks.workloads import load_train_split
from nephros.exporters.loading import load_classifier
from nephros.inference.precision import has_int8_instructions

FIVE_VIEWS = "five views, float32"
MODES: dict[str, dict[str, Any]] = {
    FIVE_VIEWS: {"tta": True, "precision": "float32"},
    "image alone, float32": {"precision": "float32"},
    "image alone, int8": {"precision": "int8"},
    "nephros-fast, float32": {"model": "nephros-fast", "precision": "float32"},
    "nephros-fast, int8": {"model": "nephros-fast", "precision": "int8"},
    "nephros-large, float32": {"model": "nephros-large", "precision": "float32"},
    "nephros-large, int8": {"model": "nephros-large", "precision": "int8"},
}
"""What is compared -> arguments of `nephros.load_classifier`; the first was the default before."""
FROM_END_TO_END = tuple(MODES)[:3]
"""The modes that are also measured on files and behind the server."""
BATCHES = (256, 1)
N_CLIENTS = 64
FOLDER_TARGET_S, N_TARGET_FILES = 25, 100_000
BACKGROUNDS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "nothing": contextlib.nullcontext,
    "a busy process": busy_process,
}


def available_modes() -> dict[str, dict[str, Any]]:
    """Return the modes whose model comes with nephros in their precision."""
    modes = {}
    for name, options in MODES.items():
        with contextlib.suppress(ValueError):  # InvalidArgument: no file in that precision
            load_classifier(**options)
            modes[name] = options
    return modes


def _predict_loop(predictor: Any, cells: NDArray[np.uint8]) -> Iterator[float]:
    while True:
        predictor.forward(cells)
        yield len(cells)


def measure_runtime(config: BenchmarkConfig, modes: dict[str, dict[str, Any]], cells: NDArray[np.uint8]) -> list[Row]:
    """Return images per second of each mode, and milliseconds per cell where they come one at a time.

    ONNX Runtime predicts, but torch where a model comes without an ONNX file in that precision.
    """
    cpu, rows = torch.device("cpu"), []
    for batch in BATCHES:
        predictors = {
            name: load_classifier(threads=torch.get_num_threads(), **options) for name, options in modes.items()
        }
        loops = {name: mean_rate(_predict_loop(p, cells[:batch]), cpu) for name, p in predictors.items()}
        rates = interleave(loops, config)
        for name in modes:
            row: Row = {"what": f"runtime, {name}", "batch": batch, "images_per_s": summary(rates[name])}
            row["speedup_over_five_views"] = ratio(rates[name], rates[FIVE_VIEWS])
            if batch == 1:
                row["ms_per_image"] = summary([1000 / rate for rate in rates[name]])
            rows.append(row)
    return rows


def measure_folder(config: BenchmarkConfig, modes: dict[str, dict[str, Any]], folder: Path, subset: Path) -> list[Row]:
    """Return how fast the whole command predicts a folder of PNG files, and what its parts alone would do.

    In float32 the command predicts only a `subset` of the folder, whose parts are measured in all modes. Its processor time
    hardly depends on what else runs: divided by the number of cores, it is the time that they need if they are never idle.
    """
    seconds: dict[str, list[float]] = {name: [] for name in modes}
    processor_seconds: dict[str, list[float]] = {name: [] for name in modes}
    sizes = {path: sum(1 for _ in path.iterdir()) for path in (folder, subset)}
    inputs = {name: subset if options["precision"] == "float32" else folder for name, options in modes.items()}
    for round_ in range(config.repeats):
        for name, options in modes.items():
            if round_ and options.get("tta"):
                continue
            args = [sys.executable, "-m", "nephros", "predict", str(inputs[name]), "--out", f"{folder}.csv"]
            args += ["--precision", options["precision"], *(["--tta"] if options.get("tta") else [])]
            start, processor_start = time.perf_counter(), _processor_time_of_children()
            subprocess.run(args, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
            processor_seconds[name].append(_processor_time_of_children() - processor_start)
    rows: list[Row] = []
    rates = {name: [sizes[inputs[name]] / elapsed for elapsed in seconds[name]] for name in modes}
    for name, options in modes.items():
        decode_s, predict_s = time_stages(load_classifier(**options), subset)
        rows.append(
            {
                "what": f"{sizes[inputs[name]]:,} PNG files, {name}",
                "images_per_s": summary(rates[name]),
                "speedup_over_five_views": summary([rate / rates[FIVE_VIEWS][0] for rate in rates[name]]),
                "decoded_per_s": sizes[subset] / decode_s,
                "predicted_per_s": sizes[subset] / predict_s,
                "seconds_for_100000": summary([N_TARGET_FILES / rate for rate in rates[name]]),
                "processor_seconds_for_100000": summary(
                    [N_TARGET_FILES / sizes[inputs[name]] * elapsed for elapsed in processor_seconds[name]]
                ),
                "target_seconds": FOLDER_TARGET_S,
            }
        )
    return rows


def _processor_time_of_children() -> float:
    """Return the seconds of processor time of all processes that this one started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure_server(config: BenchmarkConfig, modes: dict[str, dict[str, Any]], requests: list[bytes]) -> list[Row]:
    """Return how fast the server answers many clients that send one cell at a time."""
    latencies: dict[str, list[list[float]]] = {name: [] for name in modes}
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(server(dynamic_batching=True, **options)) for name, options in modes.items()}
        contenders = {name: load_contender(port, N_CLIENTS, requests, latencies[name]) for name, port in ports.items()}
        rates = interleave(contenders, config)
    return [
        {
            "what": f"server, {N_CLIENTS} clients, {name}",
            "images_per_s": summary(rates[name]),
            "speedup_over_five_views": ratio(rates[name], rates[FIVE_VIEWS]),
            **percentiles_ms(latencies[name][1:]),
        }
        for name in modes
    ]


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.set_defaults(repeats=3, seconds=1.0)
    parser.add_argument("--files", type=int, default=N_TARGET_FILES, help="PNG files in the folder (default: 100000)")
    parser.add_argument(
        "--neighbor",
        choices=("both", "none", "busy"),
        default="both",
        help="beside what it is measured (default: both)",
    )
    config = parse_config(parser, "predict_modes")
    if config.device.type != "cpu":
        parser.error("this benchmark measures the CPU: use --device cpu.")
    split, data = load_train_split(config)
    files = min(config.args.files, 200) if config.quick else config.args.files
    modes = available_modes()
    end_to_end = {name: modes[name] for name in FROM_END_TO_END if name in modes}
    requests = request_bodies(split.images[:512])
    chosen = {"both": tuple(BACKGROUNDS), "none": ("nothing",), "busy": ("a busy process",)}[config.args.neighbor]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder, subset = Path(scratch) / "cells", Path(scratch) / "fifth"
        for path, n_files in ((folder, files), (subset, files // 5)):
            path.mkdir()
            for index in range(n_files):
                Image.fromarray(split.images[index % len(split.images)]).save(
                    path / f"{index:06}.png", compress_level=1
                )
        for background in chosen:
            with BACKGROUNDS[background]():
                measured = measure_runtime(config, modes, split.images[: max(BATCHES)])
                measured += measure_folder(config, end_to_end, folder, subset)
                measured += measure_server(config, end_to_end, requests)
            rows += [{"beside": background, **row} for row in measured]
    instructions = "with" if has_int8_instructions() else "without"
    title = f"Predictions of the bundled models, {data}, processor {instructions} instructions for int8"
    publish(config, title, rows, data)


if __name__ == "__main__":
    main()
