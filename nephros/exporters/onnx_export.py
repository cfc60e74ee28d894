"""A packaged network as an ONNX file, checked against torch, and its eight-bit variant."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nephros.errors import UserError
from nephros.exporters.inference_module import Packaged
from nephros.exporters.packaging import Package, run_module
from nephros.inference.predictor import session_network

PARITY_CELLS = 1000
PARITY = 1e-5
"""Greatest difference of any probability between torch and ONNX Runtime."""
CALIBRATION_CELLS = 512
"""Validation images from which the ranges of eight-bit activations are taken."""


@contextlib.contextmanager
def needs_onnx() -> Iterator[None]:
    """Within the block a missing part of nephros[export] is one sentence."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("onnx", "onnxscript", "onnx_ir", "sympy"):
            raise
        raise UserError("Writing ONNX needs onnx and onnxscript: pip install 'nephros[export]'.") from None


def to_onnx(module: Packaged, channels: int, height: int, width: int) -> bytes:
    """Return the module as ONNX: input ``cells`` uint8 (n, c, h, w), outputs as `Packaged.forward` names them."""
    example = torch.zeros(2, channels, height, width, dtype=torch.uint8)
    with needs_onnx(), warnings.catch_warnings(), _quiet(), torch.no_grad():
        import onnx

        warnings.simplefilter("ignore")  # of torch's own parts, which it replaces before we could
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            input_names=["cells"],
            output_names=list(module(example)),
            dynamic_shapes={"cells": {0: torch.export.Dim("n")}},
            verbose=False,
        )
        assert program is not None
        return bytes(_bare(onnx, program.model_proto).SerializeToString())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns that torchvision is not there
    try:
        yield
    finally:
        logger.setLevel(level)


def _bare(onnx: Any, model: Any) -> Any:
    """Drop the exporter's notes, which hold paths of this machine, and check the model."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    return model


def check_parity(package: Package, model: bytes) -> float:
    """Return the greatest difference of a probability between torch and ONNX Runtime on 1,000 validation cells.

    UserError when it is 1e-5 or more.
    """
    cells = package.dataset.val.images[:PARITY_CELLS]
    ours = run_module(package.module, cells)["probabilities"]
    difference = float(np.abs(ours - session_network(model)(cells)["probabilities"]).max())
    if not difference < PARITY:
        raise UserError(
            f"The ONNX model's probabilities differ from torch's by up to {difference:.1e}, above {PARITY:.0e}: nothing was "
            "written; use --to safetensors, and report the recipe."
        )
    return difference


def with_card(model: bytes, text: str, key: str) -> bytes:
    """Return the ONNX model with `text` among its metadata."""
    import onnx

    proto = onnx.load_from_string(model)
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {key: text})
    return bytes(proto.SerializeToString())


def quantise(model: bytes, cells: NDArray[np.uint8]) -> bytes:
    """Return the model with convolutions in eight bits, ranges of activations taken from (n, c, h, w) uint8 cells.

    Weights have one scale an output channel. What follows the convolutions stays float32: it costs next to nothing, and
    distances and maps keep their meaning.
    """
    with needs_onnx(), tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.parts = iter(np.array_split(cells, max(1, len(cells) // 64)))

            def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
                part = next(self.parts, None)
                return None if part is None else {"cells": part}

        plain, ready, out = (Path(scratch) / name for name in ("plain.onnx", "ready.onnx", "out.onnx"))
        plain.write_bytes(model)
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)
        try:
            quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
            quantize_static(
                str(ready), str(out), Reader(), quant_format=QuantFormat.QDQ, op_types_to_quantize=["Conv"], per_channel=True,
                weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
            )  # fmt: skip
        finally:
            root.setLevel(level)
        return out.read_bytes()
