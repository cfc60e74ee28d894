"""Each page of a TIFF file by itself, so that many pages take a time that grows with their number.

Pillow, libtiff and tifffile look for a page from the beginning of the chain of pages: the time for all of them would grow with
the square of their number, to an hour for 40,000 compressed cells.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from nephros.data.images.tiff_directories import Tag, TiffFormat

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _ROWS_PER_STRIP = 256, 257, 258, 259, 262, 277, 278
_STRIPS, _TILES = (273, 279), (324, 325)
"""Tags with the places and the lengths of a page's compressed pixels."""
_DEFAULTS = {_BITS: 1, _COMPRESSION: 1, _SAMPLES: 1, 266: 1, 274: 1, 317: 1, 339: 1}
"""Tags whose values decide what pixels mean, and what they are where they are absent: also bit order, orientation, predictor and
kind of number."""
_BLACK_IS_ZERO, _UNCOMPRESSED, _DEFLATE = 1, 1, (8, 32946)
_IRRELEVANT = frozenset({254, 255, 269, 270, 271, 272, 282, 283, 284, 285, 286, 287, 296, 297, 305, 306, 315, 316})
"""Tags that say nothing about the pixels of a page with one sample: descriptions, resolutions, positions."""
_PLAIN_TAGS = _IRRELEVANT | _DEFAULTS.keys() | {_WIDTH, _HEIGHT, _PHOTOMETRIC, _ROWS_PER_STRIP, *_STRIPS}
_DIRECTORY_POINTERS = frozenset({330, 34665, 34853, 40965})
"""Tags that point to further directories, which a page's own pixels don't need."""
_JPEG_POINTERS = frozenset({513, 519, 520, 521})
"""Tags that point to parts of a JPEG in the way of TIFF 6.0, which was soon given up."""


class TiffPages:
    """The pages of a TIFF file, by the places of their directories."""

    def __init__(self, data: bytes) -> None:
        """Take the file's bytes."""
        self._data, self._format = data, TiffFormat(data[:16])

    def plain_pixels(self, offset: int, max_pixels: int) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
        """Return the (h, w) pixels of the usual kind of page; None for any other, which a library must decode.

        The usual page has one sample of 8 or 16 bits, 0 is black, and it is not compressed, or with Deflate.
        """
        try:
            tags = self._read_tags(offset)
            if not tags.keys() <= _PLAIN_TAGS:
                return None
            value = {number: self._format.first_integer(tag) for number, tag in tags.items()}
            width, height, bits = value[_WIDTH], value[_HEIGHT], value[_BITS]
            is_plain = (
                bits in (8, 16)
                and value[_PHOTOMETRIC] == _BLACK_IS_ZERO
                and all(
                    value.get(n, default) == default
                    for n, default in _DEFAULTS.items()
                    if n not in (_BITS, _COMPRESSION)
                )
                and 0 < width * height <= max_pixels
            )
            return self._read_strips(tags, width, height, bits, value) if is_plain else None
        except (struct.error, KeyError, ValueError, zlib.error):
            return None

    def _read_strips(
        self, tags: dict[int, Tag], width: int, height: int, bits: int, value: dict[int, int]
    ) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
        compression = value.get(_COMPRESSION, _UNCOMPRESSED)
        if compression not in (_UNCOMPRESSED, *_DEFLATE):
            return None
        rows_per_strip = min(value.get(_ROWS_PER_STRIP) or height, height)
        parts = []
        for index, (start, length) in enumerate(self._segments(tags, _STRIPS)):
            size = min(rows_per_strip, height - index * rows_per_strip) * width * bits // 8
            part = self._data[start : start + length]
            if compression in _DEFLATE:
                part = zlib.decompressobj().decompress(part, size)
            if size <= 0 or len(part) < size:
                return None
            parts.append(part[:size])
        pixels = np.frombuffer(b"".join(parts), f"{self._format.order}u{bits // 8}").reshape(height, width)
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)

    def single_page_file(self, offset: int) -> bytes:
        """Return a TIFF file with only the page whose directory is at `offset`.

        Raises struct.error or KeyError where the directory is damaged.
        """
        tags = self._read_tags(offset)
        starts, lengths = _TILES if _TILES[0] in tags else _STRIPS
        segments = self._segments(tags, (starts, lengths)) if {starts, lengths} <= tags.keys() else []
        is_whole = all(start + length <= len(self._data) for start, length in segments)
        if tags.keys() & _JPEG_POINTERS or not segments or not is_whole or self._has_short_strips(tags, segments):
            return self._pointed_at(offset)
        entries = [tag for number, tag in tags.items() if number not in _DIRECTORY_POINTERS]
        form = self._format
        position = form.header_size + form.count.size + len(entries) * form.entry.size + form.pointer.size
        parts, places = [], []
        for start, length in segments:
            parts.append(self._data[start : start + length])
            places.append(position)
            position += length
        directory = [form.count.pack(len(entries))]
        for tag in entries:
            type_number, values = tag.type, form.values(self._data, tag)
            if tag.number == starts:
                type_number, code = (16, "Q") if form.is_big else (4, "I")
                values = struct.pack(f"{form.order}{len(places)}{code}", *places)
            if len(values) > len(tag.field):
                parts.append(values)
                values = form.pointer.pack(position)
                position += len(parts[-1])
            directory.append(form.entry.pack(tag.number, type_number, tag.n_values, values))
        head = self._data[: form.header_size - form.pointer.size] + form.pointer.pack(form.header_size)
        return b"".join([head, *directory, form.pointer.pack(0), *parts])

    def _read_tags(self, offset: int) -> dict[int, Tag]:
        tags = self._format.read_directory(self._data, offset)[0]
        if any(self._format.end(tag) > len(self._data) for tag in tags):
            raise struct.error("the values of a tag are cut short")
        return {tag.number: tag for tag in tags}

    def _segments(self, tags: dict[int, Tag], numbers: tuple[int, int]) -> list[tuple[int, int]]:
        """Return the place and the length of each strip or tile."""
        places, lengths = (self._format.integers(self._data, tags[number]) for number in numbers)
        return list(zip(places, lengths, strict=True))

    def _has_short_strips(self, tags: dict[int, Tag], segments: list[tuple[int, int]]) -> bool:
        """Return whether uncompressed strips claim fewer bytes than their pixels have, as some programs wrote them."""
        value = {number: self._format.first_integer(tag) for number, tag in tags.items()}
        if value.get(_COMPRESSION, _UNCOMPRESSED) != _UNCOMPRESSED:
            return False
        bits = max(self._format.integers(self._data, tags[_BITS])) if _BITS in tags else 1
        row_bytes = (value.get(_WIDTH, 0) * value.get(_SAMPLES, 1) * bits + 7) // 8
        return sum(length for _, length in segments) < row_bytes * value.get(_HEIGHT, 0)

    def _pointed_at(self, offset: int) -> bytes:
        """Return the whole file with its header made to point at a page."""
        start = self._format.header_size - self._format.pointer.size
        return self._data[:start] + self._format.pointer.pack(offset) + self._data[self._format.header_size :]
