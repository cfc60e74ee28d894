"""From named inputs (files, folders, npz) to batches of cells of the model's input shape, with a row for each cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.folders.voxel_table import VoxelTable
from nephros.data.images.color import plane_number
from nephros.data.images.decoded_image import DecodedImage
from nephros.data.images.decoder import ImageDecoder
from nephros.data.images.decoding import strict_pillow_warnings
from nephros.data.images.decoding_cost import claimed_pixels
from nephros.data.images.input_conversion import (
    DEFAULT_CONVERSION,
    BrightestPixel,
    CellShape,
    InputConversion,
    default_white_level,
    pixel_type,
    select_planes,
    to_cell,
)
from nephros.data.images.transforms import to_uint8
from nephros.data.input_files import TIFF_MAGIC, InMemoryFile, read_bytes
from nephros.data.npz.stream import ImageArray, UnreadableInput
from nephros.data.volumes import slices_last
from nephros.errors import FileError
from nephros.escaping import escape_surrogates
from nephros.inference.array_cells import are_cells
from nephros.inference.discovery import InputDiscovery, unreadable_message, without_mask_files
from nephros.inference.volume_inputs import check_array, kind_error
from nephros.microscopy.detect import count_channels, read_bytes_unless_stack, unexplained_pages
from nephros.microscopy.location import StackUrl, display_path

if TYPE_CHECKING:
    from nephros.microscopy.located import LocatedNuclei
    from nephros.microscopy.nuclei import ProgressTracker
    from nephros.microscopy.stack import StackOptions

MAX_BATCH_CELLS, MAX_BATCH_BYTES = 2048, 64 << 20
MAX_CELL_CHANNELS = 8
"""Channels up to which the pages of a file that calls them so are channels of one cell, and not cells."""
_SHALLOW_NOTE = "8-bit pixels taken as they are, although the training images had more bits"
SizeCheck = Callable[[object, int, int], None]
"""Called with a file's name, the number of cells about to be read from it, and the pixels of each; raises to refuse them. Before
anything of a file is decoded, it is called with 0 cells and the pixels that the file claims."""
CellBatch = tuple[NDArray[np.int64], NDArray[np.uint8]]
"""Rows (b,), and their cells (b, h, w) or (b, h, w, c) uint8, or volumes (b, h, w, d)."""


@dataclass(frozen=True)
class CellSource:
    """Where one cell, or the error in its place, comes from."""

    file: str
    index: int
    """Page of a file or row of an array, from 0; number of a stack's nucleus, from 1."""
    split: str = ""
    """``train``, ``val`` or ``test`` for an array of an npz file that names it."""


class CellReader:
    """Reads all named inputs, once, by `iter_batches`."""

    def __init__(
        self,
        inputs: Iterable[str | Path | InMemoryFile],
        shape: CellShape,
        white_level: float | None = None,
        check_size: SizeCheck = lambda _name, _cells, _pixels: None,
        stack_options: StackOptions | None = None,
        *,
        conversion: InputConversion = DEFAULT_CONVERSION,
        channel: int | None = None,
        level_source: str = "training",
        decoder: ImageDecoder | None = None,
        volumes: bool = False,
        all_stacks: bool = False,
    ) -> None:
        """Take images, stacks, npz files and folders of them, as paths or as bytes in memory.

        Args:
            inputs: folders are searched for images, stacks and npz files, in sorted order; hidden files are skipped.
                A stack in memory, as /predict of the server has it, is refused, since cutting it writes temporary files.
            shape: the model's input shape: channels (1 or 3), or slices of volumes, height, width.
            white_level: pixel value that becomes 255 in images of more than 8 bits; None takes that of `conversion` or, where it
                has none, the brightest pixel of all inputs of the same type, such as 16-bit.
            check_size: called before cells are read.
            stack_options: channel, image and voxel size of stacks whose files leave them open.
            conversion: how the model's training images were converted.
            channel: plane to take from images of several, from 0; None takes that of `conversion`.
            level_source: where the white level of `conversion` is from, for the notes.
            decoder: decodes the images within its limit of time; None takes the default limit.
            volumes: whether the model takes volumes, which stacks and npz files hold.
            all_stacks: whether every file is a stack, also one whose pages could be images of single cells.
        """
        self.sources: list[CellSource] = []
        """By row."""
        self.errors: dict[int, str] = {}
        """Row -> why there is no cell, as one sentence."""
        self.conversion_counts: dict[str, int] = {}
        """Conversion that fitted images to the input shape -> number of images."""
        self.row_conversions: dict[int, list[str]] = {}
        """Row -> conversions of its image."""
        self.input_notes: list[str] = []
        """What to know about folders and stacks; one sentence each."""
        self.progress: ProgressTracker = lambda items, what, total: items
        """Shows progress while a stack is cut."""
        self.located: list[LocatedNuclei] = []
        """Where the nuclei of the stacks are."""
        self.white_levels: dict[str, float] = {}
        """Type of pixels of more than 8 bits, such as 16-bit -> value that became 255 in images of single cells."""
        self.stack_levels: list[tuple[float, float]] = []
        """What became 0 and 255 in each stack of more than 8 bits."""
        self.chosen_channel: int | None = None
        """Plane, or channel, that was taken from images of several as somebody said; None where none was."""
        self.n_read = 0
        """Number of files, and rows of arrays, read so far."""
        self._decoder = decoder or ImageDecoder()
        self._stack_options = stack_options
        self.shape, self._check_size, self._volumes = shape, check_size, volumes
        self._all_stacks = all_stacks or (stack_options is not None and stack_options.mask is not None)
        if stack_options is not None and stack_options.channel is not None:
            channel = plane_number(stack_options.channel)
        self._training, self._conversion = conversion, conversion.override(white_level, channel)
        self._channel = channel
        self._level_origin = "" if white_level is not None else f" (as in {level_source})"
        levels = self._conversion
        self._stack_levels = (None, white_level) if levels.fits_stacks else (levels.black_level, levels.white_level)
        # The brightest pixel of all inputs by their pixels' type: 32-bit ones would make 16-bit ones black.
        self._brightest: dict[str, BrightestPixel] = {}
        # Inputs of more than 8 bits (page -> row), whose white level is known only once all inputs have been read.
        self._deferred: list[tuple[Path | InMemoryFile | ImageArray | VoxelTable, dict[int, int]]] = []
        is_one_stack = stack_options is not None and stack_options.tells_of_one_stack
        discovery = InputDiscovery(inputs, expects_stacks=is_one_stack)
        self._items = without_mask_files(discovery.items, None if stack_options is None else stack_options.mask)
        self.input_notes += [*discovery.notes, *([note] if (note := discovery.skipped_note()) else [])]
        if white_level is not None and conversion.white_level not in (None, white_level):
            self.input_notes.append(
                f"white level {white_level:g} in place of {conversion.white_level:g}, which the training images had"
            )
        self._batch_size = max(1, min(MAX_BATCH_CELLS, MAX_BATCH_BYTES // math.prod(shape)))

    def __len__(self) -> int:
        """Return the value of `n_read` at the end."""
        return sum(len(item) if isinstance(item, ImageArray | VoxelTable) else 1 for item in self._items)

    def iter_batches(self) -> Iterator[CellBatch]:
        """Yield every cell once, those of 16-bit images last; rows, errors and notes are complete at the end.

        Only one thread at a time may read.
        """
        pending: list[tuple[int, NDArray[np.uint8]]] = []
        with strict_pillow_warnings():
            for item in self._items:
                if isinstance(item, ImageArray | VoxelTable):
                    yield from self._read_array(item)
                    continue
                for row_and_cell in self._read_file(item):
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
        self.errors[len(self.sources)] = escape_surrogates(error)
        self.sources.append(source)

    def _read_file(
        self, item: Path | StackUrl | InMemoryFile | UnreadableInput
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Add a row for each page or nucleus, and yield row and cell of those whose white level is known."""
        if isinstance(item, UnreadableInput):
            self._add_error_row(CellSource(_display_path(item.path), 0, item.split), item.message)
            return
        name, page = _display_path(item), 0
        deferred_rows: dict[int, int] = {}
        try:
            data = None if self._all_stacks or isinstance(item, StackUrl) else read_bytes_unless_stack(item)
            if data is None or isinstance(item, StackUrl):
                yield from self._read_stack(item)
                return
            if self._volumes:
                raise kind_error(name, "images", self.shape, takes_volumes=True)
            self._check_size(item, 0, claimed_pixels(data))
            channel = self._channel_page(item, name, data)
            for image in self._decoder.decode_pages(item, data):
                if channel is not None and page != channel:
                    page += 1
                    continue
                self._check_size(item, 1, image.pixels.shape[0] * image.pixels.shape[1])
                source = CellSource(name, page)
                page += 1
                try:
                    row, cell = len(self.sources), self._convert(item, image)
                except FileError as error:
                    self._add_error_row(source, str(error))
                    continue
                self.sources.append(source)
                if cell is None:
                    deferred_rows[source.index] = row
                else:
                    is_shallow = image.pixels.dtype == np.uint8 and self._training.white_level is not None
                    yield row, self._with_notes(row, cell[0], cell[1] + [_SHALLOW_NOTE] * is_shallow)
        except Exception as error:
            self._add_error_row(CellSource(name, page), unreadable_message(item, error))
        if deferred_rows and not isinstance(item, StackUrl):
            self._deferred.append((item, deferred_rows))

    def _channel_page(self, path: Path | InMemoryFile, name: str, data: bytes) -> int | None:
        """Return the page of the channel to read where the pages are channels of one cell; None where each is a cell.

        Raises:
            FileError: the pages are channels, and no valid channel is chosen.
        """
        if not data.startswith(TIFF_MAGIC):
            return None
        n_channels = count_channels(data, path if isinstance(path, Path) else None)
        if n_channels == 1:
            if unexplained_pages(data):
                self.input_notes.append(
                    f"{name} has OME metadata that don't say what its pages are; they are taken for images of one cell each"
                )
            return None
        if n_channels > MAX_CELL_CHANNELS:
            self.input_notes.append(
                f"{name} has {n_channels:,} channels by its metadata; they are taken for images of one cell each"
            )
            return None
        channel = self._channel
        if channel is None or not 0 <= channel < n_channels:
            raise FileError(
                name,
                f"{name} has {n_channels} channels by its metadata, which are not cells; set `channel` to the one that shows the "
                f"nuclei, from 0 to {n_channels - 1}, or save only that channel (or cells without such metadata).",
            )
        self.chosen_channel = channel
        return channel

    def _read_stack(self, path: Path | StackUrl | InMemoryFile) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        if isinstance(path, InMemoryFile):
            raise FileError(
                path.name,
                f"{path} is a 3-D stack, not an image of cells: send it to /predict/stack, or cut its nuclei out with "
                "`nephros.prepare(STACK, out='cells.npz')` and use the npz file that it writes.",
            )
        from nephros.microscopy.extract import extract_nuclei_from_file
        from nephros.microscopy.stack import StackOptions
        from nephros.microscopy.voxel_size import TRAINING_VOXEL_SIZE

        options = self._stack_options or StackOptions()
        target = self._training.target_voxel_size or TRAINING_VOXEL_SIZE
        nuclei = extract_nuclei_from_file(
            path,
            self._stack_levels,
            self.progress,
            options,
            target,
            uint8_levels=self._training.uint8_stack_levels,
            volumes=self._volumes,
        )
        self.input_notes += map(escape_surrogates, nuclei.notes)
        self.located.append(nuclei.located)
        self.stack_levels += [] if nuclei.levels is None else [nuclei.levels]
        for number, image in zip(nuclei.ids.tolist(), nuclei.images, strict=True):
            row = len(self.sources)
            self.sources.append(CellSource(_display_path(path), number))
            if self._volumes:
                yield row, slices_last(image[None])[0]
                continue
            yield row, self._with_notes(row, *to_cell(path, DecodedImage(image, "gray"), self.shape, self._conversion))

    def _convert(
        self, name: object, image: DecodedImage, brightest: dict[str, BrightestPixel] | None = None
    ) -> tuple[NDArray[np.uint8], list[str]] | None:
        """Return a cell and its conversions, or None where the white level is unknown yet; raise FileError if it is not a cell.

        `brightest` is `_brightest` once all inputs are read.
        """
        planes = select_planes(name, image, self.shape[0], self._conversion.channel)
        conversion, origin = self._conversion, self._level_origin
        if image.pixels.ndim == 3 and image.pixels.shape[2] > 1 and conversion.channel is not None:
            self.chosen_channel = conversion.channel
        if planes.pixels.dtype != np.uint8 and conversion.white_level is None:
            type_name = pixel_type(planes.pixels.dtype)
            if brightest is None:
                self._brightest.setdefault(type_name, BrightestPixel()).add(planes.pixels)
                return None
            white_level = default_white_level(brightest[type_name], planes.pixels.dtype)
            conversion = replace(conversion, white_level=white_level)
            origin = " (the brightest of all)" if white_level == brightest[type_name].value else ""
        if planes.pixels.dtype != np.uint8 and conversion.white_level is not None:
            self.white_levels[pixel_type(planes.pixels.dtype)] = conversion.white_level
        return to_cell(name, planes, self.shape, conversion, origin)

    def _with_notes(self, row: int, cell: NDArray[np.uint8], conversions: list[str]) -> NDArray[np.uint8]:
        """Return a row's cell, and keep the conversions of its image."""
        for conversion in conversions:
            self.conversion_counts[conversion] = self.conversion_counts.get(conversion, 0) + 1
        if conversions:
            self.row_conversions[row] = conversions
        return cell

    def _read_array(self, array: ImageArray | VoxelTable) -> Iterator[CellBatch]:
        """Yield an array's cells; of an array of more than 8 bits only find the brightest pixel, if that sets the white level."""
        name, first = _display_path(array.path), len(self.sources)
        if isinstance(array, VoxelTable):
            array = array.scaled_by(self._conversion.white_level)
        deferred_rows: dict[int, int] = {}
        index = 0
        try:
            self._check_size(array.path, len(array), math.prod(array.shape[1:] if self._volumes else array.shape[1:3]))
            check_array(name, array, self.shape, self._conversion, takes_volumes=self._volumes)
            for cells in array.iter_batches():
                rows = np.arange(first + index, first + index + len(cells))
                self.sources += [CellSource(name, index + i, array.split) for i in range(len(cells))]
                index += len(cells)
                self.n_read += len(cells)
                if self._volumes:
                    levels = self._conversion
                    yield rows, to_uint8(cells, levels.white_level or 255.0, levels.black_level)
                    continue
                if are_cells(cells, self.shape, self._conversion):
                    yield rows, cells
                    continue
                pending = []
                for row, image in zip(rows.tolist(), cells, strict=True):
                    try:
                        cell = self._convert(f"{name}: image {row - first}", _as_decoded(image))
                    except FileError as error:
                        self.errors[row] = escape_surrogates(str(error))
                        continue
                    if cell is None:
                        deferred_rows[row - first] = row
                    else:
                        pending.append((row, self._with_notes(row, *cell)))
                if pending:
                    yield _collate(pending)
        except Exception as error:
            self._add_error_row(CellSource(name, index, array.split), unreadable_message(array.path, error))
        if deferred_rows:
            self._deferred.append((array, deferred_rows))

    def _read_deferred(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield row and cell of every image of more than 8 bits, now that the brightest pixel of all of them is known."""
        for item, row_by_index in self._deferred:
            path = item.path if isinstance(item, ImageArray | VoxelTable) else item
            try:
                for index, image in enumerate(self._iter_images(item)):
                    if (row := row_by_index.get(index)) is None:
                        continue
                    cell = self._convert(path, image, self._brightest)
                    del row_by_index[index]
                    if cell is not None:
                        yield row, self._with_notes(row, *cell)
                if row_by_index:
                    raise EOFError("fewer images than before")
            except Exception as error:  # rows that failed the first time are not in row_by_index
                self.errors |= dict.fromkeys(row_by_index.values(), escape_surrogates(unreadable_message(path, error)))

    def _iter_images(self, item: Path | InMemoryFile | ImageArray | VoxelTable) -> Iterator[DecodedImage]:
        if not isinstance(item, ImageArray | VoxelTable):
            yield from self._decoder.decode_pages(item, read_bytes(item))
        else:
            for batch in item.iter_batches():
                yield from map(_as_decoded, batch)


def _as_decoded(image: NDArray[Any]) -> DecodedImage:
    """Return an image of an npz file: (h, w), or (h, w, 3) colors."""
    return DecodedImage(image, "gray" if image.ndim == 2 else "color")


def _display_path(path: Path | StackUrl | InMemoryFile) -> str:
    """Return a path, a URL or the name of an upload as text that can be written anywhere."""
    return path.name if isinstance(path, InMemoryFile) else display_path(path)


def _collate(pending: list[tuple[int, NDArray[np.uint8]]]) -> CellBatch:
    return np.array([row for row, _ in pending]), np.stack([cell for _, cell in pending])
