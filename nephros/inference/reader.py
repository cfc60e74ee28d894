"""From what a user names (files, folders, npz) to batches of cells of the model's shape, and a row for each."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.image_decoding import decode_pages, strict_pillow_warnings
from nephros.data.input_files import InMemoryFile, read_bytes
from nephros.data.npz_stream import ImageArray, UnreadableInput
from nephros.errors import NephrosError
from nephros.inference.discovery import InputDiscovery
from nephros.inference.preprocessing import CellShape, preprocess, rejection_reason
from nephros.microscopy.detect import read_bytes_unless_stack

if TYPE_CHECKING:
    from nephros.microscopy.nuclei import ProgressTracker

MAX_BATCH_CELLS, MAX_BATCH_BYTES = 2048, 64 << 20
SizeCheck = Callable[[object, int, int], None]
"""Given a file's name, how many cells it is about to give and the pixels of each, raises UserError when it is too much."""
CellBatch = tuple[NDArray[np.int64], NDArray[np.uint8]]
"""Rows (b,), and their cells (b, h, w) or (b, h, w, c) uint8."""


@dataclass(frozen=True)
class CellSource:
    """One cell, or what stands in its place: where it came from."""

    file: str
    index: int
    """Page of a file or row of an array, from 0; of a stack a nucleus's number, from 1."""
    split: str = ""
    """Of an npz file's array: train, val or test."""


class CellReader:
    """All that was named, read once by `iter_batches`."""

    def __init__(
        self,
        inputs: Iterable[str | Path | InMemoryFile],
        shape: CellShape,
        white_level: float | None = None,
        check_size: SizeCheck = lambda _name, _cells, _pixels: None,
    ) -> None:
        """Take pictures, stacks, npz files and folders of them: paths, or bytes in memory.

        Args:
            named: folders are searched for PNG, TIFF, JPEG and npz files, in sorted order; hidden ones are passed over.
                A stack in memory is refused, since cutting it writes temporary files.
            shape: channels (1 or 3), height and width that the model needs.
            white: the value of 16-bit pixels that becomes 255; None takes the brightest of all 16-bit pixels.
            guard: is asked before cells are taken; the first page of a file has been decoded by then.
        """
        self.sources: list[CellSource] = []
        self.errors: dict[int, str] = {}
        """Row -> one sentence on why there is no cell."""
        self.conversion_counts: dict[str, int] = {}
        """What was done to pictures to make them fit -> to how many."""
        self.input_notes: list[str] = []
        """What is to be said of folders and stacks, a sentence each."""
        self.progress: ProgressTracker = lambda items, what, total: items
        """Shows a bar while a stack is cut."""
        self.n_read = 0
        """Files, and rows of arrays, that have been read."""
        self.row_conversions: dict[int, list[str]] = {}
        """Row -> the same of that picture."""
        self.shape, self._white_level, self._check_size = shape, white_level, check_size
        self._max_intensity = 0
        self._deferred: list[
            tuple[Path | InMemoryFile | ImageArray, dict[int, int]]
        ] = []  # 16-bit ones (page -> row): white is known at the end
        discovery = InputDiscovery(inputs)
        self._items = discovery.items
        self.input_notes += [note] if (note := discovery.skipped_note()) else []
        self._batch_size = max(1, min(MAX_BATCH_CELLS, MAX_BATCH_BYTES // math.prod(shape)))

    def __len__(self) -> int:
        """Return how large `n_read` will be."""
        return sum(len(source) if isinstance(source, ImageArray) else 1 for source in self._items)

    def iter_batches(self) -> Iterator[CellBatch]:
        """Yield every cell once, the 16-bit ones last; rows, errors and notes are complete at the end.

        One thread at a time may read.
        """
        pending: list[tuple[int, NDArray[np.uint8]]] = []
        with strict_pillow_warnings():
            for input_item in self._items:
                if isinstance(input_item, ImageArray):
                    yield from self._read_array(input_item)
                    continue
                for row_and_cell in self._read_file(input_item):
                    pending.append(row_and_cell)
                    if len(pending) == self._batch_size:
                        yield _collate(pending)
                        pending = []
                self.n_read += 1
            for row_and_cell in self._read_deferred():
                pending.append(row_and_cell)
                if len(pending) == self._batch_size:
                    yield _collate(pending)
                    pending = []
        if pending:
            yield _collate(pending)

    def _add_error_row(self, source: CellSource, error: str) -> None:
        self.errors[len(self.sources)] = _encodable(error)
        self.sources.append(source)

    def _read_file(self, source: Path | InMemoryFile | UnreadableInput) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Make a row of each page or nucleus, and yield row and cell of those that can be answered at once."""
        if isinstance(source, UnreadableInput):
            self._add_error_row(CellSource(_display_path(source.path), 0, source.split), source.message)
            return
        name, page = _display_path(source), 0
        deferred_rows: dict[int, int] = {}
        try:
            data = read_bytes_unless_stack(source)
            if data is None:
                yield from self._read_stack(source)
                return
            for image in decode_pages(source, data):
                self._check_size(source, 1, image.shape[0] * image.shape[1])
                row, cell_source = len(self.sources), CellSource(name, page)
                page += 1
                if rejection := rejection_reason(source, image):
                    self._add_error_row(cell_source, rejection)
                    continue
                self.sources.append(cell_source)
                if image.dtype != np.uint8 and self._white_level is None:
                    self._max_intensity = max(self._max_intensity, int(image.max()))
                    deferred_rows[cell_source.index] = row
                else:
                    yield row, self._preprocess(image, row)
        except NephrosError as error:
            self._add_error_row(CellSource(name, page), str(error))
        if deferred_rows:
            self._deferred.append((source, deferred_rows))

    def _read_stack(self, source: Path | InMemoryFile) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        if isinstance(source, InMemoryFile):
            raise NephrosError(
                f"{source} is a 3-D stack, not pictures of cells; cut its nuclei out with `nephros data prepare` "
                "and give the npz file that it writes."
            )
        from nephros.microscopy.extract import extract_nuclei_from_file

        nuclei = extract_nuclei_from_file(source, self._white_level, self.progress)
        self.input_notes += map(_encodable, nuclei.notes)
        for number, image in zip(nuclei.ids.tolist(), nuclei.images, strict=True):
            self.sources.append(CellSource(_display_path(source), number))
            yield len(self.sources) - 1, self._preprocess(image, len(self.sources) - 1)

    def _preprocess(self, image: NDArray[Any], row: int) -> NDArray[np.uint8]:
        cell, conversions = preprocess(
            image, self.shape, self._max_intensity if self._white_level is None else self._white_level
        )
        for conversion in conversions:
            self.conversion_counts[conversion] = self.conversion_counts.get(conversion, 0) + 1
        if conversions:
            self.row_conversions[row] = conversions
        return cell

    def _read_array(self, array: ImageArray) -> Iterator[CellBatch]:
        """Yield an array's cells, or of a 16-bit one only look for its white."""
        name, first = _display_path(array.path), len(self.sources)
        is_deferred = array.dtype != np.uint8 and self._white_level is None
        index = 0
        try:
            self._check_size(array.path, len(array), array.shape[1] * array.shape[2])
            for cells in array.iter_batches():
                rows = np.arange(first + index, first + index + len(cells))
                self.sources += [CellSource(name, index + i, array.split) for i in range(len(cells))]
                index += len(cells)
                self.n_read += len(cells)
                if is_deferred:
                    self._max_intensity = max(self._max_intensity, int(cells.max()))
                else:
                    yield rows, self._preprocess_batch(cells, int(rows[0]))
        except NephrosError as error:
            self._add_error_row(CellSource(name, index, array.split), str(error))
        if is_deferred:
            self._deferred.append((array, {i: first + i for i in range(index)}))

    def _preprocess_batch(self, cells: NDArray[Any], first: int) -> NDArray[np.uint8]:
        channels, height, width = self.shape
        if cells.dtype == np.uint8 and cells.shape[1:] == ((height, width) if channels == 1 else (height, width, 3)):
            return cells
        return np.stack([self._preprocess(cell, first + i) for i, cell in enumerate(cells)])

    def _read_deferred(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield row and cell of every 16-bit picture, now that the brightest of all is known."""
        for source, row_by_index in self._deferred:
            try:
                for index, image in enumerate(_iter_images(source)):
                    row = row_by_index.pop(index, None)
                    if row is not None:
                        yield row, self._preprocess(image, row)
            except NephrosError as error:  # what could not be read the first time is not wanted
                self.errors |= dict.fromkeys(row_by_index.values(), _encodable(str(error)))


def _iter_images(source: Path | InMemoryFile | ImageArray) -> Iterator[NDArray[Any]]:
    if not isinstance(source, ImageArray):
        yield from decode_pages(source, read_bytes(source))
    else:
        for batch in source.iter_batches():
            yield from batch


def _display_path(path: Path | InMemoryFile) -> str:
    """Return the path as text that can be written anywhere: bytes that are no UTF-8 become question marks in a diamond."""
    return path.name if isinstance(path, InMemoryFile) else os.fsencode(path).decode("utf-8", "replace")


def _encodable(text: str) -> str:
    """Return text that can be written anywhere: of paths in it, bytes that are no UTF-8 become question marks."""
    return text.encode("utf-8", "replace").decode()


def _collate(pending: list[tuple[int, NDArray[np.uint8]]]) -> CellBatch:
    return np.array([row for row, _ in pending]), np.stack([cell for _, cell in pending])
