"""Which of a model's two files predicts: float32, or int8 where the processor gains by it."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

import numpy as np

from nephros.errors import InvalidArgument
from nephros.inference.model_card import ModelCard
from nephros.inference.onnx_session import ForwardFn

PRECISIONS = ("auto", "float32", "int8")
PRECISION_VARIABLE = "NEPHROS_PRECISION"
"""Environment variable that says what auto means, for the same digits in all programs of a machine or a cluster."""
MAX_AUTO_DROP = 0.001
"""Accuracy on validation that an int8 model may lose against float32 and still be chosen automatically."""
MIN_SPEEDUP = 1.5
"""Speedup over float32, measured when the models are opened, from which int8 is chosen automatically. With the instructions it is
2.5 or more, so that noise does not change the choice."""
N_TIMED_CELLS, N_TIMED_ROUNDS = 8, 3
DOT_PRODUCT_FLAGS = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"}
"""Flags of processors, in /proc/cpuinfo, that multiply and add eight-bit numbers without saturating."""


def resolve_precision(precision: str) -> str:
    """Return a precision as it is named, auto as the environment variable NEPHROS_PRECISION names it.

    Raises InvalidArgument unless it is one of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise InvalidArgument("precision", precision, f"one of {', '.join(PRECISIONS)}")
    variable = os.environ.get(PRECISION_VARIABLE) or "auto"
    if variable not in PRECISIONS:
        raise InvalidArgument(PRECISION_VARIABLE, variable, f"one of {', '.join(PRECISIONS)}")
    return variable if precision == "auto" else precision


def has_int8_instructions() -> bool:
    """Return whether the processor is known to have instructions for int8 networks.

    Older x86 processors add in 16 bits that saturate, which changes predictions, and gain less or nothing.
    """
    if platform.machine().lower() == "arm64":  # Apple's
        return True
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    lines = (line.partition(":") for line in text.splitlines())
    return any(
        key.strip() in ("flags", "Features") and DOT_PRODUCT_FLAGS & set(flags.split()) for key, _, flags in lines
    )


def loses_little(card: ModelCard) -> bool:
    """Return whether an int8 model's card states a drop in accuracy that `auto` accepts."""
    quantization = card["network"].get("quantization")
    if quantization is None or "validation_accuracy" not in quantization:
        return False
    return quantization["validation_accuracy"]["drop"] <= MAX_AUTO_DROP


def measured_speedup(float32: ForwardFn, int8: ForwardFn, card: ModelCard) -> float:
    """Return how many times as fast the second network is on a few cells, which takes some tens of milliseconds.

    It is measured in processor time. In seconds the ratio would vary tenfold on a busy machine, and with it the choice.
    """
    cells = card["input"]
    shape = (cells["height"], cells["width"], *([cells["channels"]] if cells["channels"] > 1 else []))
    batch = np.zeros((N_TIMED_CELLS, *shape), dtype=np.uint8)
    seconds: dict[str, list[float]] = {"float32": [], "int8": []}
    for _ in range(N_TIMED_ROUNDS + 1):  # the first warms up
        for name, forward_fn in (("float32", float32), ("int8", int8)):
            start = time.process_time()
            forward_fn(batch)
            seconds[name].append(time.process_time() - start)
    return min(seconds["float32"][1:]) / max(min(seconds["int8"][1:]), 1e-9)
