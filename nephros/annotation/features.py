"""Features and out-of-distribution scores of a project's cells: computed once, kept in its folder, and resumed after a break."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.errors import IncompatibleError
from nephros.files import replace_file, write_json
from nephros.inference.array_cells import arrays_to_cells
from nephros.inference.card_json import card_to_json
from nephros.inference.ood.detector import ood_scores
from nephros.inference.predictor import Predictor

FEATURES_FILE, OOD_FILE, STATE_FILE = "features.npy", "ood_scores.npy", "features.json"
FEATURES_FORMAT = "nephros-features-1"
CHUNK_CELLS = 128
"""Cells per call of the network: after each, the work can stop and is kept."""


class CellFeatures:
    """Memory-mapped features of the first `n_done` cells, in the order of the project.

    One thread extends them; others may read rows below `n_done` at the same time.
    """

    def __init__(self, folder: Path, predictor: Predictor) -> None:
        """Open what the folder has of this model's features; those of another model are replaced.

        Raises IncompatibleError for a classical baseline, which has no features.
        """
        self._folder, self._predictor = folder, predictor
        self._digest = hashlib.sha256(card_to_json(predictor.card).encode()).hexdigest()
        self._lock = threading.Lock()
        self._features: NDArray[np.float32] = np.empty((0, self._n_features()), np.float32)
        self._ood: NDArray[np.float32] = np.empty(0, np.float32)
        self.n_done = 0
        self._open()
        self.saved = self.n_done

    def _n_features(self) -> int:
        channels, height, width = self._predictor.input_shape
        blank = np.zeros((1, height, width) if channels == 1 else (1, height, width, channels), np.uint8)
        features = self._predictor.forward(blank).get("features")
        if features is None:
            recipe = self._predictor.card["recipe"]
            raise IncompatibleError(
                f"The model {recipe} is a classical baseline, which has no features to learn from: choose a network as `model`."
            )
        return int(features.shape[1])

    def rows(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the features (n_done, d) and out-of-distribution scores (n_done,), as views of files; 1 is the threshold."""
        with self._lock:
            return self._features[: self.n_done], self._ood[: self.n_done]

    def extend(self, read: Callable[[NDArray[np.int64]], NDArray[np.uint8]], n_cells: int) -> int:
        """Compute the next chunk of up to CHUNK_CELLS cells, and return how many cells are done.

        `read` returns the (k, h, w) or (k, h, w, 3) uint8 images of k cells; `n_cells` is the number that there are.
        """
        self._resize(n_cells)
        start = self.n_done
        cells = np.arange(start, min(start + CHUNK_CELLS, n_cells))
        if not len(cells):
            return start
        features, scores = self._compute(read(cells))
        self._features[cells[0] : cells[-1] + 1] = features
        self._ood[cells[0] : cells[-1] + 1] = scores
        with self._lock:
            self.n_done = start + len(cells)
        return self.n_done

    def save(self) -> None:
        """Flush the rows to disk, and then how many they are: after a crash, rows that are counted are complete."""
        for array in (self._features, self._ood):
            if isinstance(array, np.memmap):
                array.flush()
        state = {"format": FEATURES_FORMAT, "model": self._predictor.card["recipe"], "model_sha256": self._digest}
        n_done = self.n_done
        write_json(self._folder / STATE_FILE, {**state, "n_features": self._features.shape[1], "n_done": n_done})
        self.saved = n_done

    def _compute(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        predictor = self._predictor
        if (1 if images.ndim == 3 else images.shape[-1], *images.shape[1:3]) != predictor.input_shape:
            images, _ = arrays_to_cells(images, predictor.input_shape, predictor.input_conversion)
        outputs = predictor.forward(images)
        features = outputs["features"]
        if not np.isfinite(features).all():
            # A single cell can't spoil the others; without finite features it is as unusual as can be.
            features = np.nan_to_num(features, nan=0.0, posinf=0.0, neginf=0.0)
        return features, ood_scores(predictor.card["ood_detector"], images, outputs.get("feature_distance"))

    def _open(self) -> None:
        state = _read_state(self._folder / STATE_FILE)
        expected = {"format": FEATURES_FORMAT, "model_sha256": self._digest, "n_features": self._features.shape[1]}
        if any(state.get(key) != value for key, value in expected.items()):
            # A crash while the rows are replaced must not leave a state that counts them as another model's.
            (self._folder / STATE_FILE).unlink(missing_ok=True)
            return
        try:
            features, ood = (_map_array(self._folder / name) for name in (FEATURES_FILE, OOD_FILE))
        except (OSError, ValueError):
            return  # they are computed again
        n_done = state.get("n_done")
        fits = features.ndim == 2 and features.shape[1:] == self._features.shape[1:] and ood.ndim == 1
        fits = fits and features.dtype == ood.dtype == np.float32
        if fits and isinstance(n_done, int) and 0 <= n_done <= min(len(features), len(ood)):
            self._features, self._ood, self.n_done = features, ood, n_done

    def _resize(self, n_cells: int) -> None:
        """Make room for `n_cells` rows, in new files, which keep the rows that are done."""
        is_mapped = isinstance(self._features, np.memmap) and isinstance(self._ood, np.memmap)
        if is_mapped and min(len(self._features), len(self._ood)) >= n_cells:
            return
        features = self._grown(FEATURES_FILE, self._features, (n_cells, self._features.shape[1]))
        ood = self._grown(OOD_FILE, self._ood, (n_cells,))
        with self._lock:
            self._features, self._ood = features, ood

    def _grown(self, name: str, old: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
        path, temporary = self._folder / name, self._folder / f".{name}.tmp"
        new = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
        if hasattr(
            os, "posix_fallocate"
        ):  # on a full disk an error now, rather than a crash at the first write to a page
            with open(temporary, "rb+") as file:
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
        new[: self.n_done] = old[: self.n_done]
        new.flush()
        replace_file(temporary, path)
        return new


def _map_array(path: Path) -> NDArray[np.float32]:
    """Return the array of a file, memory-mapped for writing; ValueError for a damaged file."""
    np.load(path, mmap_mode="r")  # for writing, NumPy would lengthen a file that was cut, with zeros
    array: NDArray[np.float32] = np.load(path, mmap_mode="r+")
    return array


def _read_state(path: Path) -> dict[str, Any]:
    """Return what the file of the state says; nothing where it is missing or damaged, and then features are computed again."""
    try:
        state = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}
