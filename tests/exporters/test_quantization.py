"""Eight-bit networks: small files, predictions close to float32, and sensitive layers left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch

from nephros.exporters import quantization
from nephros.exporters.inference_module import InferenceModule
from nephros.exporters.onnx_export import to_onnx
from nephros.exporters.quantization import Quantizer, quantize_int8
from nephros.inference.onnx_session import onnx_forward_fn
from nephros.models import build_network
from nephros.models.classifier import Classifier, InputSpec
from nephros.recipe import ModelConfig
from tests.conftest import square_images

CELLS = square_images(64, 4, seed=0)[0]


def float32_model(network: str, **fields: Any) -> bytes:
    torch.manual_seed(0)
    built = build_network(ModelConfig(network, **fields), InputSpec(1, 28, 28, 4))
    return to_onnx(InferenceModule(Classifier(built, [0.4], [0.2]).eval()), 1, 28, 28)


def node_types(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


@pytest.fixture(scope="module")
def equivariant() -> bytes:
    return float32_model("equivariant", base_channels=16)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "fields"),
    [("equivariant", {"base_channels": 16}), ("compact", {"base_channels": 8}), ("course", {}), ("resnet18", {})],
)
def test_every_kind_of_network_is_close_in_eight_bits(network: str, fields: dict[str, Any]) -> None:
    model = float32_model(network, **fields)
    quantized, how = quantize_int8(model, CELLS)
    expected, actual = (onnx_forward_fn(content)(CELLS) for content in (model, quantized))
    assert expected.keys() == actual.keys()
    assert np.abs(actual["probabilities"] - expected["probabilities"]).max() < 0.1
    assert "QuantizeLinear" in node_types(quantized)
    assert len(quantized) < len(model)
    assert "per filter" in how["method"]


@pytest.mark.slow
def test_filters_stay_stored_once_for_all_orientations(equivariant: bytes) -> None:
    quantizer = Quantizer(equivariant, CELLS[:, None])
    graph = onnx.load_from_string(quantizer.quantize(quantizer.layers)).graph
    floats = sum(int(np.prod(t.dims)) for t in onnx.load_from_string(equivariant).graph.initializer)
    assert sum(int(np.prod(t.dims)) for t in graph.initializer) < 1.1 * floats
    weights = {t.name: t for t in graph.initializer if t.name.endswith("_weight_int8")}
    assert len(weights) == len(quantizer.layers)
    assert {t.data_type for t in weights.values()} == {onnx.TensorProto.INT8}
    for tensor in weights.values():  # each filter reaches the largest level: it has a scale of its own
        values = np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).reshape(tensor.dims[0], -1)
        assert values.max(axis=1).tolist() == [127] * tensor.dims[0]


@pytest.mark.slow
def test_layers_that_diverge_too_far_stay_in_float32(equivariant: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    n_layers = len(Quantizer(equivariant, CELLS[:, None]).layers)
    assert "in float32" not in quantize_int8(equivariant, CELLS)[1]["method"]
    monkeypatch.setattr(quantization, "MAX_DIVERGENCE", -1.0)
    model, how = quantize_int8(equivariant, CELLS)
    assert f"the {n_layers - 1} most sensitive of {n_layers} in float32" in how["method"]
    assert node_types(model).count("QuantizeLinear") == 2  # before and after the one that is left


def test_the_range_of_least_error_clips_an_outlier() -> None:
    values = np.concatenate([np.random.default_rng(0).random(100_000), [1.9]]).astype(np.float32)
    low, high = quantization._best_range(values, 0.0, 1.9)
    assert low == 0
    assert 0.9 < high < 1.9
    assert quantization._best_range(np.zeros(5, dtype=np.float32), 0.0, 0.0)[1] > 0


@pytest.mark.slow
def test_a_filter_of_nearly_zero_weights_keeps_its_bias() -> None:
    torch.manual_seed(0)
    network = build_network(ModelConfig("course", base_channels=8), InputSpec(1, 28, 28, 4))
    conv = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    with torch.no_grad():
        conv.weight[:2] = 1e-15
        conv.bias[:2] = torch.tensor([0.5, -0.5])  # type: ignore[index]
    quantizer = Quantizer(to_onnx(InferenceModule(Classifier(network, [0.4], [0.2]).eval()), 1, 28, 28), CELLS[:, None])
    graph = onnx.load_from_string(quantizer.quantize(quantizer.layers)).graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    node = next(n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0].endswith("_bias_int32"))
    bias = values[node.input[0]] * values[node.input[1]]
    assert bias[:2].tolist() == pytest.approx([0.5, -0.5], rel=1e-5)
