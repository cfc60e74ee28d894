"""Speed of the bundled models: runtimes against the machine's matrix rate, a cold command, and a folder of files."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import BenchmarkConfig, Row, build_parser, parse_config, publish
from benchmarks.help_time import time_command
from benchmarks.predict_files import measure_folder
from benchmarks.timing import best_rate, interleave, mean_rate, ratio, summary
from benchmarks.workloads import load_train_split, matrix_products
from nephros.exporters.safetensors_io import load_safetensors
from nephros.inference.bundled import bundled_file
from nephros.inference.onnx_session import onnx_forward_fn
from nephros.inference.predictor import Predictor

BATCHES = (1, 256)
SHARE_TARGET = 0.6
"""Share of the matrix rate that the fastest runtime should reach."""
COLD_TARGET = 1.5
"""Seconds of `nephros predict one.png` from a cold process."""
PredictFn = Callable[[NDArray[np.uint8]], Any]


def runtimes() -> dict[str, PredictFn]:
    """Return each installed runtime by name; all map (n, h, w) uint8 cells to the same outputs."""
    module, _ = load_safetensors(bundled_file("model.safetensors"))

    @torch.inference_mode()
    def predict_torch(cells: NDArray[np.uint8]) -> Any:
        return module(torch.from_numpy(cells)[:, None])

    predictors: dict[str, PredictFn] = {"torch": predict_torch}
    predictors["ONNX Runtime"] = onnx_forward_fn(bundled_file("model.onnx").read_bytes(), torch.get_num_threads())
    try:
        import openvino
    except ModuleNotFoundError:
        return predictors
    # By default OpenVINO uses bf16 where the CPU has it; the other runtimes don't.
    properties = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(str(bundled_file("model.onnx")), "CPU", properties)
    predictors["OpenVINO"] = lambda cells: compiled(cells[:, None])
    return predictors


def _predict_loop(predict: PredictFn, cells: NDArray[np.uint8]) -> Iterator[float]:
    while True:
        predict(cells)
        yield len(cells)


def throughput(config: BenchmarkConfig, cells: NDArray[np.uint8]) -> list[Row]:
    """Return images per second of each runtime and batch size, and their share of the matrix rate."""
    network_info = Predictor.from_onnx().card["network"]
    cost = network_info["multiply_adds_per_view"] * network_info["tta_views"]
    rows: list[Row] = []
    cpu = torch.device("cpu")
    for batch in BATCHES:
        contenders = {
            name: mean_rate(_predict_loop(predict, cells[:batch]), cpu) for name, predict in runtimes().items()
        }
        rates = interleave({"matrix": best_rate(matrix_products(cpu, None), cpu), **contenders}, config)
        for name in contenders:
            used_flops = [2 * cost * rate for rate in rates[name]]
            rows.append(
                {
                    "what": name,
                    "batch": batch,
                    "images_per_s": summary(rates[name]),
                    "speedup_over_torch": ratio(rates[name], rates["torch"]),
                    "share_of_matrix_rate": ratio(used_flops, rates["matrix"]),
                    "target_share": SHARE_TARGET,
                }
            )
    if "OpenVINO" not in contenders:
        rows.append({"what": "OpenVINO", "remark": "not installed, so not measured"})
    return rows


def measure_cold_start(config: BenchmarkConfig, cells: NDArray[np.uint8], folder: Path) -> Row:
    """Return the seconds that a cold `nephros predict one.png` takes."""
    image_path = folder / "one.png"
    Image.fromarray(cells[0]).save(image_path)
    rates = interleave({"predict": time_command([sys.executable, "-m", "nephros", "predict", str(image_path)])}, config)
    return {
        "what": "nephros predict one.png, cold",
        "seconds": summary([1 / rate for rate in rates["predict"]]),
        "target_seconds": COLD_TARGET,
    }


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.add_argument("--files", type=int, default=100_000, help="PNG files in the folder (default: 100000)")
    config = parse_config(parser, "predict")
    if config.device.type != "cpu":
        parser.error("this benchmark measures the CPU: use --device cpu.")
    split, data = load_train_split(config)
    cells = split.images[: max(BATCHES)]
    files = min(config.args.files, 300) if config.quick else config.args.files
    with tempfile.TemporaryDirectory() as scratch:
        rows = throughput(config, cells)
        rows.append(measure_cold_start(config, cells, Path(scratch)))
        rows += measure_folder(config, split.images[:4096], Path(scratch), files)
    publish(config, f"Predictions of the bundled models, {data}", rows, data)


if __name__ == "__main__":
    main()
