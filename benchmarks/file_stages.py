"""Where the processor time of `nephros predict` on a folder of PNG files goes, in microseconds per file, on one thread.

Processor time, unlike seconds, hardly depends on what else runs; `benchmarks.predict_modes` says how fast the whole command is.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image

from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish
from benchmarks.timing import summary
from benchmarks.workloads import load_train_split
from nephros.exporters.loading import load_classifier
from nephros.inference.classify import classify_cells
from nephros.inference.ood.detector import find_ood_reasons
from nephros.inference.prediction_files import write_csv
from nephros.inference.predictor import Predictor
from nephros.inference.reader import CellReader

T = TypeVar("T")
STAGES = (
    "list the folder",
    "read and decode",
    "network",
    "out-of-distribution scores",
    "rest of predicting",
    "CSV table",
)


def measure_folder(predictor: Predictor, folder: Path) -> dict[str, float]:
    """Return the microseconds of processor time per file of each of STAGES."""
    seconds: list[float] = []

    def timed(function: Callable[[], T]) -> T:
        start = time.process_time()
        result = function()
        seconds.append(time.process_time() - start)
        return result

    detector = predictor.card["ood_detector"]
    reader = timed(lambda: CellReader([folder], predictor.input_shape, conversion=predictor.input_conversion))
    batches = timed(lambda: list(reader.iter_batches()))
    outputs = timed(lambda: [predictor.forward(cells) for _, cells in batches])
    distances = [output.get("feature_distance") for output in outputs]
    timed(lambda: [find_ood_reasons(detector, b[1], d) for b, d in zip(batches, distances, strict=True)])
    predictions = timed(lambda: classify_cells(predictor, batches, reader.sources, reader.errors, 0.9, list))
    seconds[-1] = max(0.0, seconds[-1] - seconds[2] - seconds[3])
    timed(lambda: write_csv(predictions, io.StringIO()))
    return {stage: 1e6 * s / len(predictions) for stage, s in zip(STAGES, seconds, strict=True)}


def measure(config: BenchmarkConfig, folder: Path) -> list[Row]:
    """Return one row per stage and precision."""
    rows: list[Row] = []
    for precision in ("int8", "float32"):
        predictor = load_classifier(precision=precision, threads=1)
        rounds = [measure_folder(predictor, folder) for _ in range(config.repeats + 1)][1:]  # the first warms up
        for stage in STAGES:
            values = [times[stage] for times in rounds]
            shares = [times[stage] / sum(times.values()) for times in rounds]
            rows.append(
                {"precision": precision, "stage": stage, "us_per_file": summary(values), "share": summary(shares)}
            )
    return rows


def main() -> None:
    """Run the benchmark."""
    os.environ["OMP_NUM_THREADS"] = "1"  # also of the threads that would divide many cells
    parser = build_parser(__doc__ or "")
    parser.set_defaults(repeats=3)
    parser.add_argument("--files", type=int, default=5000, help="PNG files in the folder (default: 5000)")
    config = parse_config(parser, "file_stages")
    if config.device.type != "cpu":
        parser.error("this benchmark measures the CPU: use --device cpu.")
    torch.set_num_threads(1)
    split, data = load_train_split(config)
    n_files = min(config.args.files, 100) if config.quick else config.args.files
    with tempfile.TemporaryDirectory() as scratch:
        for index in range(n_files):
            image = Image.fromarray(split.images[index % len(split.images)])
            image.save(Path(scratch) / f"{index:06}.png", compress_level=1)
        rows = measure(config, Path(scratch))
    publish(config, f"Processor time per file of {n_files:,} PNG files, {data}", rows, data)


if __name__ == "__main__":
    main()
