"""The directories of a TIFF file, one per page, walked once without any library: where they are, and what they claim."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from nephros.errors import FileError

_TYPE_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)
"""Bytes per value, by the number of a tag's type; 0 for types that don't exist."""
_INTEGER_CODES = {1: "B", 3: "H", 4: "I", 16: "Q"}
"""Number of a type of unsigned integers -> its code in `struct`."""
_WIDTH, _LENGTH, _COMPRESSION, _SAMPLES, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 259, 277, 322, 323
_SIZES = (_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH, _SAMPLES)
_UNKNOWN_SIZE = 1 << 32
_MIN_TAG_BYTES, _MIN_TAGS = 64 << 20, 100_000


class Tag(NamedTuple):
    """An entry of a directory."""

    number: int
    type: int
    n_values: int
    field: bytes
    """The values themselves if they fit, else their place in the file."""


@dataclass(frozen=True)
class TiffDirectories:
    """What the directories of a TIFF file claim."""

    offsets: list[int]
    """Place of each page's directory; the last one may be beyond the end of a file that is cut short."""
    n_pixels: int
    """Pixels of all pages, or of their tiles where these are larger; the larger of two readings where tags are repeated."""
    tag_bytes: int
    """Bytes of all values outside of the directories."""
    max_samples: int
    """Samples per pixel of the page with the most."""
    max_page_values: int
    """Pixels times samples per pixel of the page with the most."""
    tag_numbers: frozenset[int]
    """Numbers of all pages' tags."""
    compressions: frozenset[int]
    """Codes of the pages' compressions, where they have one; -1 where it is not a number."""
    is_whole: bool
    """Whether all directories could be read, with the place of the next."""
    is_circular: bool
    """Whether the last directory leads back to an earlier one."""


class _BytesOnDisk:
    """The bytes of a file, of which each part is read when it is asked for.

    A map of the whole file would count as memory, of which a worker process has less than a large file takes.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        self._file.seek(start)
        return self._file.read(stop - start)


Buffer = bytes | _BytesOnDisk


class TiffFormat:
    """Byte order and widths of a TIFF file, classic or BigTIFF."""

    def __init__(self, header: bytes) -> None:
        self.order = "<" if header[:2] == b"II" else ">"
        self.is_big = b"+" in header[2:4]
        pointer, count, entry = ("Q", "Q", "HHQ8s") if self.is_big else ("I", "H", "HHI4s")
        self.pointer, self.count = struct.Struct(self.order + pointer), struct.Struct(self.order + count)
        self.entry = struct.Struct(self.order + entry)
        self.header_size = 16 if self.is_big else 8

    def first_directory(self, data: Buffer) -> int:
        offset: int = self.pointer.unpack(data[self.header_size - self.pointer.size : self.header_size])[0]
        return offset

    def count_tags(self, data: Buffer, offset: int) -> int:
        """Return how many entries a directory has; struct.error where it is cut short."""
        n_tags: int = self.count.unpack(data[offset : offset + self.count.size])[0]
        if offset + self.count.size + n_tags * self.entry.size > len(data):
            raise struct.error("a directory is cut short")
        return n_tags

    def read_directory(self, data: Buffer, offset: int) -> tuple[list[Tag], int]:
        """Return the entries of a directory and the place of the next; struct.error where they are cut short."""
        start = offset + self.count.size
        end = start + self.count_tags(data, offset) * self.entry.size
        tags = list(map(Tag._make, self.entry.iter_unpack(data[start:end])))
        pointer = data[end : end + self.pointer.size]
        next_offset = self.pointer.unpack(pointer)[0] if len(pointer) == self.pointer.size else 0
        return tags, next_offset

    def n_bytes(self, tag: Tag) -> int:
        """Return the size of a tag's values."""
        return tag.n_values * (_TYPE_SIZES[tag.type] if tag.type < len(_TYPE_SIZES) else 0)

    def end(self, tag: Tag) -> int:
        """Return the place in the file after a tag's values; 0 where they are in the directory."""
        size = self.n_bytes(tag)
        return 0 if size <= len(tag.field) else int(self.pointer.unpack(tag.field)[0]) + size

    def values(self, data: Buffer, tag: Tag) -> bytes:
        """Return the bytes of a tag's values, fewer where the file is cut short."""
        size = self.n_bytes(tag)
        if size <= len(tag.field):
            return tag.field[:size]
        (start,) = self.pointer.unpack(tag.field)
        return data[start : start + size]

    def integers(self, data: Buffer, tag: Tag) -> tuple[int, ...]:
        """Return a tag's unsigned integers; struct.error where bytes are missing, KeyError where it holds other values."""
        return struct.unpack(f"{self.order}{tag.n_values}{_INTEGER_CODES[tag.type]}", self.values(data, tag))

    def first_integer(self, tag: Tag, default: int = 0) -> int:
        """Return the unsigned integer that a tag of one value holds; `default` for other tags."""
        code = _INTEGER_CODES.get(tag.type)
        if code is None or tag.n_values != 1 or self.n_bytes(tag) > len(tag.field):
            return default
        value: int = struct.unpack_from(self.order + code, tag.field)[0]
        return value


def walk_directories(
    name: object, data: Buffer, max_pages: int, *, first_pages: int | None = None, max_tags: int | None = None
) -> TiffDirectories:
    """Walk the directories of a TIFF file, in a time that grows with the file's size and with nothing that it claims.

    A chain that leads back to a page ends there.

    Args:
        name: names the file at the beginning of an error's message.
        data: the file's bytes.
        max_pages: number of pages up to which a file is accepted.
        first_pages: number of pages after which to stop, as if the file ended there; None walks all.
        max_tags: number of tags up to which a file is accepted; None goes by the file's size.

    Raises:
        FileError: the file has more pages, or the directories claim more than such a file can hold.
    """
    tiff = TiffFormat(data[:16])
    offsets: list[int] = []
    visited: set[int] = set()
    compressions: set[int] = set()
    tag_numbers: set[int] = set()
    n_pixels = tag_bytes = n_tags = max_samples = max_page_values = 0
    is_whole, offset = True, 0
    max_tag_bytes = max(_MIN_TAG_BYTES, 2 * len(data))
    max_tags = max(_MIN_TAGS, len(data) // 8) if max_tags is None else max_tags
    try:
        offset = tiff.first_directory(data)
        while offset and offset not in visited and len(offsets) != first_pages:
            if len(offsets) == max_pages:
                raise FileError(
                    str(name), f"{name} has more than {max_pages:,} pages; split it into files of at most so many."
                )
            offsets.append(offset)
            visited.add(offset)
            n_tags_here = tiff.count_tags(data, offset)
            n_tags += n_tags_here
            pointer_end = offset + tiff.count.size + n_tags_here * tiff.entry.size + tiff.pointer.size
            tags, offset = tiff.read_directory(data, offset) if n_tags <= max_tags else ([], offset)
            sizes = dict.fromkeys(_SIZES, 0)
            for tag in tags:
                tag_numbers.add(tag.number)
                size = tiff.n_bytes(tag)
                if size > len(tag.field):
                    tag_bytes += min(size, len(data))
                if tag.number in sizes:
                    sizes[tag.number] = max(sizes[tag.number], tiff.first_integer(tag, default=_UNKNOWN_SIZE))
                elif tag.number == _COMPRESSION:
                    compressions.add(tiff.first_integer(tag, default=-1))
            page_pixels = max(sizes[_WIDTH] * sizes[_LENGTH], sizes[_TILE_WIDTH] * sizes[_TILE_LENGTH])
            n_pixels += page_pixels
            max_samples = max(max_samples, sizes[_SAMPLES])
            max_page_values = max(max_page_values, page_pixels * max(1, sizes[_SAMPLES]))
            is_whole = is_whole and pointer_end <= len(
                data
            )  # tifffile reads for ever where the place of the next is cut
            if tag_bytes > max_tag_bytes or n_tags > max_tags:
                raise FileError(
                    str(name),
                    f"{name} has tags that claim more than the whole file holds; it is damaged, or made to take up time. Save "
                    "it again.",
                )
    except struct.error:  # the page before is the last one that can be read
        is_whole = False
    is_circular = is_whole and offset in visited
    return TiffDirectories(
        offsets, n_pixels, tag_bytes, max_samples, max_page_values, frozenset(tag_numbers), frozenset(compressions), is_whole,
        is_circular,
    )  # fmt: skip


def walk_file(path: Path, max_pages: int, *, first_pages: int | None = None) -> TiffDirectories:
    """Walk the directories of a TIFF file on disk, of which only these are read; see `walk_directories`."""
    with path.open("rb") as file:
        return walk_directories(path, _BytesOnDisk(file), max_pages, first_pages=first_pages)
