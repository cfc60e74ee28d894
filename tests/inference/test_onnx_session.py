"""ONNX Runtime's devices: the CPU, and a GPU only where the runtime has its provider."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import nephros
from nephros.cli import main
from nephros.errors import InvalidArgument
from nephros.inference import onnx_session
from tests.conftest import square_images

IMAGES = square_images(4, 4, seed=0)[0]
HAS_CUDA = onnx_session.CUDA in onnxruntime.get_available_providers()


@pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime has a CUDA provider")
def test_a_gpu_without_its_provider_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        nephros.load_classifier(device="cuda")
    assert caught.value.parameter == "device"
    assert "onnxruntime-gpu" in str(caught.value)
    np.savez(tmp_path / "cells.npz", images=IMAGES)
    with pytest.raises(SystemExit) as exited:
        main(["predict", str(tmp_path / "cells.npz"), "--device", "cuda"])
    assert exited.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--device" in line
    expected = nephros.load_classifier(precision="float32").predict_proba(IMAGES)
    actual = nephros.load_classifier(device="auto", precision="float32").predict_proba(IMAGES)
    np.testing.assert_array_equal(actual, expected)


def test_another_device_is_refused(safetensors_model: Path) -> None:
    for model in (None, safetensors_model):
        with pytest.raises(InvalidArgument) as caught:
            nephros.load_classifier(model, device="tpu")
        assert caught.value.parameter == "device"
    with pytest.raises(InvalidArgument):
        nephros.predict(IMAGES, device="tpu")


def test_a_provider_that_fails_in_silence_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime falls back to the CPU where the GPU's libraries are missing: with cuda that is an error, with auto not."""
    requested: list[list[str]] = []

    class FallenBack(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, model: bytes, options: Any, providers: list[str]) -> None:
            requested.append(providers)
            super().__init__(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [onnx_session.CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", FallenBack)
    with pytest.raises(InvalidArgument) as caught:
        nephros.load_classifier(device="cuda")
    assert caught.value.parameter == "device"
    nephros.load_classifier(device="auto")
    nephros.load_classifier()
    assert requested[:2] == [[onnx_session.CUDA, "CPUExecutionProvider"]] * 2
    assert {tuple(providers) for providers in requested[2:]} == {
        ("CPUExecutionProvider",)
    }  # float32, and int8 if it pays
