"""From the uploaded files of a request to its results: reads files in threads, predicts in shared batches, adds explanations."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.images.transforms import png_data_uri
from nephros.data.input_files import InMemoryFile
from nephros.errors import DivergedError, NephrosError
from nephros.inference.classify import NOT_FINITE
from nephros.inference.prediction_batch import PredictionBatch
from nephros.inference.predictions import PredictionRow, prediction_rows
from nephros.inference.predictor import Predictor
from nephros.interpretability.saliency import saliency_maps
from nephros.interpretability.similar_cells import ReferenceIndex, embed_by, index_for_model
from nephros.server.batching import Batcher
from nephros.server.limits import RequestLimits
from nephros.server.loop_queue import LoopQueue
from nephros.server.reading import MAX_PLAIN_FILES, Chunk, ReadOptions
from nephros.server.scheduling import READER_PROCESSES, RequestScheduler
from nephros.server.schemas import PredictParams, ResultParams, SaliencyMap, SimilarCellInfo, StreamedResult
from nephros.server.stack_reading import StackReadOptions
from nephros.server.stack_schemas import NO_POSITION, StackProgress, StackResult
from nephros.server.stack_uploads import StackUpload

HEALTH_TIMEOUT_S = 5


class Service:
    """A predictor behind its queue, with reference cells if there are any."""

    def __init__(
        self,
        predictor: Predictor,
        reference_index: ReferenceIndex | None = None,
        *,
        dynamic_batching: bool = True,
        reader_processes: int = READER_PROCESSES,
        scheduler: RequestScheduler | None = None,
        cells_to_index: ReferenceIndex | None = None,
    ) -> None:
        """Start the threads; `dynamic_batching` as in Batcher, `reader_processes` as in RequestScheduler, unless one is given.

        `cells_to_index` become the reference cells when a request asks for similar ones first; they are of another model's index.
        """
        self.predictor, self.reference_index = predictor, reference_index
        self._cells_to_index, self._indexing = cells_to_index, asyncio.Lock()
        self.batcher = Batcher(predictor.predict_batch, dynamic_batching=dynamic_batching)
        self._queue = LoopQueue(self.batcher)
        self._scheduler = scheduler or RequestScheduler(reader_processes)

    def with_predictor(self, predictor: Predictor) -> Service:
        """Return a service of another model, whose requests are read by the same threads and processes, and whose reference cells
        are the same."""
        return Service(predictor, scheduler=self._scheduler, cells_to_index=self.reference_index)

    def start(self) -> None:
        """Start the processes that decode images, so that the first of them need not wait."""
        self._scheduler.start()

    def close(self) -> None:
        """Stop the threads and processes."""
        self.batcher.close()
        self._scheduler.close()

    async def check_health(self) -> None:
        """Return once the model has classified a blank cell.

        Raises:
            NephrosError: its output is not finite, or contradicts the card.
            TimeoutError: there was no output for a few seconds. Errors of the runtime are raised as they are.
        """
        channels, height, width = self.predictor.input_shape
        shape = (height, width) if channels == 1 else (height, width, channels)
        future = self.batcher.submit(np.zeros((1, *shape), dtype=np.uint8))
        async with asyncio.timeout(HEALTH_TIMEOUT_S):
            predictions = await asyncio.wrap_future(future)
        if not predictions.is_finite.all():
            raise DivergedError("The network's output for a blank cell is not finite: export the model again.")

    async def stream_results(
        self, files: list[InMemoryFile], params: PredictParams, limits: RequestLimits
    ) -> AsyncIterator[StreamedResult]:
        """Yield a result for every cell and every file that can't be read, in the order in which they complete.

        Raises:
            RequestRejected: too many requests are waiting.
        """
        options = ReadOptions(
            self.predictor.input_shape,
            self.predictor.input_conversion,
            limits,
            (params.row_range.start, params.row_range.stop),
            params.white_level,
            params.plane,
        )
        async with contextlib.aclosing(self._scheduler.read(files, options)) as chunks:
            while True:
                with self.batcher.expect_more():
                    chunk = await anext(chunks, None)
                    if chunk is None:
                        break
                async for result in self._chunk_results(chunk, params, files):
                    yield result

    async def stream_stack(
        self,
        upload: StackUpload,
        stack_options: dict[str, Any],
        params: ResultParams,
        limits: RequestLimits,
        notes: list[str],
    ) -> AsyncIterator[StackResult | StackProgress]:
        """Yield a result for every nucleus of a stack, or one with an error, and before them how far reading it is.

        How the nuclei were found is added to `notes`. The files of the upload are removed once nothing reads them any more.

        Raises:
            RequestRejected: reading takes too long or too much memory.
        """
        options = StackReadOptions(
            str(upload.folder),
            str(upload.stack.path),
            upload.stack.name,
            stack_options,
            self.predictor.input_shape,
            self.predictor.input_conversion.to_dict(),
            asdict(limits),
            params.white_level,
        )
        upload.has_reader = True
        async with contextlib.aclosing(self._scheduler.read_stack(options, limits.timeout_s, upload.remove)) as parts:
            async for part in parts:
                notes += part.notes
                positions = iter(part.positions)
                async for result in self._chunk_results(part.chunk, params, None):
                    fields = {name: getattr(result, name) for name in result.model_fields_set}
                    yield StackResult(**fields, **next(positions, NO_POSITION))
                if part.stage:
                    yield StackProgress(stage=part.stage, share=round(part.share, 3))

    async def _chunk_results(
        self, chunk: Chunk, params: ResultParams, files: list[InMemoryFile] | None
    ) -> AsyncIterator[StreamedResult]:
        """Yield the errors of a chunk, then the results of its cells; `files` are those of the request, None is a stack."""
        for row, (source, error) in chunk.errors.items():
            yield _to_result(row, PredictionRow(source, error=error), params, [])
        if not len(chunk.rows):
            return
        if params.n_neighbors:
            await self._index_reference_cells()
        try:
            predictions = await self._queue.predict(chunk.cells)
        except NephrosError as error:  # the model's own fault: the other rows may fail or not
            for row, source in zip(chunk.rows.tolist(), chunk.sources, strict=True):
                yield _to_result(row, PredictionRow(source, error=str(error)), params, [])
            return
        if len(chunk.rows) <= MAX_PLAIN_FILES and not params.adds_visuals:
            results = self._predicted_results(chunk, predictions, params)
        else:
            run_in_thread = self._scheduler.run_for(files)
            results = await run_in_thread(self._predicted_results, chunk, predictions, params)
        for result in results:
            yield result

    async def _index_reference_cells(self) -> None:
        """Compute the features of the reference cells if that has not been done; other requests overtake it."""
        async with self._indexing:
            cells, embed = self._cells_to_index, embed_by(self._predict_via_queue)
            if cells is not None:
                self.reference_index = await asyncio.to_thread(index_for_model, cells, self.predictor, embed)
                self._cells_to_index = None

    def _predicted_results(
        self, chunk: Chunk, predictions: PredictionBatch, params: ResultParams
    ) -> list[StreamedResult]:
        sets = self.predictor.prediction_sets(predictions.probabilities, params.coverage)
        prediction_table = prediction_rows(
            chunk.sources,
            predictions.probabilities,
            sets,
            predictions.ood_reasons,
            self.predictor.class_names,
        )
        is_finite = predictions.is_finite
        results = [
            _to_result(
                row,
                prediction if finite else PredictionRow(prediction.source, error=NOT_FINITE),
                params,
                notes,
            )
            for row, prediction, finite, notes in zip(
                chunk.rows.tolist(), prediction_table, is_finite.tolist(), chunk.notes, strict=True
            )
        ]
        labels = predictions.probabilities.argmax(axis=1)
        self._add_visuals(chunk, predictions, labels, params, results)
        return results

    def _add_visuals(
        self,
        chunk: Chunk,
        predictions: PredictionBatch,
        labels: NDArray[Any],
        params: ResultParams,
        results: list[StreamedResult],
    ) -> None:
        """Add previews, pixels, saliency maps and similar cells to the rows below `detail_limit`, as requested."""
        selected = np.flatnonzero((chunk.rows < params.detail_limit) & predictions.is_finite)
        if not len(selected):
            return
        if params.details and not params.pixels:
            for i in selected:
                results[i].preview = png_data_uri(chunk.cells[i])
        if params.pixels:
            for i in selected:
                results[i].pixels = base64.b64encode(chunk.cells[i].tobytes()).decode()
        if params.explain:
            selected_predictions = predictions[selected]
            saliency = saliency_maps(
                chunk.cells[selected], selected_predictions, labels[selected], self._predict_via_queue
            )
            for i, values in zip(selected, np.round(saliency.values.astype(np.float64), 3), strict=True):
                results[i].saliency_map = SaliencyMap(
                    method=saliency.method, label=int(labels[i]), values=values.tolist()
                )
        if params.n_neighbors and self.reference_index is not None and predictions.features is not None:
            neighbors, similarity = self.reference_index.nearest(predictions.features[selected], params.n_neighbors)
            for i, indices, values in zip(selected, neighbors, similarity, strict=True):
                results[i].similar_cells = [
                    _similar_cell(self.reference_index, int(j), float(s)) for j, s in zip(indices, values, strict=True)
                ]

    def _predict_via_queue(self, cells: NDArray[np.uint8]) -> PredictionBatch:
        """Predict through the queue, so that only one thread runs the network."""
        return self.batcher.submit(cells).result()


def _to_result(row: int, prediction: PredictionRow, params: ResultParams, notes: list[str]) -> StreamedResult:
    """Return the result of a row, with the fields that the request asks for; visuals are still empty."""
    optional: dict[str, Any] = {}
    if params.details:
        reasons = list(prediction.ood_reasons)
        optional |= {"split": prediction.source.split, "ood_reasons": reasons, "notes": notes, "preview": None}
    if params.pixels:
        optional["pixels"] = None
    if params.explain:
        optional["saliency_map"] = None
    if params.n_neighbors:
        optional["similar_cells"] = []
    return StreamedResult(
        row=row,
        file=prediction.source.file,
        index=prediction.source.index,
        label=prediction.label,
        class_name=prediction.class_name,
        probabilities=prediction.probabilities,
        prediction_set=prediction.prediction_set,
        is_ood=prediction.is_ood,
        error=prediction.error,
        **optional,
    )


def _similar_cell(reference_index: ReferenceIndex, index: int, similarity: float) -> SimilarCellInfo:
    label = int(reference_index.labels[index])
    return SimilarCellInfo(
        label=label,
        class_name=reference_index.class_names[label],
        similarity=round(similarity, 4),
        preview=png_data_uri(reference_index.images[index]),
    )
