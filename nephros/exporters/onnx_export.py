"""A packaged network as an ONNX model, checked against torch."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nephros.errors import IncompatibleError, require_extra
from nephros.exporters.inference_module import InferenceModule
from nephros.exporters.packaging import run_module
from nephros.inference.onnx_file import DIGEST_METADATA_KEY, graph_sha256
from nephros.inference.onnx_session import onnx_forward_fn

N_PARITY_CELLS = 1000
MAX_PARITY_ERROR = 1e-5
"""Largest allowed difference of any probability between torch and ONNX Runtime."""
OPSET_VERSION, IR_VERSION = 20, 9
"""The newest that ONNX Runtime 1.17 (January 2024) opens; models that are written here use nothing newer."""


def require_onnx() -> contextlib.AbstractContextManager[None]:
    """Return a context that raises MissingDependency if a part of the extra nephros[export] is not installed."""
    message = "Writing ONNX needs onnx and onnxscript: pip install 'nephros[export]'."
    return require_extra(message, "onnx", "onnxscript", "onnx_ir", "sympy")


def to_onnx(module: InferenceModule, planes: int, height: int, width: int) -> bytes:
    """Return the module as ONNX: input ``cells`` uint8 (n, c, h, w) or, volumes, (n, d, h, w); outputs as `InferenceModule`'s.

    `planes` are the channels of images or the slices of volumes.
    """
    example = torch.zeros(2, planes, height, width, dtype=torch.uint8)
    with require_onnx(), warnings.catch_warnings(), _log_level("torch.onnx", logging.ERROR), torch.no_grad():
        warnings.simplefilter("ignore")  # about deprecations within torch itself
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            input_names=["cells"],
            output_names=list(module(example)),
            dynamic_shapes={"cells": {0: torch.export.Dim("n")}},
            opset_version=OPSET_VERSION,
            verbose=False,
        )
        assert program is not None
        return to_portable_bytes(program.model_proto)


@contextlib.contextmanager
def _log_level(name: str, level: int) -> Iterator[None]:
    """Within the block, silence a logger below `level`; torch.onnx warns that torchvision is missing."""
    other_logger = logging.getLogger(name)
    previous = other_logger.level
    other_logger.setLevel(level)
    try:
        yield
    finally:
        other_logger.setLevel(previous)


def to_portable_bytes(model: Any) -> bytes:
    """Return a model without the exporter's notes, which contain paths of this machine, in the versions stated above.

    The exporter states a newer IR version, and more operator sets, than the graph needs; the model is checked
    against those that it keeps.
    """
    import onnx

    graph = model.graph
    for message in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del message.metadata_props[:]
        message.doc_string = ""
    domains = {node.domain for node in graph.node}
    for entry in [entry for entry in model.opset_import if entry.domain not in domains]:
        model.opset_import.remove(entry)
    assert all(entry.version <= OPSET_VERSION for entry in model.opset_import if not entry.domain)
    model.ir_version = min(model.ir_version, IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def check_parity(module: InferenceModule, model: bytes, images: NDArray[np.uint8]) -> float:
    """Return the largest difference of a probability between torch and ONNX Runtime on the first 1,000 of some cells.

    Raises IncompatibleError if it is 1e-5 or more.
    """
    cells = images[:N_PARITY_CELLS]
    torch_probabilities = run_module(module, cells)["probabilities"]
    difference = float(np.abs(torch_probabilities - onnx_forward_fn(model)(cells)["probabilities"]).max())
    if not difference < MAX_PARITY_ERROR:
        raise IncompatibleError(
            f"The ONNX model's probabilities differ from torch's by up to {difference:.1e}, above {MAX_PARITY_ERROR:.0e}, so "
            "nothing was written: use `format` safetensors, and report the recipe."
        )
    return difference


def embed_card(model: bytes, card_json: str, key: str) -> bytes:
    """Return the ONNX model with `card_json` in its metadata under `key`, and the digest of its graph."""
    import onnx

    proto = onnx.load_from_string(model)
    del proto.metadata_props[:]
    digest = graph_sha256(proto.SerializeToString())
    onnx.helper.set_model_props(proto, {key: card_json, DIGEST_METADATA_KEY: digest})
    return bytes(proto.SerializeToString())
