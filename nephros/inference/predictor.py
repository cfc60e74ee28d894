"""An exported model at work: ONNX Runtime and a card, and no torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from nephros.errors import UserError
from nephros.evaluation.conformal import prediction_sets
from nephros.inference.bundled import box_file
from nephros.inference.model_card import KEY, from_text
from nephros.inference.ood.detector import reasons

BATCH_PIXELS = 256 * 28 * 28
"""In one call of the network; more makes it no faster and takes more memory."""

Network = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]
"""(n, h, w) or (n, h, w, c) uint8 cells -> arrays by name, as `nephros.exporters.inference_module.Packaged` describes them."""


@dataclass(frozen=True)
class Answers:
    """What the engine says of n cells."""

    probabilities: NDArray[np.float32]
    """(n, classes), calibrated; each row sums to 1."""
    features: NDArray[np.float32] | None
    """(n, d), what the last linear layer is given; None where the network has none."""
    maps: NDArray[np.float32] | None
    """(n, classes, h', w') class-activation maps; None where the network does not end in a mean over positions."""
    unfamiliar: NDArray[np.bool_]
    """(n,), whether a cell is unlike those that the model was trained on."""
    reasons: tuple[str, ...]
    """(n,), in which ways it is; empty where it is not."""

    def __len__(self) -> int:
        return len(self.probabilities)


class Engine:
    """A model and its card; `answer` may be called by several threads at once."""

    def __init__(self, network: Network, card: dict[str, Any]) -> None:
        """Take a network that answers as `Packaged` does, and the card that was made for it."""
        self._network = network
        self.card = card
        """The model card: plain JSON values, described in `nephros.inference.model_card`."""
        shape = card["input"]
        self.channels, self.height, self.width = shape["channels"], shape["height"], shape["width"]
        self.class_names = tuple(card["class_names"])
        self._table = np.array(card["conformal"]["quantiles"])

    @classmethod
    def open(cls, path: str | Path | None = None, *, threads: int = 0) -> Engine:
        """Open an .onnx file that `nephros export` wrote, by default the model in the box.

        `threads` of the processor work on an answer: 0 takes the variable OMP_NUM_THREADS, else all cores. UserError when the
        file is missing, damaged or has no card.
        """
        file = box_file("model.onnx") if path is None else Path(path).expanduser()
        try:
            session = _session(file.read_bytes(), threads)
        except OSError as error:
            raise UserError(
                f"The model {file} can't be read ({error.strerror}): name a file that `nephros export` wrote."
            ) from None
        except Exception as error:  # the runtime's own kinds, which share no other base
            raise UserError(f"{file} is damaged or no ONNX model: export it again with `nephros export`.") from error
        card = from_text(session.get_modelmeta().custom_metadata_map.get(KEY), str(file))
        return cls(_network_of(session), card)

    def answer(self, cells: NDArray[np.uint8]) -> Answers:
        """Return the Answers for (n, h, w) grey or (n, h, w, c) uint8 cells of the card's shape; ValueError for any other."""
        wanted = (self.height, self.width)
        channels = 1 if cells.ndim == 3 else cells.shape[-1]
        if (
            cells.dtype != np.uint8
            or cells.ndim not in (3, 4)
            or cells.shape[1:3] != wanted
            or channels != self.channels
        ):
            raise ValueError(
                f"cells must be uint8 (n, {self.height}, {self.width}) with {self.channels} channels, "
                f"not {cells.dtype} {cells.shape}"
            )
        found = self._network(cells)
        words = reasons(self.card["unfamiliarity"], cells, found.get("distance"))
        unfamiliar = np.array([bool(word) for word in words], dtype=np.bool_)
        return Answers(found["probabilities"], found.get("features"), found.get("maps"), unfamiliar, words)

    def prediction_sets(self, probabilities: NDArray[Any], coverage: float = 0.9) -> NDArray[np.bool_]:
        """Return (n, classes) whether each class is in its cell's set, which holds the right one with that `coverage`.

        UserError unless the coverage is above 0 and at most 1.
        """
        return prediction_sets(probabilities, self._table, coverage)


def session_network(model: bytes, threads: int = 0) -> Network:
    """Return the network in the bytes of an ONNX model."""
    return _network_of(_session(model, threads))


def _session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    wished = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = threads or (int(wished) if wished.isdecimal() else 0)
    # Threads that spin while they wait are many times slower where other processes are busy.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _network_of(session: onnxruntime.InferenceSession) -> Network:
    names = [output.name for output in session.get_outputs()]
    shapes = {output.name: output.shape for output in session.get_outputs()}

    def network(cells: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        if not len(cells):
            return {name: np.empty((0, *shapes[name][1:]), dtype=np.float32) for name in names}
        cells_nchw = cells[:, None] if cells.ndim == 3 else cells.transpose(0, 3, 1, 2)
        step = max(1, BATCH_PIXELS // (cells.shape[1] * cells.shape[2]))
        parts = [
            session.run(names, {"cells": np.ascontiguousarray(cells_nchw[start : start + step])})
            for start in range(0, len(cells), step)
        ]
        return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}

    return network
