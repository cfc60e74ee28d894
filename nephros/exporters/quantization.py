"""An exported ONNX network in eight bits: static quantization with one weight scale per output channel.

Activations are unsigned with one scale per tensor, weights signed and symmetric, sums of 32 bits (Jacob et al., CVPR 2018).
Filters that the graph expands from fewer (D4-equivariant ones, stored once for eight orientations) are quantized as they are
stored, so that the file stays small; all orientations of a filter have its scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.exporters.onnx_export import require_onnx, to_portable_bytes
from nephros.inference.model_card import Quantization
from nephros.inference.onnx_session import create_session, onnx_forward_fn

N_CALIBRATION_CELLS = 512
"""Number of training images on which the ranges of activations are set."""
N_SENSITIVITY_CELLS = 2048
"""Number of training images, others than those, on which the choice of layers is made."""
MAX_DIVERGENCE = 0.001
"""Largest mean Kullback-Leibler divergence, in nats, of the quantized model's predictions from those in float32; to reach it, the
most sensitive layers stay in float32."""
MAX_WEIGHT, MAX_ACTIVATION = 127, 255
"""Largest quantized weight and activation."""
_MOVES = ("Reshape", "Transpose", "GatherND")
"""Operators that expand a stored filter."""
_MAX_OBSERVED = 1 << 20
"""Values of a tensor, at most, in which the range with the smallest error is sought."""
_CLIPPING = np.linspace(0.5, 1.0, 26)
"""Shares of the largest value that are tried as the end of a range."""


def quantize_int8(model: bytes, images: NDArray[np.uint8]) -> tuple[bytes, Quantization]:
    """Return an ONNX model that `to_onnx` wrote with convolutions in eight bits, and how this was done.

    (n, h, w) or (n, h, w, c) training images set the ranges of activations, and tell which layers must stay in float32: the most
    sensitive ones, until the predictions diverge by no more than `MAX_DIVERGENCE`. Everything after the convolutions stays
    float32: it costs next to nothing, and keeps distances and maps meaningful.
    """
    order = np.random.default_rng(0).permutation(len(images))
    calibration = images[np.sort(order[:N_CALIBRATION_CELLS])]
    others = images[np.sort(order[N_CALIBRATION_CELLS : N_CALIBRATION_CELLS + N_SENSITIVITY_CELLS])]
    compared = others if len(others) >= N_CALIBRATION_CELLS else images[:N_SENSITIVITY_CELLS]
    quantizer = Quantizer(model, calibration[:, None] if images.ndim == 3 else calibration.transpose(0, 3, 1, 2))
    expected = onnx_forward_fn(model)(compared)["probabilities"].astype(np.float64)

    def divergence(layers: Sequence[str]) -> float:
        predicted = onnx_forward_fn(quantizer.quantize(layers))(compared)["probabilities"].astype(np.float64)
        return float((expected * (np.log(expected + 1e-9) - np.log(predicted + 1e-9))).sum(axis=1).mean())

    layers = list(quantizer.layers)
    reached = divergence(layers)
    if reached > MAX_DIVERGENCE:
        most_sensitive_first = sorted(layers, key=lambda layer: -divergence([layer]))
        for layer in most_sensitive_first[:-1]:
            layers.remove(layer)
            if (reached := divergence(layers)) <= MAX_DIVERGENCE:
                break
    n_float = len(quantizer.layers) - len(layers)
    kept = "" if not n_float else f"; the {n_float} most sensitive of {len(quantizer.layers)} in float32"
    method = (
        f"static, convolutions only, one weight scale per filter; ranges of least squared error on {len(calibration)} training "
        f"images{kept}; mean divergence from float32 {reached:.1e} nats on {len(compared)} training images"
    )
    return quantizer.quantize(layers), {"method": method}


class Quantizer:
    """The convolutions of an ONNX model, and the ranges of what enters and leaves them on some cells."""

    def __init__(self, model: bytes, cells: NDArray[np.uint8]) -> None:
        """Take a model that `to_onnx` wrote, and (n, c, h, w) uint8 cells on which activations are observed."""
        with require_onnx():
            import onnx
        self._onnx, self._model = onnx, model
        self._graph = onnx.load_from_string(model).graph
        self._producers = {output: node for node in self._graph.node for output in node.output}
        self._initializers = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in self._graph.initializer}
        before_features = {node.name for node in self._ancestors("features")}
        self._convs = {
            node.name: node
            for node in self._graph.node
            if node.op_type == "Conv" and node.name in before_features and self._is_stored(node)
        }
        self.layers = list(self._convs)
        """Names of the convolutions before the features, in order; those after them only draw maps."""
        self._outputs = {name: self._output_of(node) for name, node in self._convs.items()}
        self._ranges = self._observe(cells)

    def quantize(self, layers: Sequence[str]) -> bytes:
        """Return the model with the convolutions `layers` in eight bits; the others stay in float32."""
        model = self._onnx.load_from_string(self._model)
        graph = model.graph
        edits = _Edits(self._onnx)
        for name in layers:
            for tensor in (self._convs[name].input[0], self._outputs[name]):
                edits.quantize_activation(tensor, self._ranges[tensor])
        for node in graph.node:
            if node.name in layers:
                input_scale = edits.scales[node.input[0]]
                self._quantize_weight(edits, node, input_scale)
            for i, tensor in enumerate(node.input):
                node.input[i] = edits.renamed.get(tensor, tensor)
        graph.initializer.extend(edits.initializers)
        nodes = [*graph.node, *edits.nodes]
        del graph.node[:]
        graph.node.extend(_sorted_nodes(nodes, graph))
        del graph.value_info[:]
        used = {name for node in graph.node for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        return to_portable_bytes(model)

    def _quantize_weight(self, edits: _Edits, node: Any, input_scale: float) -> None:
        """Replace the weight and bias of a convolution by quantized ones; a stored filter is quantized before it is expanded."""
        chain = self._expansion(node.input[1])
        stored_name = chain[0].input[0] if chain else node.input[1]
        stored = self._initializers[stored_name]
        rows = np.broadcast_to(
            np.arange(len(stored), dtype=np.float32).reshape(-1, *[1] * (stored.ndim - 1)), stored.shape
        )
        expanded_rows = self._expand(chain, rows)
        row_of_channel = expanded_rows.reshape(len(expanded_rows), -1)[:, 0].astype(np.int64)
        largest = np.abs(stored).reshape(len(stored), -1).max(axis=1)
        bias = self._initializers[node.input[2]] if len(node.input) > 2 else None
        if bias is not None:  # in steps of both scales it has to fit into 32 bits, beside filters of nearly 0, too
            np.maximum.at(largest, row_of_channel, np.abs(bias) / input_scale * (MAX_WEIGHT / 2**30))
        row_scales = np.maximum(largest, 1e-12) / MAX_WEIGHT
        quantized = np.rint(stored / row_scales.reshape(-1, *[1] * (stored.ndim - 1))).astype(np.int8)
        scales = row_scales[row_of_channel].astype(np.float32)
        tensor = edits.constant(f"{node.name}_weight_int8", quantized)
        for step in chain:
            copy = self._onnx.NodeProto()
            copy.CopyFrom(step)
            copy.name, copy.input[0], copy.output[0] = f"{step.name}_int8", tensor, f"{step.output[0]}_int8"
            tensor = copy.output[0]
            edits.nodes.append(copy)
        node.input[1] = edits.dequantize(tensor, scales, np.zeros(len(scales), dtype=np.int8))
        if bias is not None:
            bias_scales = scales * np.float32(input_scale)
            bias_int32 = np.rint(bias / bias_scales).astype(np.int32)
            bias_name = edits.constant(f"{node.name}_bias_int32", bias_int32)
            node.input[2] = edits.dequantize(bias_name, bias_scales, np.zeros(len(scales), dtype=np.int32))

    def _is_stored(self, node: Any) -> bool:
        """Return whether the parameters of a convolution are constants, or a weight that only moves the values of one."""
        chain = self._expansion(node.input[1])
        constants = [chain[0].input[0] if chain else node.input[1], *node.input[2:]]
        constants += [name for step in chain for name in step.input[1:]]
        moves = all(step.op_type in _MOVES and not _batch_dims(step) for step in chain)
        return moves and all(name in self._initializers for name in constants)

    def _expansion(self, tensor: str) -> list[Any]:
        """Return the nodes, first to last, that make a weight from an initializer."""
        chain: list[Any] = []
        while tensor in self._producers and self._producers[tensor].input:
            chain.insert(0, self._producers[tensor])
            tensor = chain[0].input[0]
        return chain

    def _expand(self, chain: list[Any], values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the nodes of an expansion, which only move values, make of an array in place of their initializer."""
        for node in chain:
            arguments = [self._initializers[name] for name in node.input[1:]]
            attributes = {a.name: self._onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Reshape":
                values = values.reshape(arguments[0])
            elif node.op_type == "Transpose":
                values = values.transpose(attributes["perm"])
            else:
                values = values[tuple(np.moveaxis(arguments[0], -1, 0))]
        return values

    def _output_of(self, node: Any) -> str:
        """Return the tensor that leaves a convolution: after its activation, where nothing else takes it before."""
        consumers = [other for other in self._graph.node if node.output[0] in other.input]
        if len(consumers) == 1 and consumers[0].op_type == "Relu":
            return str(consumers[0].output[0])
        return str(node.output[0])

    def _ancestors(self, output: str) -> list[Any]:
        nodes: dict[str, Any] = {}
        pending = [output]
        while pending:
            node = self._producers.get(pending.pop())
            if node is not None and node.name not in nodes:
                nodes[node.name] = node
                pending += node.input
        return list(nodes.values())

    def _observe(self, cells: NDArray[np.uint8]) -> dict[str, tuple[float, float]]:
        """Return the range of each tensor that enters or leaves a convolution."""
        names = list(
            dict.fromkeys(t for name in self.layers for t in (self._convs[name].input[0], self._outputs[name]))
        )
        model = self._onnx.load_from_string(self._model)
        for name in names:
            model.graph.output.append(
                self._onnx.helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, None)
            )
        session = create_session(model.SerializeToString(), 0, ["CPUExecutionProvider"])
        ranges = {}
        for name in names:  # one at a time: together they would take gigabytes
            values = np.concatenate(
                [session.run([name], {"cells": cells[i : i + 64]})[0].ravel() for i in range(0, len(cells), 64)]
            )
            ranges[name] = _best_range(
                values[:: max(1, len(values) // _MAX_OBSERVED)], float(values.min()), float(values.max())
            )
        return ranges


def _batch_dims(node: Any) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "batch_dims"), 0)


def _best_range(values: NDArray[np.float32], low: float, high: float) -> tuple[float, float]:
    """Return the range, clipped at both ends alike, that rounds `values` to 256 levels with the smallest squared error."""
    low, high = min(low, 0.0), max(high, 1e-6)
    errors = []
    for share in _CLIPPING:
        scale = share * (high - low) / MAX_ACTIVATION
        levels = np.rint(values / scale)
        rounded = np.clip(levels, np.rint(share * low / scale), np.rint(share * low / scale) + MAX_ACTIVATION) * scale
        errors.append(float(np.square(rounded - values).mean()))
    best = float(_CLIPPING[int(np.argmin(errors))])
    return best * low, best * high


class _Edits:
    """Nodes and constants to be added to a graph."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.renamed: dict[str, str] = {}
        """Tensor -> the tensor that takes its place as an input of other nodes."""
        self.scales: dict[str, float] = {}

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self.initializers.append(self._onnx.numpy_helper.from_array(np.array(values), name))
        return name

    def quantize_activation(self, tensor: str, bounds: tuple[float, float]) -> None:
        if tensor in self.renamed:
            return
        low, high = bounds
        scale = np.float32((high - low) / MAX_ACTIVATION)
        zero = np.uint8(np.clip(np.rint(-low / scale), 0, MAX_ACTIVATION))
        names = [self.constant(f"{tensor}_scale", np.array(scale)), self.constant(f"{tensor}_zero", np.array(zero))]
        make = self._onnx.helper.make_node
        quantized, output = f"{tensor}_uint8", f"{tensor}_dequantized"
        self.nodes.append(make("QuantizeLinear", [tensor, *names], [quantized], name=f"{tensor}_quantize"))
        self.nodes.append(make("DequantizeLinear", [quantized, *names], [output], name=f"{tensor}_dequantize"))
        self.renamed[tensor], self.scales[tensor] = output, float(scale)

    def dequantize(self, tensor: str, scales: NDArray[np.float32], zeros: NDArray[Any]) -> str:
        """Return the tensor as floating-point numbers, with one scale per element of its first axis."""
        names = [self.constant(f"{tensor}_scale", scales), self.constant(f"{tensor}_zero", zeros)]
        output = f"{tensor}_dequantized"
        self.nodes.append(
            self._onnx.helper.make_node(
                "DequantizeLinear", [tensor, *names], [output], name=f"{tensor}_dequantize", axis=0
            )
        )
        return output


def _sorted_nodes(nodes: list[Any], graph: Any) -> list[Any]:
    """Return the nodes that an output needs, each after those that it depends on."""
    producers = {output: node for node in nodes for output in node.output}
    result: list[Any] = []
    done: set[str] = set()

    def visit(node: Any) -> None:
        if node.name in done:
            return
        done.add(node.name)
        for name in node.input:
            if name in producers:
                visit(producers[name])
        result.append(node)

    for output in graph.output:
        visit(producers[output.name])
    return result
