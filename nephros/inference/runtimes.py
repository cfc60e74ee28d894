"""The runtimes in which an exported network predicts: ONNX Runtime, on CPUs and GPUs, and OpenVINO, on CPUs."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import IncompatibleError, InvalidArgument, require_extra
from nephros.inference.onnx_session import (
    CUDA,
    ForwardFn,
    batched_forward_fn,
    create_session,
    execution_providers,
    onnx_forward_fn,
    session_forward_fn,
)
from nephros.inference.parallel_batches import cell_parallel_forward_fn, count_threads

RUNTIMES = ("onnxruntime", "openvino")
DEFAULT_RUNTIME = "onnxruntime"


def check_runtime(runtime: str, device: str) -> None:
    """Raise InvalidArgument unless a runtime of that name is known and predicts on that device."""
    if runtime not in RUNTIMES:
        raise InvalidArgument("runtime", runtime, f"one of {', '.join(RUNTIMES)}")
    if runtime == "openvino" and device == "cuda":
        raise InvalidArgument("runtime", runtime, "onnxruntime for a GPU; OpenVINO predicts on the CPU")


def open_network(model: bytes, device: str, threads: int, runtime: str) -> tuple[ForwardFn, bool]:
    """Return the network in the bytes of an ONNX model, and whether it runs on a GPU.

    Args:
        model: the ONNX file's bytes.
        device: cpu, cuda or auto.
        threads: CPU threads per call; 0 takes the environment variable OMP_NUM_THREADS, else all cores.
        runtime: one of `RUNTIMES`.

    Raises:
        InvalidArgument: there is no such runtime, or it can't use the device.
        MissingDependency: it is not installed.
        IncompatibleError: OpenVINO can't run the model.
    """
    check_runtime(runtime, device)
    if runtime == "openvino":
        return _open_in_openvino(model, threads), False
    session = create_session(model, threads, execution_providers(device))
    forward_fn = session_forward_fn(session)
    if CUDA in session.get_providers():
        return forward_fn, True
    if (n_threads := count_threads(threads)) > 1:
        forward_fn = cell_parallel_forward_fn(forward_fn, lambda: onnx_forward_fn(model, 1), n_threads)
    return forward_fn, False


def _open_in_openvino(model: bytes, threads: int) -> ForwardFn:
    with require_extra("The runtime needs OpenVINO: pip install 'nephros[openvino]'.", "openvino"):
        import openvino
    omp_num_threads = os.environ.get("OMP_NUM_THREADS", "")
    n_threads = threads or (int(omp_num_threads) if omp_num_threads.isdecimal() else 0)
    # By default OpenVINO computes in bf16 where the CPU has it, and its predictions would be others than ONNX Runtime's.
    properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if n_threads:
        properties["INFERENCE_NUM_THREADS"] = n_threads
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(model), "CPU", properties)
    except RuntimeError as error:
        logging.getLogger(__name__).debug("OpenVINO: %s", error)
        raise IncompatibleError(
            "OpenVINO can't run this model, because it lacks an operator of it or is too old: predict with "
            "`runtime='onnxruntime'`."
        ) from error
    names = [output.any_name for output in compiled.outputs]
    shapes = [tuple(int(str(size)) for size in list(output.partial_shape)[1:]) for output in compiled.outputs]
    requests = threading.local()  # a request serves one thread at a time

    def run(cells_nchw: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        if not hasattr(requests, "request"):
            requests.request = compiled.create_infer_request()
        outputs = requests.request.infer({"cells": cells_nchw})
        return [np.array(outputs[name]) for name in names]

    return batched_forward_fn(run, names, shapes)
