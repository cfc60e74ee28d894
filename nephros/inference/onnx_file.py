"""What is checked in the bytes of an ONNX model without the onnx package: the digest of its graph, and its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

DIGEST_METADATA_KEY = "nephros_graph_sha256"
"""Key, in an exported ONNX model's metadata, of what `graph_sha256` returns for it."""

# Field numbers in onnx.proto.
_MODEL_GRAPH, _MODEL_METADATA, _GRAPH_INITIALIZER = 7, 14, 5
_TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_RAW, _TENSOR_DOUBLES = 2, 4, 9, 10
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_FLOAT_TYPES = {1: "<f4", 10: "<f2", 11: "<f8"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def graph_sha256(model: bytes) -> str:
    """Return the SHA-256 of all that an ONNX model holds except its metadata: graph, weights and versions.

    Raises ValueError for bytes that are not a protobuf message.
    """
    digest, view = hashlib.sha256(), memoryview(model)
    for number, start, _, end in _fields(view):
        if number != _MODEL_METADATA:
            digest.update(view[start:end])
    return digest.hexdigest()


def read_metadata(model: bytes) -> dict[str, str]:
    """Return the metadata of an ONNX model, text by key; raises ValueError for bytes that are not a protobuf message."""
    view, metadata = memoryview(model), {}
    for number, _, start, end in _fields(view):
        if number == _MODEL_METADATA:
            entry = view[start:end]
            texts = {inner: str(entry[first:last], "utf-8") for inner, _, first, last in _fields(entry)}
            metadata[texts.get(_ENTRY_KEY, "")] = texts.get(_ENTRY_VALUE, "")
    return metadata


def has_finite_weights(model: bytes) -> bool:
    """Return whether no weight of an ONNX model is NaN or infinite; a single infinity may be a bound, as in a Clip.

    Raises ValueError for bytes that are not a protobuf message.
    """
    view = memoryview(model)
    for number, _, start, end in _fields(view):
        if number == _MODEL_GRAPH:
            graph = view[start:end]
            for inner, _, inner_start, inner_end in _fields(graph):
                if inner == _GRAPH_INITIALIZER and not _is_finite_tensor(graph[inner_start:inner_end]):
                    return False
    return True


def _is_finite_tensor(tensor: memoryview) -> bool:
    data_type, contents = 0, []
    for number, _, start, end in _fields(tensor):
        if number == _TENSOR_TYPE:
            data_type = _varint(tensor, start)[0]
        elif number in (_TENSOR_RAW, _TENSOR_FLOATS, _TENSOR_DOUBLES):
            contents.append(tensor[start:end])
    if data_type not in _FLOAT_TYPES:
        return True
    for content in contents:
        values = np.frombuffer(content, _FLOAT_TYPES[data_type])
        if np.isnan(values).any() or (len(values) > 1 and not np.isfinite(values).all()):
            return False
    return True


def _fields(message: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Yield for each field of a protobuf message its number, and where the field, its content, and what follows start."""
    position = 0
    while position < len(message):
        start = position
        tag, position = _varint(message, position)
        content, wire_type = position, tag & 7
        if wire_type == _VARINT:
            position = _varint(message, position)[1]
        elif wire_type == _BYTES:
            length, content = _varint(message, position)
            position = content + length
        elif wire_type in (_FIXED64, _FIXED32):
            position += 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire_type}")
        if position > len(message):
            raise ValueError("a field is cut short")
        yield tag >> 3, start, content, position


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the variable-length integer at a position, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("an integer is cut short")
