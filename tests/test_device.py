"""Devices by name, and the precision of mixed-precision training on CPUs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from nephros import device
from nephros.errors import InvalidArgument

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["tpu", *([] if torch.cuda.is_available() else ["cuda"])])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument) as exc_info:
        device.resolve_device(name)
    assert (exc_info.value.parameter, exc_info.value.value) == ("device", name)


def test_auto_is_full_precision_on_a_cpu() -> None:
    assert device.autocast_dtype("auto", CPU) is None


@pytest.mark.parametrize(
    ("capabilities", "speedup", "expected"),
    [
        ({"avx512_bf16": True}, 1.7, torch.bfloat16),
        ({"avx512_bf16": True}, 0.5, None),
        ({"amx_bf16": True, "avx2": True}, 4.0, torch.bfloat16),
        ({"avx512_bf16": False, "avx2": True}, 1.7, None),
    ],
)
def test_native_uses_bf16_on_a_cpu_that_is_faster_with_it(
    capabilities: dict[str, bool],
    speedup: float,
    expected: torch.dtype | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(device, "_bf16_speedup", lambda: speedup)
    assert device.autocast_dtype("native", CPU) == expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert device.autocast_dtype("native", CPU) is None


def test_bf16_speedup_compares_the_fastest_products_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = [9.0, 0.1, 4.0, 1.0, 2.0, 1.5, 3.0, 1.0, 3.0, 1.0, 3.0, 1.0]  # float32 and bf16 in turns
    readings = iter([reading for span in spans for reading in (0.0, span)])
    monkeypatch.setattr(device, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
    assert device._bf16_speedup.__wrapped__() == 2.0


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "2", device.available_cores() + 1])
def test_a_number_of_threads_is_at_most_that_of_the_cores(threads: object) -> None:
    with pytest.raises(InvalidArgument) as exc_info:
        device.check_threads(threads)  # type: ignore[arg-type]
    assert (exc_info.value.parameter, exc_info.value.value) == ("threads", threads)
    device.check_threads(device.available_cores())
    device.check_threads(None)
