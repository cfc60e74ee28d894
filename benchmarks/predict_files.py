"""A folder of PNG files from end to end: what limits `nephros predict`, with the bundled model and with a tiny one."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import nephros
from benchmarks.common import BenchmarkConfig, Row
from benchmarks.timing import ratio, summary
from nephros.exporters.export import export
from nephros.inference.predictor import Predictor
from nephros.inference.reader import CellReader
from nephros.presets import RECIPES

TINY = "course-1"
"""Recipe of the second model: a network so small that reading files dominates."""


def measure_folder(config: BenchmarkConfig, cells: NDArray[np.uint8], scratch: Path, files: int) -> list[Row]:
    """Return a row per model: how fast a folder of that many PNG files is decoded, predicted, and handled by the whole command.

    Decoding and the network are timed one after the other on the folder's first tenth, the command once on all of it.
    """
    all_files, subset = scratch / "whole", scratch / "tenth"
    for folder, count in ((all_files, files), (subset, files // 10)):
        folder.mkdir()
        for index in range(count):
            Image.fromarray(cells[index % len(cells)]).save(folder / f"{index:06}.png", compress_level=1)
    models = {"bundled model": None, f"{TINY}, exported": tiny_model(scratch / "run")}
    return [_measure_model(config, name, model, subset, all_files, files) for name, model in models.items()]


def tiny_model(run: Path) -> Path:
    """Train the tiny network for one epoch on synthetic cells, export it, and return the file; only its speed matters."""
    recipe = dataclasses.replace(RECIPES[TINY], epochs=1)
    run_folder = nephros.train(recipe, "synthetic", out=run)
    return export(run_folder.root, force=True)


def _measure_model(
    config: BenchmarkConfig, name: str, model: Path | None, subset: Path, all_files: Path, files: int
) -> Row:
    predictor = Predictor.from_onnx(model)
    decoding, network = [], []
    for _ in range(max(1, config.repeats // 3)):
        timings = time_stages(predictor, subset)
        decoding.append(timings[0])
        network.append(timings[1])
    args = [
        sys.executable,
        "-m",
        "nephros",
        "predict",
        str(all_files),
        "--out",
        str(all_files.parent / "predictions.csv"),
    ]
    args += ["--model", str(model)] if model else []
    start = time.perf_counter()
    subprocess.run(args, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    command_seconds = time.perf_counter() - start
    count = files // 10
    return {
        "what": f"{files:,} PNG files, {name}",
        "decoded_per_s": summary([count / seconds for seconds in decoding]),
        "predicted_per_s": summary([count / seconds for seconds in network]),
        "decoding_fraction": ratio(
            decoding, [decode_s + network_s for decode_s, network_s in zip(decoding, network, strict=True)]
        ),
        "command_seconds": command_seconds,
        "command_images_per_s": files / command_seconds,
    }


def time_stages(predictor: Predictor, folder: Path) -> tuple[float, float]:
    """Return the seconds for reading and decoding a folder, and for predicting its cells."""
    decoding = network = 0.0
    before = time.perf_counter()
    for _, batch in CellReader([folder], predictor.input_shape).iter_batches():
        decoded_at = time.perf_counter()
        predictor.predict_batch(batch)
        decoding += decoded_at - before
        before = time.perf_counter()
        network += before - decoded_at
    return decoding, network
