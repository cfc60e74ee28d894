"""The runtimes: the same predictions in ONNX Runtime and OpenVINO, and one sentence where a runtime can't be used."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from nephros.cli import main
from nephros.errors import InvalidArgument, MissingDependency
from nephros.exporters.loading import load_classifier
from nephros.inference.onnx_file import read_metadata
from nephros.inference.runtimes import RUNTIMES
from tests.conftest import square_images

CELLS = square_images(8, 4, seed=3)[0]
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None


@pytest.mark.slow
def test_openvino_predicts_what_onnx_runtime_predicts(exported_model: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    by_onnxruntime, by_openvino = (load_classifier(exported_model, runtime=runtime) for runtime in RUNTIMES)
    expected, actual = by_onnxruntime.forward(CELLS), by_openvino.forward(CELLS)
    assert expected.keys() == actual.keys()
    np.testing.assert_allclose(actual["probabilities"], expected["probabilities"], atol=1e-4)
    np.testing.assert_allclose(actual["features"], expected["features"], atol=1e-3, rtol=1e-3)
    assert by_openvino.predict_batch(CELLS[:0]).probabilities.shape == (0, len(by_openvino.class_names))


@pytest.mark.skipif(HAS_OPENVINO, reason="OpenVINO is installed")
def test_a_runtime_that_is_missing_is_named_with_its_extra(
    exported_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MissingDependency, match=r"nephros\[openvino\]"):
        load_classifier(exported_model, runtime="openvino")
    np.savez(tmp_path / "cells.npz", images=CELLS)
    with pytest.raises(SystemExit) as exited:
        main(["predict", str(tmp_path / "cells.npz"), "--model", str(exported_model), "--runtime", "openvino"])
    assert exited.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_another_runtime_or_a_gpu_for_openvino_is_refused() -> None:
    for runtime, device in (("tensorrt", "cpu"), ("openvino", "cuda")):
        with pytest.raises(InvalidArgument) as caught:
            load_classifier(runtime=runtime, device=device)
        assert (caught.value.parameter, caught.value.value) == ("runtime", runtime)


def test_metadata_are_read_without_a_runtime(exported_model: Path) -> None:
    import onnx

    content = exported_model.read_bytes()
    expected = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    assert read_metadata(content) == expected
