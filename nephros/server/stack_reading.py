"""An uploaded stack as chunks of nuclei, read in a process that can be killed; the same reader as `nephros.predict` has."""

from __future__ import annotations

import contextlib
import math
import queue
import tempfile
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nephros.data.images.input_conversion import CellShape, InputConversion
from nephros.errors import FileError, InvalidArgument, NephrosError
from nephros.inference.nucleus_columns import position_records
from nephros.inference.reader import CellReader, CellSource
from nephros.microscopy.reader import open_stack_with
from nephros.microscopy.stack import StackOptions
from nephros.microscopy.voxel_size import check_voxel_size
from nephros.server.disk_uploads import without_folder
from nephros.server.limits import RequestLimits
from nephros.server.reading import CHUNK_CELLS, Chunk

HEARTBEAT_S = 0.5
"""Seconds after which a reader that has nothing new says so, which shows whether anybody still waits for it."""
_WAITING_PARTS = 4
"""Parts that wait for the network before the reader does."""
T = TypeVar("T")


@dataclass(frozen=True)
class StackPart:
    """What is new of a stack: some of its nuclei, or how far reading it is."""

    chunk: Chunk
    positions: list[dict[str, Any]]
    """Where each nucleus of the chunk is, as `nephros.inference.nucleus_columns.position_records` has it."""
    stage: str = ""
    """What is done now, such as ``Segmenting nuclei``."""
    share: float = 0.0
    """How much of the stage is done, from 0 to 1."""
    notes: tuple[str, ...] = ()
    """How the nuclei were found, in the last part."""

    @property
    def nbytes(self) -> int:
        """Bytes of the cells."""
        return self.chunk.nbytes

    def to_message(self) -> tuple[Any, ...]:
        """Return the fields as values that `nephros.isolation` can send."""
        return self.chunk.to_message(), self.positions, self.stage, self.share, self.notes

    @classmethod
    def from_message(cls, message: Sequence[Any]) -> StackPart:
        """Return what `to_message` gave."""
        chunk, positions, stage, share, notes = message
        return cls(Chunk.from_message(chunk), positions, stage, share, tuple(notes))


@dataclass(frozen=True)
class StackReadOptions:
    """What a request and the server say of reading a stack."""

    folder: str
    """Of the upload; everything else that is written while it is read goes there too."""
    stack: str
    """Path of the stack."""
    name: str
    """What the client calls it."""
    options: dict[str, Any]
    """Fields of `StackOptions`."""
    shape: CellShape
    conversion: dict[str, Any]
    limits: dict[str, Any]
    white_level: float | None = None


class _Closed(Exception):
    """Nobody wants the parts any more."""


class _Parts:
    """Parts on their way from the thread that reads to the one that wants them."""

    def __init__(self) -> None:
        self._queue: queue.Queue[StackPart | BaseException | None] = queue.Queue(_WAITING_PARTS)
        self._is_closed = False

    def put(self, part: StackPart | BaseException | None) -> None:
        """Add a part, or wait until there is room for it; None comes last."""
        while not self._is_closed:
            with contextlib.suppress(queue.Full):
                self._queue.put(part, timeout=HEARTBEAT_S)
                return
        raise _Closed

    def __iter__(self) -> Iterator[StackPart]:
        try:
            while True:
                try:
                    part = self._queue.get(timeout=HEARTBEAT_S)
                except queue.Empty:
                    part = _without_nuclei()
                if part is None:
                    return
                if isinstance(part, BaseException):
                    raise part
                yield part
        finally:
            self._is_closed = True


def read_stack(options: StackReadOptions) -> Generator[StackPart, None, None]:
    """Yield the nuclei of a stack, and before them how far it is; a stack that can't be read is an error of row 0."""
    parts = _Parts()
    with _scratch_files_in(options.folder):
        threading.Thread(target=_fill, args=(options, parts), name="nephros-stack", daemon=True).start()
        yield from parts


def read_stack_in_worker(options: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the parts of a stack as messages; `options` are the fields of `StackReadOptions`."""
    for part in read_stack(StackReadOptions(**options | {"shape": tuple(options["shape"])})):
        yield part.to_message()


@contextlib.contextmanager
def _scratch_files_in(folder: str) -> Iterator[None]:
    """Within the block, temporary files are made in a folder: it is removed even if this process is killed."""
    before, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = before


def _fill(options: StackReadOptions, parts: _Parts) -> None:
    try:
        for part in _iter_parts(options, parts):
            parts.put(part)
        parts.put(None)
    except _Closed:
        pass
    except BaseException as error:
        with contextlib.suppress(_Closed):
            parts.put(error)


def _iter_parts(options: StackReadOptions, parts: _Parts) -> Iterator[StackPart]:
    limits, folder = RequestLimits(**options.limits), Path(options.folder)
    source, notes = CellSource(options.name, 0), list[str]()

    def progress(items: Iterable[T], what: str, total: int) -> Iterator[T]:
        last_report = 0.0
        for i, item in enumerate(items):
            if time.monotonic() - last_report >= HEARTBEAT_S:
                last_report = time.monotonic()
                parts.put(_without_nuclei(stage=what, share=i / max(1, total)))
            yield item

    positions: dict[int, dict[str, Any]] = {}
    try:
        stack_options = _stack_options(options.options)
        _check_size(options, stack_options, limits)
        reader = CellReader(
            [options.stack],
            options.shape,
            options.white_level,
            stack_options=stack_options,
            conversion=InputConversion.from_dict(options.conversion),
            all_stacks=True,
        )
        reader.progress = progress
        for rows, cells in reader.iter_batches():
            if not reader.located:
                raise FileError(
                    options.stack, f"{options.name} is not a stack: send images of single cells to /predict."
                )
            if not positions:
                positions = position_records(reader.located[0])
                if len(positions) > limits.max_cells:
                    raise FileError(
                        options.stack,
                        f"{options.name} has {len(positions):,} nuclei, and a request may have {limits.max_cells:,}: send a part "
                        "of the stack, or predict it without the server.",
                    )
            for first in range(0, len(rows), CHUNK_CELLS):
                part = rows[first : first + CHUNK_CELLS]
                ids = [reader.sources[row].index for row in part.tolist()]
                chunk = Chunk(
                    part,
                    cells[first : first + CHUNK_CELLS],
                    [CellSource(options.name, number) for number in ids],
                    [reader.row_conversions.get(row, []) for row in part.tolist()],
                    {},
                )
                yield StackPart(chunk, [positions[number] for number in ids])
        errors, notes = reader.errors, reader.input_notes
    except NephrosError as error:
        errors = {0: str(error)}
    named = {row: (source, without_folder(text, folder)) for row, text in errors.items()}
    yield _without_nuclei(named, notes=tuple(without_folder(note, folder) for note in notes))


def _stack_options(fields: dict[str, Any]) -> StackOptions:
    """Return what a request says of a stack; raise InvalidArgument for what is out of range or has no meaning."""
    if fields["stitch_threshold"] is not None and fields["mask"] is None:
        raise InvalidArgument("stitch_threshold", fields["stitch_threshold"], "left out where there is no mask")
    if (voxel_size := fields["voxel_size"]) is not None:
        voxel_size = check_voxel_size("voxel_size", tuple(voxel_size))
    return StackOptions(**fields | {"voxel_size": voxel_size})


def _check_size(options: StackReadOptions, stack_options: StackOptions, limits: RequestLimits) -> None:
    """Raise FileError for a stack of more voxels than a request may have."""
    try:
        shape = open_stack_with(options.stack, stack_options).shape
    except Exception:  # the reader reports what is wrong
        return
    if math.prod(shape) > limits.max_pixels:
        raise FileError(
            options.stack,
            f"{options.name} has {math.prod(shape) / 1e6:,.0f} million voxels, and a request may have "
            f"{limits.max_pixels / 1e6:,.0f} million: send a part of the stack, or predict it without the server.",
        )


def _without_nuclei(
    errors: dict[int, tuple[CellSource, str]] | None = None,
    *,
    stage: str = "",
    share: float = 0.0,
    notes: tuple[str, ...] = (),
) -> StackPart:
    no_cells = np.empty((0, 1, 1), dtype=np.uint8)
    return StackPart(Chunk(np.empty(0, dtype=np.int64), no_cells, [], [], errors or {}), [], stage, share, notes)


def to_message(options: StackReadOptions) -> dict[str, Any]:
    """Return options as values that `nephros.isolation` can send."""
    return asdict(options)
