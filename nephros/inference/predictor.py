"""The predictor: an exported network in ONNX Runtime, its model card, and no torch."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nephros.data.images.input_conversion import CellShape, InputConversion
from nephros.data.volumes import read_volumes
from nephros.errors import DivergedError, FileError, IncompatibleError, InvalidArgument, NephrosError
from nephros.evaluation.calibration import check_coverage, prediction_sets
from nephros.inference.array_cells import arrays_to_cells
from nephros.inference.bundled import bundled_file
from nephros.inference.card_json import card_from_json
from nephros.inference.classify import NOT_FINITE, classify_cells
from nephros.inference.model_card import CARD_METADATA_KEY, ModelCard
from nephros.inference.model_checks import opening_fault, shape_fault
from nephros.inference.onnx_file import DIGEST_METADATA_KEY, graph_sha256, has_finite_weights, read_metadata
from nephros.inference.onnx_session import ForwardFn, check_device, execution_providers
from nephros.inference.ood.detector import find_ood_reasons
from nephros.inference.precision import measured_speedup
from nephros.inference.prediction_batch import PredictionBatch
from nephros.inference.predictions import Predictions
from nephros.inference.reader import CellSource
from nephros.inference.runtimes import DEFAULT_RUNTIME, check_runtime, open_network
from nephros.inference.tta import tta_card, tta_forward_fn
from nephros.reading import MalformedContent, check_is_file, file_errors

logger = logging.getLogger(__name__)

MAX_CLASSES, MAX_INPUT_SIDE = 10_000, 2048
"""Classes of a model, and pixels on each side of its cells: far more than any model of cells has."""
_MAX_MODEL_BYTES = 1 << 31
"""Largest ONNX file, which is one message of Protocol Buffers."""
_BATCH_BYTES = 16 << 20
"""Bytes of cells whose outputs are in memory at a time, with their features and maps."""


class Predictor:
    """A classifier of cells: a network and its model card. `nephros.load_classifier` opens one.

    `predict_proba`, `predict` and `embed` take images as a notebook holds them and convert them as `nephros.predict` converts
    files; `predict_batch` takes cells that need no conversion. Several threads may call all four at once.
    """

    def __init__(self, forward_fn: ForwardFn, card: ModelCard) -> None:
        """Take a network with the outputs of `InferenceModule`, and the card that was made for it."""
        self._forward_fn = forward_fn
        self.card = card
        """The model card as plain JSON values; see `nephros.inference.model_card`."""
        input_spec = card["input"]
        self.channels, self.height, self.width = input_spec["channels"], input_spec["height"], input_spec["width"]
        self.depth: int | None = input_spec.get("depth")
        """Slices of the volumes that it takes; None where it takes images."""
        self.input_conversion = InputConversion.from_dict(input_spec.get("conversion", {}))
        """How images become cells, as in training."""
        self.class_names = tuple(card["class_names"])
        self._conformal_quantiles = np.array(card["conformal"]["quantiles"])
        self._tta_predictor: Predictor | None = None

    def __repr__(self) -> str:
        shape = f"{self.height}x{self.width}" + ("x3" if self.channels > 1 else "") + " pixels"
        shape = shape if self.depth is None else f"{self.depth} slices of {shape}"
        return f"<Predictor {self.card['recipe']}: {len(self.class_names)} classes, {shape}>"

    def with_tta(self) -> Predictor:
        """Return this classifier with test-time augmentation, whose predictions are means over several views of each cell.

        The views are those of the model's recipe, by default the image and its four shifts by a pixel, and its card holds the
        figures and the calibration that belong to them. A model whose network takes several views itself is returned as
        it is.
        """
        if self.card["network"]["tta_views"] > 1:
            return self
        if self._tta_predictor is None:
            if not self.card.get("tta"):
                logger.warning(
                    "The model %s was exported without test-time augmentation, so calibration and prediction sets are "
                    "those of one view: `nephros.export(RUN)` fits both.",
                    self.card["recipe"],
                )
            card = tta_card(self.card)
            temperatures = (reading["calibration"]["temperature"] for reading in (self.card, card))
            forward_fn = tta_forward_fn(self._forward_fn, card["network"]["tta_views"], *temperatures)
            self._tta_predictor = Predictor(forward_fn, card)
        return self._tta_predictor

    @property
    def input_shape(self) -> CellShape:
        """Channels (1 or 3), or slices of volumes, height and width of the cells that the network takes."""
        return self.channels if self.depth is None else self.depth, self.height, self.width

    def check_takes_images(self, user: str) -> None:
        """Raise IncompatibleError for a model of volumes, which `user`, such as "the page", can't show."""
        if self.depth is not None:
            raise IncompatibleError(
                f"The model {self.card['recipe']} takes volumes of {self.depth} slices, and {user} shows images: use "
                "`nephros.predict(STACK, model=MODEL)`."
            )

    @classmethod
    def from_onnx(
        cls,
        path: str | Path | None = None,
        *,
        device: str = "cpu",
        threads: int = 0,
        runtime: str = DEFAULT_RUNTIME,
    ) -> Predictor:
        """Open an .onnx file that `nephros.export` wrote, by default the bundled model in float32.

        `device` is cpu, cuda or auto. `threads` is the number of CPU threads per call; 0 takes the environment variable
        OMP_NUM_THREADS, else all cores. `runtime` is onnxruntime or, where it is installed, openvino, on CPUs.

        Raises:
            InvalidArgument: the runtime is none of these, or can't use the device.
            MissingDependency: the runtime is not installed.
            FileError: the file is missing, damaged, changed since it was exported, or has no card.
            DivergedError: its weights or its outputs for a blank cell are not finite.
            IncompatibleError: it does not fit its card, or the runtime can't run it.
        """
        file = bundled_file("model.onnx") if path is None else Path(path).expanduser()
        check_runtime(runtime, device)
        execution_providers(device)
        with file_errors(file, "name a file that `nephros.export(RUN)` wrote", name=f"The model {file}"):
            check_is_file(file)
            if file.stat().st_size > _MAX_MODEL_BYTES:
                raise MalformedContent(f"it is larger than {_MAX_MODEL_BYTES:,} bytes")
            model = file.read_bytes()
            metadata = read_metadata(model)
            card = card_from_json(metadata.get(CARD_METADATA_KEY), file)
            if runtime == "openvino" and card["network"]["precision"] == "int8":
                logger.warning(
                    "ONNX Runtime predicts with %s, since OpenVINO is no faster in int8 and predicts otherwise.", file
                )
                runtime = DEFAULT_RUNTIME
            forward_fn, is_on_gpu = open_network(model, device, threads, runtime)
            is_intact = metadata.get(DIGEST_METADATA_KEY) in (None, graph_sha256(model))
            is_finite = has_finite_weights(model)
        check_device(device, is_on_gpu)
        if not is_intact:
            raise FileError(
                file, f"{file} has changed since it was exported: write it again with `nephros.export(RUN)`."
            )
        if not is_finite:
            raise DivergedError(f"The weights in {file} are not finite: export another run.")
        return cls(forward_fn, card).checked(file)

    def speedup_over(self, other: Predictor) -> float:
        """Return how many times as fast as another predictor of the same cells this one is here, measured on a few cells."""
        return measured_speedup(other.forward, self.forward, self.card)

    def checked(self, origin: str | Path) -> Self:
        """Return this predictor, which comes from the file or folder `origin`, if it fits its card and predicts blank cells.

        Raises:
            DivergedError: an output for the blank cell is not finite.
            FileError: the card claims more classes or pixels than any model of cells has.
            IncompatibleError: the outputs' names, shapes or counts are not those of the card, or there are none.
        """
        self._check_claimed_sizes(origin)
        for n_cells in (1, 2):  # a graph may have a batch size of its own
            self._check_blank_cells(origin, n_cells)
        return self

    def _check_blank_cells(self, origin: str | Path, n_cells: int) -> None:
        blank = np.zeros((n_cells, *self._cell_shape), dtype=np.uint8)
        hint = "write it again with `nephros.export(RUN)`."
        start = f"The model {origin} does not fit its card: "
        try:
            outputs = self._forward_fn(blank)
            if fault := shape_fault(outputs, self.card, n_cells):
                raise IncompatibleError(f"{start}{fault}; {hint}")
            is_finite = all(np.isfinite(output).all() for output in outputs.values())
            self._to_batch(blank, outputs)
        except NephrosError:
            raise
        except Exception as error:  # of the runtime, or a card whose parts contradict each other
            raise IncompatibleError(f"{start}it can't predict {n_cells} cells; {hint}") from error
        if not is_finite:
            raise DivergedError(f"The model {origin} is damaged: its output for a blank cell is not finite; {hint}")
        if fault := opening_fault(outputs, self.card, n_cells):
            raise IncompatibleError(f"{start}{fault}; {hint}")

    def _check_claimed_sizes(self, origin: str | Path) -> None:
        """Raise FileError where the card claims more classes or pixels than any model of cells has, before they take memory."""
        n_classes = len(self.class_names)
        planes, height, width = self.input_shape
        if self.depth is not None and planes * height * width > MAX_INPUT_SIDE**2:
            size = f"volumes of {planes:,} slices of {height:,} x {width:,} pixels"
            raise FileError(
                origin, f"{origin} claims to take {size}; a model takes at most {MAX_INPUT_SIDE**2:,} voxels."
            )
        if n_classes > MAX_CLASSES or max(height, width) > MAX_INPUT_SIDE or self.channels not in (1, 3):
            raise FileError(
                origin,
                f"{origin} claims to take cells of {self.height:,} x {self.width:,} pixels with {self.channels:,} channels, and "
                f"to tell {n_classes:,} classes apart; a model takes at most {MAX_INPUT_SIDE:,} pixels per side, 1 or 3 channels "
                f"and {MAX_CLASSES:,} classes.",
            )

    def predict_proba(
        self, images: Any, *, white_level: float | None = None, channel: int | None = None, tta: bool = False
    ) -> NDArray[np.float32]:
        """Return the calibrated probabilities of the classes, (n, classes) float32; each row sums to 1.

        Args:
            images: one image (h, w), images (n, h, w) or (n, h, w, c), or a list of images of any sizes; uint8, other integers,
                floating-point numbers or truth values. A model of volumes takes volumes (n, d, h, w) of its size, which are not
                resized. Images become cells as `nephros.predict` makes them of files: more than 8
                bits are scaled, other sizes are resized, color becomes gray where the model takes gray. Each conversion is logged
                as a warning, and is a note of `predict`.
            white_level: pixel value that becomes 255 in images of more than 8 bits; None takes that of the training images or,
                where those had 8 bits, 1 for floating-point pixels up to 1, 255 for others up to 255 that may be 8-bit ones, and
                else the brightest pixel of all images.
            channel: index of the channel that shows the nuclei, in images with several; None takes the training images', or
                the only one with a signal.
            tta: predict as `with_tta` does, with means over several views of each image.

        Raises:
            InvalidArgument: these are not images, or `white_level` or `channel` is out of range.
            DivergedError: the network's weights are damaged.
        """
        batch = self._predict_images(images, white_level, channel, tta)
        if not batch.is_finite.all():
            raise DivergedError(NOT_FINITE)
        return batch.probabilities

    def embed(
        self, images: Any, *, white_level: float | None = None, channel: int | None = None, tta: bool = False
    ) -> NDArray[np.float32]:
        """Return the features of the images, (n, d) float32: the input of the network's last layer.

        Takes what `predict_proba` takes, and raises what it raises; also IncompatibleError for a classical baseline, which has no
        such layer.
        """
        features = self._predict_images(images, white_level, channel, tta).features
        if features is None:
            raise IncompatibleError(f"{self.card['recipe']} is a classical baseline, which has no features.")
        if not np.isfinite(features).all():
            raise DivergedError(NOT_FINITE)
        return features

    def predict(
        self,
        images: Any,
        *,
        coverage: float = 0.9,
        white_level: float | None = None,
        channel: int | None = None,
        tta: bool = False,
    ) -> Predictions:
        """Return labels, probabilities, prediction sets and out-of-distribution flags, one row per image.

        Args:
            images: as `predict_proba` takes them.
            coverage: probability, above 0 to 1, with which a prediction set shall contain the true class.
            white_level: as `predict_proba` takes it.
            channel: as `predict_proba` takes it.
            tta: as `predict_proba` takes it.

        Raises what `predict_proba` raises, but a row whose output is not finite has an error instead.
        """
        check_coverage(coverage)
        cells, notes = self._to_cells(images, white_level, channel)
        sources = [CellSource("images", i) for i in range(len(cells))]
        step = max(1, _BATCH_BYTES // math.prod(self.input_shape))
        starts = range(0, len(cells), step)
        batches = ((np.arange(start, min(start + step, len(cells))), cells[start : start + step]) for start in starts)
        return classify_cells(self.with_tta() if tta else self, batches, sources, {}, coverage, lambda: notes)

    def _predict_images(
        self, images: Any, white_level: float | None, channel: int | None, tta: bool
    ) -> PredictionBatch:
        """Return the predictions for images that need conversion, and log how they were converted."""
        cells, notes = self._to_cells(images, white_level, channel)
        for note in notes:
            logger.warning("images: %s", note)
        return (self.with_tta() if tta else self).predict_batch(cells)

    def _to_cells(
        self, images: Any, white_level: float | None, channel: int | None
    ) -> tuple[NDArray[np.uint8], list[str]]:
        if self.depth is not None:
            return self._to_volumes(images, white_level, channel), []
        conversion = self.input_conversion.override(white_level, channel)
        return arrays_to_cells(images, self.input_shape, conversion, has_user_level=white_level is not None)

    def _to_volumes(self, volumes: Any, white_level: float | None, channel: int | None) -> NDArray[np.uint8]:
        if channel is not None:
            raise InvalidArgument("channel", channel, "left out for volumes, which have one")
        levels = self.input_conversion.override(white_level)
        cells = read_volumes(volumes, "images", levels.white_level, levels.black_level)
        if cells.shape[1:] != self._cell_shape:
            height, width, depth = cells.shape[1:]
            expected = "(n, {}, {}, {}), the volumes that the model takes".format(*self.input_shape)
            raise InvalidArgument("images", f"of shape ({len(cells)}, {depth}, {height}, {width})", expected)
        return cells

    @property
    def _cell_shape(self) -> tuple[int, ...]:
        """Shape of a cell as `predict_batch` takes it."""
        planes, height, width = self.input_shape
        return (height, width) if planes == 1 else (height, width, planes)

    def predict_batch(self, cells: NDArray[np.uint8]) -> PredictionBatch:
        """Return predictions for (n, h, w) or (n, h, w, c) uint8 cells of the model's `input_shape`.

        For volumes the slices come last, (n, h, w, d); `predict_proba` takes them first.

        Raises InvalidArgument (a ValueError) for cells of another shape or dtype, and IncompatibleError if the network's
        outputs contradict the card.
        """
        is_gray_with_axis = self._cell_shape == cells.shape[1:3] and cells.shape[3:] == (1,)
        if cells.dtype != np.uint8 or (cells.shape[1:] != self._cell_shape and not is_gray_with_axis):
            shape = f"(n, {', '.join(map(str, self._cell_shape))})"
            raise InvalidArgument("cells", f"{cells.dtype} {cells.shape}", f"uint8 {shape}")
        return self._to_batch(cells, self.forward(cells))

    def forward(self, cells: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Return the network's own outputs, by name, for cells as `predict_batch` takes them, without checks."""
        return self._forward_fn(cells)

    def _to_batch(self, cells: NDArray[np.uint8], outputs: dict[str, NDArray[np.float32]]) -> PredictionBatch:
        if fault := shape_fault(outputs, self.card, len(cells)):
            raise IncompatibleError(
                f"The model does not fit its card: {fault}; write it again with `nephros.export(RUN)`."
            )
        ood_reasons = find_ood_reasons(self.card["ood_detector"], cells, outputs.get("feature_distance"))
        return PredictionBatch(
            outputs["probabilities"],
            outputs.get("features"),
            outputs.get("class_activation_maps"),
            np.array([bool(reasons) for reasons in ood_reasons], dtype=np.bool_),
            ood_reasons,
        )

    def prediction_sets(self, probabilities: NDArray[Any], coverage: float = 0.9) -> NDArray[np.bool_]:
        """Return (n, classes) whether each class is in its cell's prediction set.

        A set contains the true class with probability `coverage`, over all cells like the training cells. Raises
        InvalidArgument unless `coverage` is above 0 and at most 1.
        """
        return prediction_sets(probabilities, self._conformal_quantiles, coverage)
