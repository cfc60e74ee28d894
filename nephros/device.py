"""Which processor runs, and in what precision."""

from __future__ import annotations

import functools
import time
from typing import Any, Literal

import torch

from nephros.environment import available_memory
from nephros.errors import NephrosError

DeviceName = Literal["auto", "cpu", "cuda"]
MIN_BF16_SPEEDUP = 1.2
"""How much faster than float32 a CPU must multiply bf16 numbers for `native` to take them: layers between gain less."""


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device of that name; auto takes a GPU where torch sees one. UserError when a GPU is asked for in vain."""
    if name not in ("auto", "cpu", "cuda"):
        raise NephrosError(f"--device is {name}, but it must be one of auto, cpu, cuda.")
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise NephrosError(
            "--device cuda: torch sees no GPU here; use --device cpu, or install a CUDA build of torch and its driver."
        )
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def device_name(device: torch.device) -> str:
    """Return the processor's name and, for CPUs, the number of threads that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on the device (for a CPU: available host memory)."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory()


def autocast_dtype(amp: str, device: torch.device) -> torch.dtype | None:
    """Return the dtype that autocast uses, or None for full precision.

    auto is full precision on CPUs; on GPUs bf16 where the chip has it, else fp16. native is auto, but bf16 on CPUs too that
    have instructions for it and prove faster by them: training is then half as fast again and more.
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


def dtype_name(dtype: torch.dtype) -> str:
    """Return bf16 or fp16."""
    return {torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]


def _has_bf16_instructions() -> bool:
    """Return whether the CPU has instructions that multiply bf16 numbers; older torches can't tell."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@functools.cache
def _bf16_speedup() -> float:
    """Return how many times as fast as float32 matrices this CPU multiplies bf16 ones, measured in a few hundredths of a second.

    Its flags can't say: some Xeons (avx512_bf16 without amx_bf16) take twice as long for bf16, EPYCs with that flag half.
    """
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for dtype in [*seconds] * 6:
        matrix = torch.ones(512, 512, dtype=dtype)
        start = time.perf_counter()
        matrix @ matrix
        seconds[dtype].append(time.perf_counter() - start)
    float32_seconds, bf16_seconds = (
        min(times[1:]) for times in seconds.values()
    )  # all but the first, which sets things up
    return float32_seconds / bf16_seconds
