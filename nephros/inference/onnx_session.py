"""ONNX Runtime: sessions on the CPU or a GPU, and the network of one as a function."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nephros.environment import temporary_default
from nephros.errors import InvalidArgument

with temporary_default("ORT_DISABLE_TELEMETRY"):
    import onnxruntime

logger = logging.getLogger(__name__)

MAX_BATCH_PIXELS = 256 * 28 * 28
"""Pixels per call of the network; larger batches are no faster and take more memory."""
CUDA = "CUDAExecutionProvider"

ForwardFn = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]
"""(n, h, w) or (n, h, w, c) uint8 cells, or volumes (n, h, w, d) -> the outputs, by name, of
`nephros.exporters.inference_module.InferenceModule`."""


def onnx_forward_fn(model: bytes, threads: int = 0) -> ForwardFn:
    """Return the network in the bytes of an ONNX model, on the CPU."""
    return session_forward_fn(create_session(model, threads, execution_providers("cpu")))


def execution_providers(device: str) -> list[str]:
    """Return ONNX Runtime's providers for cpu, cuda or auto, which takes a GPU where the runtime has its provider.

    Raises InvalidArgument for another device, and for cuda where there is no such provider.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise InvalidArgument("device", device, "one of auto, cpu, cuda")
    has_cuda = CUDA in onnxruntime.get_available_providers()
    if device == "cuda" and not has_cuda:
        hint = "Install onnxruntime-gpu in place of onnxruntime."
        raise InvalidArgument("device", device, "cpu or auto, since this ONNX Runtime has no CUDA provider", hint=hint)
    return [*([CUDA] if has_cuda and device != "cpu" else []), "CPUExecutionProvider"]


def uses_gpu(device: str) -> bool:
    """Return whether ONNX Runtime tries a GPU first for cpu, cuda or auto."""
    return execution_providers(device)[0] == CUDA


def create_session(model: bytes, threads: int, providers: list[str]) -> onnxruntime.InferenceSession:
    """Return a session for the bytes of an ONNX model.

    `threads` is the number of CPU threads per call; 0 takes the environment variable OMP_NUM_THREADS, else all cores.
    """
    options = onnxruntime.SessionOptions()
    omp_num_threads = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = threads or (int(omp_num_threads) if omp_num_threads.isdecimal() else 0)
    # Threads that spin while they wait are many times slower when other processes are busy.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=providers)


def check_device(device: str, is_on_gpu: bool) -> None:
    """Where a session fell back to the CPU, as ONNX Runtime does in silence, raise InvalidArgument for cuda and warn for auto."""
    if device == "cpu" or is_on_gpu:
        return
    hint = "Install the GPU's driver, and the versions of CUDA and cuDNN that this onnxruntime-gpu needs."
    if device == "cuda":
        raise InvalidArgument("device", device, "cpu or auto, since ONNX Runtime can't use the GPU here", hint=hint)
    if CUDA in onnxruntime.get_available_providers():
        logger.warning("ONNX Runtime can't use the GPU here, so the CPU predicts. %s", hint)


def session_forward_fn(session: onnxruntime.InferenceSession) -> ForwardFn:
    """Return the network of a session, which takes batches of any size."""
    outputs = session.get_outputs()
    names = [output.name for output in outputs]

    def run(cells_nchw: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        arrays: list[NDArray[np.float32]] = session.run(names, {"cells": cells_nchw})
        return arrays

    return batched_forward_fn(run, names, [tuple(output.shape[1:]) for output in outputs])


def batched_forward_fn(
    run: Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]], names: list[str], shapes: list[tuple[int, ...]]
) -> ForwardFn:
    """Return a network that takes batches of any size and calls `run` with (n, c, h, w) cells, a limited number at a time.

    `names` and `shapes`, without the number of cells, are those of the arrays that `run` returns.
    """

    def forward(cells: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        if not len(cells):
            return {name: np.empty((0, *shape), dtype=np.float32) for name, shape in zip(names, shapes, strict=True)}
        cells_nchw = cells[:, None] if cells.ndim == 3 else cells.transpose(0, 3, 1, 2)
        n_slices = (
            cells_nchw.shape[1] if cells_nchw.shape[1] > 3 else 1
        )  # a network's maps grow by slices, not by colors
        step = max(1, MAX_BATCH_PIXELS // (cells.shape[1] * cells.shape[2] * n_slices))
        batches = [run(np.ascontiguousarray(cells_nchw[start : start + step])) for start in range(0, len(cells), step)]
        return {name: np.concatenate([batch[i] for batch in batches]) for i, name in enumerate(names)}

    return forward
