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

from nephros.errors import NephrosError
from nephros.evaluation.conformal import prediction_sets
from nephros.inference.bundled import bundled_file
from nephros.inference.model_card import CARD_METADATA_KEY, card_from_json
from nephros.inference.ood.detector import find_ood_reasons

MAX_BATCH_PIXELS = 256 * 28 * 28
"""In one call of the network; more makes it no faster and takes more memory."""

ForwardFn = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]
"""(n, h, w) or (n, h, w, c) uint8 cells -> arrays by name, as `nephros.exporters.inference_module` describes them."""


@dataclass(frozen=True)
class PredictionBatch:
    """What the engine says of n cells."""

    probabilities: NDArray[np.float32]
    """(n, classes), calibrated; each row sums to 1."""
    features: NDArray[np.float32] | None
    """(n, d), what the last linear layer is given; None where the network has none."""
    class_activation_maps: NDArray[np.float32] | None
    """(n, classes, h', w') class-activation maps; None where the network does not end in a mean over positions."""
    is_ood: NDArray[np.bool_]
    """(n,), whether a cell is unlike those that the model was trained on."""
    ood_reasons: tuple[str, ...]
    """(n,), in which ways it is; empty where it is not."""

    def __len__(self) -> int:
        return len(self.probabilities)


class Predictor:
    """A model and its card; `predict_batch` may be called by several threads at once."""

    def __init__(self, forward_fn: ForwardFn, card: dict[str, Any]) -> None:
        """Take a network that answers as `InferenceModule` does, and the card that was made for it."""
        self._forward_fn = forward_fn
        self.card = card
        """The model card: plain JSON values, described in `nephros.inference.model_card`."""
        input_spec = card["input"]
        self.channels, self.height, self.width = input_spec["channels"], input_spec["height"], input_spec["width"]
        self.class_names = tuple(card["class_names"])
        self._conformal_quantiles = np.array(card["conformal"]["quantiles"])

    @classmethod
    def from_onnx(cls, path: str | Path | None = None, *, threads: int = 0) -> Predictor:
        """Open an .onnx file that `nephros export` wrote, by default the model in the box.

        `threads` of the processor work on an answer: 0 takes the variable OMP_NUM_THREADS, else all cores. UserError when the
        file is missing, damaged or has no card.
        """
        file = bundled_file("model.onnx") if path is None else Path(path).expanduser()
        try:
            session = _create_session(file.read_bytes(), threads)
        except OSError as error:
            raise NephrosError(
                f"The model {file} can't be read ({error.strerror}): name a file that `nephros export` wrote."
            ) from None
        except Exception as error:  # the runtime's own kinds, which share no other base
            raise NephrosError(f"{file} is damaged or no ONNX model: export it again with `nephros export`.") from error
        card = card_from_json(session.get_modelmeta().custom_metadata_map.get(CARD_METADATA_KEY), str(file))
        return cls(_session_forward_fn(session), card)

    def predict_batch(self, cells: NDArray[np.uint8]) -> PredictionBatch:
        """Return the Answers for (n, h, w) grey or (n, h, w, c) uint8 cells of the card's shape; ValueError for any other."""
        expected_size = (self.height, self.width)
        channels = 1 if cells.ndim == 3 else cells.shape[-1]
        if (
            cells.dtype != np.uint8
            or cells.ndim not in (3, 4)
            or cells.shape[1:3] != expected_size
            or channels != self.channels
        ):
            raise ValueError(
                f"cells must be uint8 (n, {self.height}, {self.width}) with {self.channels} channels, "
                f"not {cells.dtype} {cells.shape}"
            )
        outputs = self._forward_fn(cells)
        cell_reasons = find_ood_reasons(self.card["ood_detector"], cells, outputs.get("feature_distance"))
        is_ood = np.array([bool(reason) for reason in cell_reasons], dtype=np.bool_)
        return PredictionBatch(
            outputs["probabilities"],
            outputs.get("features"),
            outputs.get("class_activation_maps"),
            is_ood,
            cell_reasons,
        )

    def prediction_sets(self, probabilities: NDArray[Any], coverage: float = 0.9) -> NDArray[np.bool_]:
        """Return (n, classes) whether each class is in its cell's set, which holds the right one with that `coverage`.

        UserError unless the coverage is above 0 and at most 1.
        """
        return prediction_sets(probabilities, self._conformal_quantiles, coverage)


def onnx_forward_fn(model: bytes, threads: int = 0) -> ForwardFn:
    """Return the network in the bytes of an ONNX model."""
    return _session_forward_fn(_create_session(model, threads))


def _create_session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    omp_num_threads = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = threads or (int(omp_num_threads) if omp_num_threads.isdecimal() else 0)
    # Threads that spin while they wait are many times slower where other processes are busy.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _session_forward_fn(session: onnxruntime.InferenceSession) -> ForwardFn:
    names = [output.name for output in session.get_outputs()]
    shapes = {output.name: output.shape for output in session.get_outputs()}

    def forward(cells: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        if not len(cells):
            return {name: np.empty((0, *shapes[name][1:]), dtype=np.float32) for name in names}
        cells_nchw = cells[:, None] if cells.ndim == 3 else cells.transpose(0, 3, 1, 2)
        step = max(1, MAX_BATCH_PIXELS // (cells.shape[1] * cells.shape[2]))
        batches = [
            session.run(names, {"cells": np.ascontiguousarray(cells_nchw[start : start + step])})
            for start in range(0, len(cells), step)
        ]
        return {name: np.concatenate([batch[i] for batch in batches]) for i, name in enumerate(names)}

    return forward
