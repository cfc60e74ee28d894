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

from nephros.data.image_decoding import decode_pages, quiet, read_bytes
from nephros.data.in_memory_file import Held
from nephros.data.npz_stream import CellArray, Unread
from nephros.errors import UserError
from nephros.inference.discovery import Sources
from nephros.inference.preprocessing import Shape, fitted, wrong
from nephros.microscopy.detect import bytes_unless_stack

if TYPE_CHECKING:
    from nephros.microscopy.nuclei import Progress

BATCH, BATCH_BYTES = 2048, 64 << 20
Guard = Callable[[object, int, int], None]
"""Given a file's name, how many cells it is about to give and the pixels of each, raises UserError when it is too much."""
Batch = tuple[NDArray[np.int64], NDArray[np.uint8]]
"""Rows (b,), and their cells (b, h, w) or (b, h, w, c) uint8."""


@dataclass(frozen=True)
class Row:
    """One cell, or what stands in its place: where it came from."""

    file: str
    index: int
    """Page of a file or row of an array, from 0; of a stack a nucleus's number, from 1."""
    split: str = ""
    """Of an npz file's array: train, val or test."""


class Inputs:
    """All that was named, read once by `batches`."""

    def __init__(
        self,
        named: Iterable[str | Path | Held],
        shape: Shape,
        white: float | None = None,
        guard: Guard = lambda _name, _cells, _pixels: None,
    ) -> None:
        """Take pictures, stacks, npz files and folders of them: paths, or bytes in memory.

        Args:
            named: folders are searched for PNG, TIFF, JPEG and npz files, in sorted order; hidden ones are passed over.
                A stack in memory is refused, since cutting it writes temporary files.
            shape: channels (1 or 3), height and width that the model needs.
            white: the value of 16-bit pixels that becomes 255; None takes the brightest of all 16-bit pixels.
            guard: is asked before cells are taken; the first page of a file has been decoded by then.
        """
        self.rows: list[Row] = []
        self.errors: dict[int, str] = {}
        """Row -> one sentence on why there is no cell."""
        self.notes: dict[str, int] = {}
        """What was done to pictures to make them fit -> to how many."""
        self.remarks: list[str] = []
        """What is to be said of folders and stacks, a sentence each."""
        self.progress: Progress = lambda items, what, total: items
        """Shows a bar while a stack is cut."""
        self.done = 0
        """Files, and rows of arrays, that have been read."""
        self.row_notes: dict[int, list[str]] = {}
        """Row -> the same of that picture."""
        self.shape, self._white, self._guard = shape, white, guard
        self._highest = 0
        self._late: list[
            tuple[Path | Held | CellArray, dict[int, int]]
        ] = []  # 16-bit ones (page -> row): white is known at the end
        sources = Sources(named)
        self._sources = sources.found
        self.remarks += [note] if (note := sources.note()) else []
        self._batch = max(1, min(BATCH, BATCH_BYTES // math.prod(shape)))

    def __len__(self) -> int:
        """Return how large `done` will be."""
        return sum(len(source) if isinstance(source, CellArray) else 1 for source in self._sources)

    def batches(self) -> Iterator[Batch]:
        """Yield every cell once, the 16-bit ones last; rows, errors and notes are complete at the end.

        One thread at a time may read.
        """
        held: list[tuple[int, NDArray[np.uint8]]] = []
        with quiet():
            for source in self._sources:
                if isinstance(source, CellArray):
                    yield from self._array(source)
                    continue
                for item in self._file(source):
                    held.append(item)
                    if len(held) == self._batch:
                        yield _joined(held)
                        held = []
                self.done += 1
            for item in self._second_reading():
                held.append(item)
                if len(held) == self._batch:
                    yield _joined(held)
                    held = []
        if held:
            yield _joined(held)

    def _fail(self, row: Row, error: str) -> None:
        self.errors[len(self.rows)] = _writable(error)
        self.rows.append(row)

    def _file(self, source: Path | Held | Unread) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Make a row of each page or nucleus, and yield row and cell of those that can be answered at once."""
        if isinstance(source, Unread):
            self._fail(Row(_shown(source.path), 0, source.split), source.error)
            return
        name, page = _shown(source), 0
        late: dict[int, int] = {}
        try:
            data = bytes_unless_stack(source)
            if data is None:
                yield from self._stack(source)
                return
            for image in decode_pages(source, data):
                self._guard(source, 1, image.shape[0] * image.shape[1])
                row, here = len(self.rows), Row(name, page)
                page += 1
                if why := wrong(source, image):
                    self._fail(here, why)
                    continue
                self.rows.append(here)
                if image.dtype != np.uint8 and self._white is None:
                    self._highest = max(self._highest, int(image.max()))
                    late[here.index] = row
                else:
                    yield row, self._fitted(image, row)
        except UserError as error:
            self._fail(Row(name, page), str(error))
        if late:
            self._late.append((source, late))

    def _stack(self, source: Path | Held) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        if isinstance(source, Held):
            raise UserError(
                f"{source} is a 3-D stack, not pictures of cells; cut its nuclei out with `nephros data prepare` "
                "and give the npz file that it writes."
            )
        from nephros.microscopy.extract import nuclei_of

        found = nuclei_of(source, self._white, self.progress)
        self.remarks += map(_writable, found.notes)
        for number, image in zip(found.ids.tolist(), found.images, strict=True):
            self.rows.append(Row(_shown(source), number))
            yield len(self.rows) - 1, self._fitted(image, len(self.rows) - 1)

    def _fitted(self, image: NDArray[Any], row: int) -> NDArray[np.uint8]:
        cell, done = fitted(image, self.shape, self._highest if self._white is None else self._white)
        for words in done:
            self.notes[words] = self.notes.get(words, 0) + 1
        if done:
            self.row_notes[row] = done
        return cell

    def _array(self, array: CellArray) -> Iterator[Batch]:
        """Yield an array's cells, or of a 16-bit one only look for its white."""
        name, first = _shown(array.path), len(self.rows)
        late = array.dtype != np.uint8 and self._white is None
        index = 0
        try:
            self._guard(array.path, len(array), array.shape[1] * array.shape[2])
            for cells in array.batches():
                rows = np.arange(first + index, first + index + len(cells))
                self.rows += [Row(name, index + i, array.split) for i in range(len(cells))]
                index += len(cells)
                self.done += len(cells)
                if late:
                    self._highest = max(self._highest, int(cells.max()))
                else:
                    yield rows, self._all_fitted(cells, int(rows[0]))
        except UserError as error:
            self._fail(Row(name, index, array.split), str(error))
        if late:
            self._late.append((array, {i: first + i for i in range(index)}))

    def _all_fitted(self, cells: NDArray[Any], first: int) -> NDArray[np.uint8]:
        channels, height, width = self.shape
        if cells.dtype == np.uint8 and cells.shape[1:] == ((height, width) if channels == 1 else (height, width, 3)):
            return cells
        return np.stack([self._fitted(cell, first + i) for i, cell in enumerate(cells)])

    def _second_reading(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield row and cell of every 16-bit picture, now that the brightest of all is known."""
        for source, wanted in self._late:
            try:
                for index, image in enumerate(_images(source)):
                    row = wanted.pop(index, None)
                    if row is not None:
                        yield row, self._fitted(image, row)
            except UserError as error:  # what could not be read the first time is not wanted
                self.errors |= dict.fromkeys(wanted.values(), _writable(str(error)))


def _images(source: Path | Held | CellArray) -> Iterator[NDArray[Any]]:
    if not isinstance(source, CellArray):
        yield from decode_pages(source, read_bytes(source))
    else:
        for part in source.batches():
            yield from part


def _shown(path: Path | Held) -> str:
    """Return the path as text that can be written anywhere: bytes that are no UTF-8 become question marks in a diamond."""
    return path.name if isinstance(path, Held) else os.fsencode(path).decode("utf-8", "replace")


def _writable(text: str) -> str:
    """Return text that can be written anywhere: of paths in it, bytes that are no UTF-8 become question marks."""
    return text.encode("utf-8", "replace").decode()


def _joined(held: list[tuple[int, NDArray[np.uint8]]]) -> Batch:
    return np.array([row for row, _ in held]), np.stack([cell for _, cell in held])
