"""Devices: which processor computes, and in what precision."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Iterator
from typing import Any, Literal

import torch

from nephros.environment import available_memory
from nephros.errors import InvalidArgument
from nephros.text_tables import pluralize

DeviceName = Literal["auto", "cpu", "cuda"]
MIN_BF16_SPEEDUP = 1.2
"""Minimum speedup of bf16 over float32 matrix products at which `native` uses bf16 on a CPU: other layers gain less."""


def resolve_device(name: str = "auto") -> torch.device:
    """Return a device by name; auto is the GPU if torch sees one. InvalidArgument for cuda without a GPU."""
    if name not in ("auto", "cpu", "cuda"):
        raise InvalidArgument("device", name, "one of auto, cpu, cuda")
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise InvalidArgument(
            "device",
            name,
            "cpu or auto, since torch sees no GPU here",
            hint="For a GPU, install its driver and a CUDA build of torch.",
        )
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_threads(threads: int | None) -> None:
    """Raise InvalidArgument unless `threads` is None or from 1 to the number of this process's cores."""
    is_int = isinstance(threads, int) and not isinstance(threads, bool)
    if threads is not None and not (is_int and 1 <= threads <= available_cores()):
        raise InvalidArgument("threads", threads, f"a whole number from 1 to {available_cores()}, the cores there are")


@contextlib.contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Within the block, let torch use so many CPU threads; None leaves their number as it is."""
    previous = torch.get_num_threads()
    torch.set_num_threads(threads or previous)
    try:
        yield
    finally:
        torch.set_num_threads(previous)


def is_launch_bound(tensor: torch.Tensor) -> bool:
    """Return whether many small operators on such a tensor take as long as their kernels take to start, as on a GPU."""
    return tensor.is_cuda


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or for CPUs the number of threads that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {pluralize(torch.get_num_threads(), 'thread')}"


def free_memory(device: torch.device) -> int:
    """Return the free memory of the device in bytes; for a CPU, the available host memory."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory()


def autocast_dtype(amp: str, device: torch.device) -> torch.dtype | None:
    """Return the dtype for autocast, or None for full precision.

    auto is full precision on CPUs, and on GPUs bf16 where the chip has it, else fp16. native is like auto, but uses bf16 also on
    CPUs that have instructions for it and are measured to be faster with them; training is then at least 1.5 times as fast.
    """
    if amp in ("auto", "native"):
        if device.type == "cpu":
            return (
                torch.bfloat16
                if amp == "native" and _has_bf16_instructions() and _bf16_speedup() > MIN_BF16_SPEEDUP
                else None
            )
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]


def autocast(dtype: torch.dtype | None, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which this thread computes in `dtype` where that is safe; in full precision if it is None."""
    return torch.autocast(device.type, dtype) if dtype else contextlib.nullcontext()


def dtype_name(dtype: torch.dtype) -> str:
    """Return bf16 or fp16."""
    return {torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]


def _has_bf16_instructions() -> bool:
    """Return whether the CPU has bf16 matrix instructions; False where torch is too old to tell."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@functools.cache
def _bf16_speedup() -> float:
    """Return the speedup of bf16 over float32 matrix products on this CPU, measured in a few hundredths of a second.

    CPU flags don't tell: some Xeons (avx512_bf16 without amx_bf16) take twice as long for bf16, EPYCs with that flag half.
    """
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for dtype in [*seconds] * 6:
        matrix = torch.ones(512, 512, dtype=dtype)
        start = time.perf_counter()
        matrix @ matrix
        seconds[dtype].append(time.perf_counter() - start)
    # The first product of each dtype includes the setup.
    float32_seconds, bf16_seconds = (min(times[1:]) for times in seconds.values())
    return float32_seconds / bf16_seconds
