"""From the files of a request to rows of answers: read in threads, answered in shared batches, explained where asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.display import png_data_uri
from nephros.data.in_memory_file import InMemoryFile
from nephros.inference.predictor import PredictionBatch, Predictor
from nephros.inference.reader import CellReader
from nephros.interpretability.saliency import saliency_maps
from nephros.interpretability.similar_cells import ReferenceIndex
from nephros.server.batching import MAX_BATCH, Batcher
from nephros.server.limits import DecodeLimiter, RequestLimits

READER_THREADS = 4
"""Threads that decode pictures and make those that are sent back."""
ResultDict = dict[str, Any]
"""One row: ``file``, ``index``, ``label``, ``class_name``, ``probabilities``, ``prediction_set``, ``is_ood``, ``error``."""


@dataclass(frozen=True)
class PredictOptions:
    """What a request asks for beside the answers."""

    coverage: float = 0.9
    white_level: float | None = None
    details: bool = False
    """Adds ``split``, ``ood_reasons``, ``notes`` and ``preview``."""
    explain: bool = False
    """Adds ``saliency_map``."""
    n_neighbors: int = 0
    """Adds ``similar_cells`` with so many known cells."""
    detail_limit: int = 1 << 62
    """Pictures, heat maps and similar cells are made of so many rows only."""
    row_range: range = range(1 << 62)
    """Those that are answered."""


@dataclass(frozen=True)
class _Chunk:
    """Some cells of a request with what is known of them."""

    rows: NDArray[np.int64]
    cells: NDArray[np.uint8]
    errors: dict[int, str]
    """Rows that were found to be bad since the part before."""


class Service:
    """An engine behind its queue, and known cells where there are any."""

    def __init__(
        self, predictor: Predictor, reference_index: ReferenceIndex | None = None, *, dynamic_batching: bool = True
    ) -> None:
        """Take an open engine; `dynamic_batching` as in Batcher."""
        self.predictor, self.reference_index = predictor, reference_index
        self.batcher = Batcher(predictor.predict_batch, dynamic_batching=dynamic_batching)
        self._pool = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="nephros-read")

    def close(self) -> None:
        """End its threads."""
        self.batcher.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def check_health(self) -> None:
        """Return when the model has answered a blank cell; raises what it raised, or TimeoutError after 5 seconds."""
        shape = (self.predictor.height, self.predictor.width, 3)[: 2 if self.predictor.channels == 1 else 3]
        future = self.batcher.submit(np.zeros((1, *shape), dtype=np.uint8))
        async with asyncio.timeout(5):
            await asyncio.wrap_future(future)

    async def stream_results(
        self, files: list[InMemoryFile], options: PredictOptions, limits: RequestLimits
    ) -> AsyncIterator[tuple[int, ResultDict]]:
        """Yield (row, Result) for every cell and every bad file, as they are answered; rows count from 0.

        Refused when too many requests wait. A bad file raises nothing.
        """
        predictor = self.predictor
        shape = (predictor.channels, predictor.height, predictor.width)
        loop = asyncio.get_running_loop()
        reader = await loop.run_in_executor(
            self._pool, lambda: CellReader(files, shape, options.white_level, DecodeLimiter(limits))
        )
        chunks = _chunks(reader, options.row_range)
        try:
            while True:
                with self.batcher.expect_more():
                    chunk = await loop.run_in_executor(self._pool, next, chunks, None)
                    if chunk is None:
                        break
                    future = self.batcher.submit(chunk.cells) if len(chunk.rows) else None
                for row, error in chunk.errors.items():
                    yield row, self._error_result(reader, row, error, options)
                if future is not None:
                    predictions = await asyncio.wrap_future(future)
                    for row, result in await loop.run_in_executor(
                        self._pool, self._chunk_results, reader, chunk, predictions, options
                    ):
                        yield row, result
        finally:
            with contextlib.suppress(ValueError):  # it may still be at work, and ends when it is forgotten
                chunks.close()

    def _error_result(self, reader: CellReader, row: int, error: str, options: PredictOptions) -> ResultDict:
        input_row = reader.sources[row]
        result: ResultDict = {"file": input_row.file, "index": input_row.index}
        result |= dict.fromkeys(("label", "class_name", "probabilities", "prediction_set", "is_ood"))
        return result | {"error": error} | _optional_fields(options, input_row.split, "", [])

    def _chunk_results(
        self, reader: CellReader, chunk: _Chunk, predictions: PredictionBatch, options: PredictOptions
    ) -> list[tuple[int, ResultDict]]:
        sets = self.predictor.prediction_sets(predictions.probabilities, options.coverage)
        labels = predictions.probabilities.argmax(axis=1)
        rounded = np.round(predictions.probabilities.astype(np.float64), 6).tolist()
        results = []
        for i, row in enumerate(chunk.rows.tolist()):
            input_row = reader.sources[row]
            result: ResultDict = {
                "file": input_row.file,
                "index": input_row.index,
                "label": int(labels[i]),
                "class_name": self.predictor.class_names[labels[i]],
                "probabilities": rounded[i],
                "prediction_set": np.flatnonzero(sets[i]).tolist(),
                "is_ood": bool(predictions.is_ood[i]),
                "error": None,
            }
            optional = _optional_fields(
                options, input_row.split, predictions.ood_reasons[i], reader.row_conversions.get(row, [])
            )
            results.append((row, result | optional))
        self._add_visuals(chunk, predictions, labels, options, results)
        return results

    def _add_visuals(
        self,
        chunk: _Chunk,
        predictions: PredictionBatch,
        labels: NDArray[Any],
        options: PredictOptions,
        results: list[tuple[int, ResultDict]],
    ) -> None:
        """Add what takes time, for those rows of which it is wanted."""
        selected = np.flatnonzero(chunk.rows < options.detail_limit)
        if not len(selected):
            return
        if options.details:
            for i in selected:
                results[i][1]["preview"] = png_data_uri(chunk.cells[i])
        if options.explain:
            selected_predictions = _select_rows(predictions, selected)
            saliency = saliency_maps(
                chunk.cells[selected], selected_predictions, labels[selected], self._predict_via_queue
            )
            for i, values in zip(selected, np.round(saliency.values.astype(np.float64), 3), strict=True):
                results[i][1]["saliency_map"] = {
                    "method": saliency.method,
                    "label": int(labels[i]),
                    "values": values.tolist(),
                }
        if options.n_neighbors and self.reference_index is not None and predictions.features is not None:
            neighbors, similarity = self.reference_index.nearest(predictions.features[selected], options.n_neighbors)
            for i, indices, values in zip(selected, neighbors, similarity, strict=True):
                results[i][1]["similar_cells"] = [
                    self._similar_cell(int(j), float(s)) for j, s in zip(indices, values, strict=True)
                ]

    def _similar_cell(self, index: int, similarity: float) -> dict[str, Any]:
        assert self.reference_index is not None
        label = int(self.reference_index.labels[index])
        return {
            "label": label,
            "class_name": self.reference_index.class_names[label],
            "similarity": round(similarity, 4),
            "preview": png_data_uri(self.reference_index.images[index]),
        }

    def _predict_via_queue(self, cells: NDArray[np.uint8]) -> PredictionBatch:
        """Answer by way of the queue, so that one thread alone asks the engine."""
        return self.batcher.submit(cells).result()


def _optional_fields(options: PredictOptions, split: str, reason: str, notes: list[str]) -> ResultDict:
    """Return what a request has wished for beside an answer, its pictures still to be made."""
    fields: ResultDict = {}
    if options.details:
        fields |= {"split": split, "ood_reasons": reason, "notes": notes, "preview": None}
    if options.explain:
        fields["saliency_map"] = None
    if options.n_neighbors:
        fields["similar_cells"] = []
    return fields


def _select_rows(predictions: PredictionBatch, indices: NDArray[np.int64]) -> PredictionBatch:
    features, maps = predictions.features, predictions.class_activation_maps
    return PredictionBatch(
        predictions.probabilities[indices],
        None if features is None else features[indices],
        None if maps is None else maps[indices],
        predictions.is_ood[indices],
        tuple(predictions.ood_reasons[i] for i in indices),
    )


def _chunks(reader: CellReader, row_range: range) -> Generator[_Chunk, None, None]:
    """Yield the `row_range` cells of a request, at most MOST at a time, and their errors as soon as they are known."""
    reported: set[int] = set()

    def new_errors() -> dict[int, str]:
        fresh = {row: error for row, error in list(reader.errors.items()) if row in row_range and row not in reported}
        reported.update(fresh)
        return fresh

    for rows, cells in reader.iter_batches():
        inside = (rows >= row_range.start) & (rows < row_range.stop)
        if not inside.all():
            rows, cells = rows[inside], cells[inside]
        for start in range(0, len(rows), MAX_BATCH):
            yield _Chunk(rows[start : start + MAX_BATCH], cells[start : start + MAX_BATCH], new_errors())
    if remaining_errors := new_errors():
        no_cells = np.empty((0, reader.shape[1], reader.shape[2]), dtype=np.uint8)
        yield _Chunk(np.empty(0, dtype=np.int64), no_cells, remaining_errors)
