"""Which precision predicts: the one that is named, or int8 only where the processor is known to gain by it."""

from __future__ import annotations

import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.errors import InvalidArgument
from nephros.exporters.loading import load_classifier
from nephros.exporters.onnx_export import embed_card
from nephros.exporters.quantization import quantize_int8
from nephros.inference import bundled, precision
from nephros.inference.card_json import card_to_json
from nephros.inference.model_card import CARD_METADATA_KEY
from nephros.inference.predictor import Predictor
from nephros.runs import RunFolder
from nephros.workflows.predict import predict
from tests.conftest import square_images

pytestmark = pytest.mark.slow
CELLS = square_images(8, 4, seed=3)[0]


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEPHROS_PRECISION", raising=False)


def test_the_environment_says_what_auto_means(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("float32", "int8"):
        monkeypatch.setenv("NEPHROS_PRECISION", name)
        assert precision_of(load_classifier(both)) == name
        assert precision_of(load_classifier(both, precision="float32")) == "float32"
    monkeypatch.setenv("NEPHROS_PRECISION", "bf16")
    with pytest.raises(InvalidArgument) as caught:
        load_classifier(both)
    assert (caught.value.parameter, caught.value.value) == ("NEPHROS_PRECISION", "bf16")


@pytest.fixture(scope="module")
def both(run_folder: RunFolder, exported_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the run with an exported model in both precisions."""
    folder = Path(shutil.copytree(run_folder.root, tmp_path_factory.mktemp("precision") / "run"))
    export = folder / "export"
    export.mkdir(exist_ok=True)
    content = exported_model.read_bytes()
    (export / "model.onnx").write_bytes(content)
    write_int8(export / "model-int8.onnx", content, 0.0)
    return folder


def write_int8(file: Path, float32_model: bytes, drop: float) -> None:
    model, quantization = quantize_int8(float32_model, CELLS)
    card: Any = json.loads(card_to_json(load_classifier(file.with_name("model.onnx")).card))
    quantization["validation_accuracy"] = {"float32": 0.7, "int8": 0.7 - drop, "drop": drop}
    card["network"] |= {"precision": "int8", "quantization": quantization}
    file.write_bytes(embed_card(model, card_to_json(card), CARD_METADATA_KEY))


def precision_of(predictor: Predictor) -> str:
    return predictor.card["network"]["precision"]


def test_the_precision_that_is_named_predicts(both: Path) -> None:
    float32, int8 = (load_classifier(both, precision=name) for name in ("float32", "int8"))
    assert (precision_of(float32), precision_of(int8)) == ("float32", "int8")
    difference = np.abs(float32.predict_proba(CELLS) - int8.predict_proba(CELLS)).max()
    assert 0 < difference < 0.1
    predictions = predict(CELLS, both, precision="int8")
    assert predictions.model.precision == "int8"
    assert any("int8" in note for note in predictions.notes)
    assert not any("int8" in note for note in predict(CELLS, both, precision="float32").notes)


def test_auto_takes_int8_only_with_instructions_for_it(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not precision.has_int8_instructions():
        assert precision_of(load_classifier(both)) == "float32"
    monkeypatch.setattr(precision, "DOT_PRODUCT_FLAGS", {"a flag that no processor has"})
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert precision_of(load_classifier(both)) == "float32"
    assert precision_of(load_classifier(both, precision="int8")) == "int8"


@pytest.mark.parametrize("measured", [0.9, 100.0])
def test_auto_takes_int8_where_it_is_faster_and_loses_little(
    both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: float
) -> None:
    """The speed of this machine must not decide a test, so the measurement is replaced."""
    monkeypatch.setattr("nephros.exporters.loading.has_int8_instructions", lambda: True)
    monkeypatch.setattr(Predictor, "speedup_over", lambda self, other: measured)
    assert precision_of(load_classifier(both)) == ("int8" if measured > precision.MIN_SPEEDUP else "float32")
    inexact = Path(shutil.copytree(both, tmp_path / "run"))
    write_int8(inexact / "export" / "model-int8.onnx", (inexact / "export" / "model.onnx").read_bytes(), 0.0011)
    assert precision_of(load_classifier(inexact)) == "float32"


def test_a_large_bundled_model_predicts_in_int8_or_by_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = load_classifier("nephros-fast", precision="float32").predict_proba(CELLS)
    shutil.copytree(bundled.BUNDLED_MODELS_DIR / "nephros-fast", tmp_path / "nephros-fast")
    (tmp_path / "nephros-fast" / "model.onnx").unlink()
    monkeypatch.setattr(bundled, "BUNDLED_MODELS_DIR", tmp_path)
    by_torch = load_classifier("nephros-fast", precision="float32")
    np.testing.assert_allclose(by_torch.predict_proba(CELLS), expected, atol=1e-5)
    monkeypatch.setattr(
        "nephros.exporters.loading.check_runtime", lambda runtime, device: None
    )  # it may not be installed
    load_classifier("nephros-fast", precision="float32", runtime="openvino")
    assert "OpenVINO" in caplog.text
    assert precision_of(load_classifier("nephros-fast", precision="int8")) == "int8"
    for has_instructions, actual in ((True, "int8"), (False, "float32")):
        monkeypatch.setattr("nephros.exporters.loading.has_int8_instructions", lambda has=has_instructions: has)
        assert precision_of(load_classifier("nephros-fast")) == actual


def test_a_damaged_int8_file_is_passed_over_with_a_warning(
    both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("nephros.exporters.loading.has_int8_instructions", lambda: True)
    damaged = Path(shutil.copytree(both, tmp_path / "run"))
    file = damaged / "export" / "model-int8.onnx"
    file.write_bytes(file.read_bytes()[:-1000])
    with caplog.at_level(logging.WARNING):
        assert precision_of(load_classifier(damaged)) == "float32"
    assert "model-int8.onnx" in caplog.text


def test_a_precision_that_a_model_does_not_come_in_is_refused(both: Path, tmp_path: Path) -> None:
    alone = shutil.copy(both / "export" / "model.onnx", tmp_path / "model.onnx")
    for model, name in ((alone, "int8"), (both / "export" / "model-int8.onnx", "float32"), (both, "float16")):
        with pytest.raises(InvalidArgument) as caught:
            load_classifier(model, precision=name)
        assert (caught.value.parameter, caught.value.value) == ("precision", name)


def test_waiting_for_a_busy_machine_does_not_count_as_slow(both: Path) -> None:
    float32, int8 = (load_classifier(both, precision=name) for name in ("float32", "int8"))
    assert int8.speedup_over(float32) > 0

    def compute(seconds: float) -> None:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    def slow(cells: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        compute(0.004)
        return {}

    def fast_but_kept_waiting(cells: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        compute(0.001)
        time.sleep(0.02)
        return {}

    assert precision.measured_speedup(slow, fast_but_kept_waiting, float32.card) > precision.MIN_SPEEDUP
    assert precision.measured_speedup(fast_but_kept_waiting, slow, float32.card) < 1
