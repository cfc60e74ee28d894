"""The files of a request as chunks of cells, for which it doesn't matter in which process they are read."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.images.decoder import ImageDecoder
from nephros.data.images.decoding_cost import MAX_CHEAP_PIXELS
from nephros.data.images.input_conversion import DEFAULT_CONVERSION, MIN_SIDE, CellShape, InputConversion
from nephros.data.images.plain_png import decode_plain_png
from nephros.data.input_files import InMemoryFile
from nephros.inference.reader import CellReader, CellSource
from nephros.isolation.pool import TimeBudget
from nephros.server.limits import DecodeLimiter, RequestLimits

CHUNK_CELLS = 256
"""Cells of a request that are predicted together, at most."""
MAX_PLAIN_FILES, MAX_PLAIN_PIXELS = 4, 1 << 14
"""Files of a request, and pixels of each, that are read where they arrive: handing them to a thread would take longer."""


@dataclass(frozen=True)
class Chunk:
    """Cells of a request that are predicted together, and the errors found since the chunk before."""

    rows: NDArray[np.int64]
    """(n,), their positions in the request."""
    cells: NDArray[np.uint8]
    """(n, h, w) or (n, h, w, c)."""
    sources: list[CellSource]
    """Where each comes from."""
    notes: list[list[str]]
    """How each was converted."""
    errors: dict[int, tuple[CellSource, str]]
    """Row -> where there is no cell, and why."""

    @property
    def nbytes(self) -> int:
        """Bytes of the cells."""
        return self.cells.nbytes

    def without(self, rows: set[int]) -> Chunk:
        """Return the chunk without some rows."""
        kept = [i for i, row in enumerate(self.rows.tolist()) if row not in rows]
        return Chunk(
            self.rows[kept],
            self.cells[kept],
            [self.sources[i] for i in kept],
            [self.notes[i] for i in kept],
            {row: error for row, error in self.errors.items() if row not in rows},
        )

    def to_message(self) -> tuple[Any, ...]:
        """Return the fields as values that `nephros.isolation` can send."""
        errors = [(row, _fields(source), text) for row, (source, text) in self.errors.items()]
        return self.rows, self.cells, list(map(_fields, self.sources)), self.notes, errors

    @classmethod
    def from_message(cls, message: Sequence[Any]) -> Chunk:
        """Return what `to_message` gave."""
        rows, cells, sources, notes, errors = message
        return cls(
            rows,
            cells,
            [CellSource(*source) for source in sources],
            notes,
            {row: (CellSource(*source), text) for row, source, text in errors},
        )


def _fields(source: CellSource) -> tuple[str, int, str]:
    return source.file, source.index, source.split


@dataclass(frozen=True)
class ReadOptions:
    """What a request and the server say of reading files."""

    shape: CellShape
    """Channels, height and width of the cells that the model takes."""
    conversion: InputConversion
    """Of the model's training images."""
    limits: RequestLimits
    rows: tuple[int, int]
    """The first row that is wanted, and the one after the last."""
    white_level: float | None = None
    channel: int | None = None
    max_cheap_pixels: int = MAX_CHEAP_PIXELS
    """As in `nephros.data.images.decoder.ImageDecoder`; 0 decodes every image in a process of its own."""

    def decoder(self) -> ImageDecoder:
        """Return the decoder of one request."""
        return ImageDecoder(
            budget=TimeBudget(self.limits.decode_timeout_s),
            max_cheap_pixels=self.max_cheap_pixels,
            advice="send it by itself, or save it again as an uncompressed TIFF",
        )


def iter_chunks(files: Sequence[InMemoryFile], options: ReadOptions) -> Generator[Chunk, None, None]:
    """Yield the cells of a request in the rows that are wanted, and errors as soon as they are known.

    Raises:
        InvalidArgument: an option is out of range. A file that can't be read raises nothing.
    """
    reader = CellReader(
        files,
        options.shape,
        options.white_level,
        DecodeLimiter(options.limits),
        conversion=options.conversion,
        channel=options.channel,
        decoder=options.decoder(),
    )
    start, stop = options.rows
    reported: set[int] = set()

    def new_errors() -> dict[int, tuple[CellSource, str]]:
        new = {row: text for row, text in reader.errors.items() if start <= row < stop and row not in reported}
        reported.update(new)
        return {row: (reader.sources[row], text) for row, text in new.items()}

    for rows, cells in reader.iter_batches():
        in_range = (rows >= start) & (rows < stop)
        if not in_range.all():
            rows, cells = rows[in_range], cells[in_range]
        for first in range(0, len(rows), CHUNK_CELLS):
            part = rows[first : first + CHUNK_CELLS]
            sources = [reader.sources[row] for row in part.tolist()]
            notes = [reader.row_conversions.get(row, []) for row in part.tolist()]
            yield Chunk(part, cells[first : first + CHUNK_CELLS], sources, notes, new_errors())
    if errors := new_errors():
        no_cells = np.empty((0, options.shape[1], options.shape[2]), dtype=np.uint8)
        yield Chunk(np.empty(0, dtype=np.int64), no_cells, [], [], errors)


def read_plain_cells(files: Sequence[InMemoryFile], options: ReadOptions) -> Chunk | None:
    """Return the chunk of `iter_chunks` for plain PNG files that are cells as the model takes them, in some ten microseconds.

    None stands for all other requests: more files, or files that take longer to read, need a conversion, or are refused.
    """
    is_simple = (
        len(files) <= MAX_PLAIN_FILES
        and options.shape[0] == 1
        and options.rows[0] == 0
        and options.rows[1] >= len(files)
        and options.white_level is None
        and options.channel is None
        and options.conversion == DEFAULT_CONVERSION
        and options.limits.max_cells >= len(files)
        and options.limits.max_pixels >= len(files) * MAX_PLAIN_PIXELS
        and options.max_cheap_pixels >= MAX_PLAIN_PIXELS
        and all(file.name[-4:].lower() == ".png" for file in files)
    )
    if not is_simple:
        return None
    cells = [decode_plain_png(file.data, MAX_PLAIN_PIXELS) for file in files]
    shape = options.shape[1:]
    if min(shape) < MIN_SIDE or not all(cell is not None and cell.shape == shape for cell in cells):
        return None
    sources = [CellSource(file.name, 0) for file in files]
    return Chunk(np.arange(len(files)), np.stack(cells), sources, [[] for _ in files], {})  # type: ignore[arg-type]


def read_in_worker(files: Sequence[Sequence[Any]], options: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the chunks of files (name, bytes) as messages; `options` is what `options_to_message` returned."""
    read_options = ReadOptions(
        shape=tuple(options["shape"]),
        conversion=InputConversion.from_dict(options["conversion"]),
        limits=RequestLimits(**options["limits"]),
        rows=tuple(options["rows"]),
        white_level=options["white_level"],
        channel=options["channel"],
        max_cheap_pixels=options["max_cheap_pixels"],
    )
    for chunk in iter_chunks([InMemoryFile(name, data) for name, data in files], read_options):
        yield chunk.to_message()


def options_to_message(options: ReadOptions, max_cheap_pixels: int) -> dict[str, Any]:
    """Return options, with that number of pixels, as values that `nephros.isolation` can send."""
    return asdict(replace(options, max_cheap_pixels=max_cheap_pixels))
