"""What decoding an image can cost, by its headers alone: certainly little, possibly much, or so much that it is refused."""

from __future__ import annotations

import contextlib
import math
import re
import struct
from collections import Counter
from typing import NamedTuple

from nephros.data.images.tiff_directories import walk_directories
from nephros.data.input_files import TIFF_MAGIC
from nephros.errors import FileError

MAX_CHEAP_PIXELS = 25_000_000
"""Pixels up to which usual images are cheap: decoding takes a second or two at most."""
_CHEAP_BYTES_PER_PIXEL, _CHEAP_SCANS_PER_PIXEL = 8, 5
_MIN_CHEAP_BYTES = 1 << 20
MAX_JPEG_SCANS, MAX_SCANNED_PIXELS = 500, 1_000_000_000
"""Scans of a JPEG, each of which goes over all pixels, and pixels times scans. Programs write 1 to about 20 scans."""
MAX_PNG_TEXTS = 1000
"""Compressed texts and profiles of a PNG, each of which unpacks to a megabyte at most."""
_PNG_MAGIC, _JPEG_MAGIC = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PNG_PACKED = (b"zTXt", b"iTXt", b"iCCP")
_MIN_CHEAP_CHUNKS, _PIXELS_PER_CHUNK, _MAX_CHUNKS = 1000, 1000, 100_000
_MAX_CHEAP_TEXTS, _MAX_CHEAP_EXIF_BYTES = 8, 64 << 10
_MAX_CHEAP_SCANS, _MAX_CHEAP_SEGMENTS, _MAX_SEGMENTS, _MAX_CHEAP_EXIF_SEGMENTS = 24, 300, 100_000, 4
_JPEG_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TEM, _SOI, _EOI, _SOS, _APP1 = 0x01, 0xD8, 0xD9, 0xDA, 0xE1
"""Bytes that follow 255 in markers, by the names of the standard, T.81."""
_MAX_CHEAP_PAGES, _MAX_CHEAP_TAGS, _MAX_CHEAP_TAG_BYTES, _MAX_CHEAP_SAMPLES = 500, 10_000, 1 << 20, 5
CHEAP_COMPRESSIONS = frozenset({1, 5, 8, 32773, 32946})
"""None, LZW, Deflate and PackBits: their decoders stop at the last pixel."""


def is_image(data: bytes) -> bool:
    """Return whether a file begins as images do that can be decoded."""
    return data.startswith((_PNG_MAGIC, _JPEG_MAGIC, *TIFF_MAGIC))


def is_cheap(data: bytes, max_pixels: int = MAX_CHEAP_PIXELS) -> bool:
    """Return whether decoding a file is certain to take little time and memory, so that it needs no process of its own.

    The bounds hold for whatever a decoder makes of the bytes: where a header can be read in two ways, the larger counts.
    `max_pixels`, of all pages together, sets them all.
    """
    checks = [(_PNG_MAGIC, _is_cheap_png), (_JPEG_MAGIC, _is_cheap_jpeg), *((m, _is_cheap_tiff) for m in TIFF_MAGIC)]
    for magic, is_cheap_format in checks:
        if data.startswith(magic):
            max_bytes = max(_MIN_CHEAP_BYTES, _CHEAP_BYTES_PER_PIXEL * max_pixels)
            return len(data) <= max_bytes and is_cheap_format(data, max_pixels)
    return True  # no decoder takes it


def claimed_pixels(data: bytes) -> int:
    """Return the pixels that a file's headers claim, of the first 500 pages of a TIFF file.

    It is 0 where nothing can be read, and for a single image of more pixels than are decoded, which costs nothing.
    """
    n_pixels, n_pages = 0, 1
    if data.startswith(_PNG_MAGIC):
        n_pixels = math.prod(struct.unpack_from(">II", data, 16)) if data[12:16] == b"IHDR" and len(data) >= 24 else 0
    elif data.startswith(_JPEG_MAGIC):
        n_pixels = _walk_jpeg(data, _MAX_CHEAP_SEGMENTS).n_pixels
    elif data.startswith(TIFF_MAGIC):
        with contextlib.suppress(FileError):  # the decoder reports it, with the file's name
            pages = _MAX_CHEAP_PAGES
            claims = walk_directories("", data, pages, first_pages=pages, max_tags=_MAX_CHEAP_TAGS)
            n_pixels, n_pages = claims.n_pixels, len(claims.offsets)
    return n_pixels if n_pages > 1 or n_pixels <= MAX_CHEAP_PIXELS else 0


def check_claims(name: object, data: bytes) -> None:
    """Raise FileError, naming the file `name`, where an image's headers claim more work than any image of a cell needs."""
    if data.startswith(_JPEG_MAGIC):
        jpeg = _walk_jpeg(data, _MAX_SEGMENTS)
        is_repeated = jpeg.n_scans > _MAX_CHEAP_SCANS and jpeg.n_scans * jpeg.n_pixels > MAX_SCANNED_PIXELS
        if jpeg.n_scans > MAX_JPEG_SCANS or is_repeated:
            raise FileError(
                str(name),
                f"{name} is a JPEG with at least {jpeg.n_scans:,} scans of {jpeg.n_pixels:,} pixels, each of which takes as long "
                "as a whole image; save it again, as PNG or as a JPEG that is not progressive.",
            )
        if jpeg.n_segments == _MAX_SEGMENTS:
            raise FileError(
                str(name), f"{name} is a JPEG with {_MAX_SEGMENTS:,} segments or more; save it again as PNG."
            )
    elif data.startswith(_PNG_MAGIC):
        chunks, _ = _png_chunks(data, _MAX_CHUNKS)
        if (n_texts := sum(chunks[kind] for kind in _PNG_PACKED)) > MAX_PNG_TEXTS:
            raise FileError(
                str(name), f"{name} holds {n_texts:,} compressed texts or color profiles; save it again without them."
            )


def _png_chunks(data: bytes, max_chunks: int) -> tuple[Counter[bytes], int]:
    """Return how many chunks of each kind a PNG has, up to so many, and the pixels that the largest header claims."""
    counts: Counter[bytes] = Counter()
    position, n_pixels, n_chunks = len(_PNG_MAGIC), 0, 0
    while position + 8 <= len(data) and n_chunks < max_chunks:
        length, kind = struct.unpack_from(">I4s", data, position)
        counts[kind] += 1
        n_chunks += 1
        if kind == b"IHDR" and position + 16 <= len(data):
            width, height = struct.unpack_from(">II", data, position + 8)
            n_pixels = max(n_pixels, width * height)
        if kind == b"eXIf":
            counts[b"eXIf bytes"] = max(counts[b"eXIf bytes"], length)
        position += 12 + length
    return counts, n_pixels


def _is_cheap_png(data: bytes, max_pixels: int) -> bool:
    max_chunks = _MIN_CHEAP_CHUNKS + max_pixels // _PIXELS_PER_CHUNK
    counts, n_pixels = _png_chunks(data, max_chunks)
    exif_bytes = counts.pop(b"eXIf bytes", 0)
    return (
        n_pixels <= max_pixels
        and counts.total() < max_chunks
        and sum(counts[kind] for kind in _PNG_PACKED) <= _MAX_CHEAP_TEXTS
        and exif_bytes <= _MAX_CHEAP_EXIF_BYTES
    )


class _Jpeg(NamedTuple):
    """What the segments of a JPEG claim."""

    n_scans: int
    n_pixels: int
    """Of the largest frame."""
    n_segments: int
    n_exif: int


def _walk_jpeg(data: bytes, max_segments: int) -> _Jpeg:
    """Walk the segments of a JPEG up to so many, as decoders do; what is within them, such as thumbnails, doesn't count."""
    n_scans = n_pixels = n_segments = n_exif = 0
    position = 2
    while (
        n_segments < max_segments
        and n_scans <= MAX_JPEG_SCANS
        and (marker := _JPEG_MARKER.search(data, position)) is not None
    ):
        kind, position = marker[1][0], marker.end()
        if kind == _EOI:
            break
        if kind in (_TEM, _SOI):
            continue
        n_segments += 1
        n_scans += kind == _SOS
        if kind in _JPEG_FRAMES and position + 7 <= len(data):
            height, width = struct.unpack_from(">HH", data, position + 3)
            n_pixels = max(n_pixels, (height or 65535) * width)  # a height of 0 comes after the first scan
        n_exif += kind == _APP1
        position += max(2, int.from_bytes(data[position : position + 2], "big"))
    return _Jpeg(n_scans, n_pixels, n_segments, n_exif)


def _is_cheap_jpeg(data: bytes, max_pixels: int) -> bool:
    jpeg = _walk_jpeg(data, _MAX_CHEAP_SEGMENTS)
    return (
        jpeg.n_pixels <= max_pixels
        and jpeg.n_scans <= _MAX_CHEAP_SCANS
        and jpeg.n_scans * jpeg.n_pixels <= _CHEAP_SCANS_PER_PIXEL * max_pixels
        and jpeg.n_segments < _MAX_CHEAP_SEGMENTS
        and jpeg.n_exif <= _MAX_CHEAP_EXIF_SEGMENTS
    )


def _is_cheap_tiff(data: bytes, max_pixels: int) -> bool:
    try:
        claims = walk_directories("", data, _MAX_CHEAP_PAGES, max_tags=_MAX_CHEAP_TAGS)
    except FileError:
        return False
    return (
        claims.is_whole
        and claims.n_pixels <= max_pixels
        and claims.tag_bytes <= _MAX_CHEAP_TAG_BYTES
        and claims.max_samples <= _MAX_CHEAP_SAMPLES
        and claims.compressions <= CHEAP_COMPRESSIONS
    )
