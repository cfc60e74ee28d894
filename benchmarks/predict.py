"""How fast the model in the box answers: runtimes against the machine's matrix rate, a cold command, and a folder of files."""

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

from benchmarks.common import Row, Settings, parse, parser, publish
from benchmarks.help_time import command
from benchmarks.predict_files import folder_of_files
from benchmarks.timing import best_rate, interleave, mean_rate, ratio, summary
from benchmarks.workloads import open_data, products
from nephros.exporters.safetensors_io import unpack
from nephros.inference.bundled import box_file
from nephros.inference.predictor import Engine, session_network

BATCHES = (1, 256)
SHARE_TARGET = 0.6
"""Of the matrix rate, that the fastest runtime shall reach."""
COLD_TARGET = 1.5
"""Seconds of `nephros predict one.png` from a cold process."""
Answer = Callable[[NDArray[np.uint8]], Any]


def runtimes() -> dict[str, Answer]:
    """Return each runtime that is installed, by name: all answer (n, h, w) uint8 cells with the same outputs."""
    module, _ = unpack(box_file("model.safetensors"))

    @torch.inference_mode()
    def by_torch(cells: NDArray[np.uint8]) -> Any:
        return module(torch.from_numpy(cells)[:, None])

    found: dict[str, Answer] = {"torch": by_torch}
    found["ONNX Runtime"] = session_network(box_file("model.onnx").read_bytes(), torch.get_num_threads())
    try:
        import openvino
    except ModuleNotFoundError:
        return found
    # Left to itself it takes bf16 where the chip has it, and the others don't.
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(str(box_file("model.onnx")), "CPU", settings)
    found["OpenVINO"] = lambda cells: compiled(cells[:, None])
    return found


def _answers(answer: Answer, cells: NDArray[np.uint8]) -> Iterator[float]:
    while True:
        answer(cells)
        yield len(cells)


def throughput(settings: Settings, cells: NDArray[np.uint8]) -> list[Row]:
    """Return images a second of each runtime at each batch, and the share of the matrix rate: 2 operations a multiply-add."""
    network = Engine.open().card["network"]
    cost = network["multiply_adds_a_view"] * network["views"]
    rows: list[Row] = []
    cpu = torch.device("cpu")
    for batch in BATCHES:
        contenders = {name: mean_rate(_answers(answer, cells[:batch]), cpu) for name, answer in runtimes().items()}
        rates = interleave({"matrix": best_rate(products(cpu, None), cpu), **contenders}, settings)
        for name in contenders:
            used = [2 * cost * rate for rate in rates[name]]
            rows.append(
                {
                    "what": name,
                    "batch": batch,
                    "images_per_s": summary(rates[name]),
                    "against_torch": ratio(rates[name], rates["torch"]),
                    "share_of_matrix_rate": ratio(used, rates["matrix"]),
                    "target_share": SHARE_TARGET,
                }
            )
    if "OpenVINO" not in contenders:
        rows.append({"what": "OpenVINO", "remark": "not installed, and so not measured"})
    return rows


def cold(settings: Settings, cells: NDArray[np.uint8], folder: Path) -> Row:
    """Return the seconds of a cold `nephros predict one.png`."""
    picture = folder / "one.png"
    Image.fromarray(cells[0]).save(picture)
    rates = interleave({"predict": command([sys.executable, "-m", "nephros", "predict", str(picture)])}, settings)
    return {
        "what": "nephros predict one.png, cold",
        "seconds": summary([1 / rate for rate in rates["predict"]]),
        "target_seconds": COLD_TARGET,
    }


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__ or "")
    made.add_argument("--files", type=int, default=100_000, help="PNG files in the folder (default: 100000)")
    settings = parse(made, "predict")
    if settings.device.type != "cpu":
        made.error("this benchmark is of the CPU: give --device cpu.")
    split, data = open_data(settings)
    cells = split.images[: max(BATCHES)]
    files = min(settings.options.files, 300) if settings.quick else settings.options.files
    with tempfile.TemporaryDirectory() as scratch:
        rows = throughput(settings, cells)
        rows.append(cold(settings, cells, Path(scratch)))
        rows += folder_of_files(settings, split.images[:4096], Path(scratch), files)
    publish(settings, f"Answers of the model in the box, {data}", rows, data)


if __name__ == "__main__":
    main()
