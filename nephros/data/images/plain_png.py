"""The most frequent image of a cell, decoded without Pillow's search for formats and metadata: a plain 8-bit gray PNG file."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_HEADER = struct.Struct(">IIBBBBBI")
"""Width, height, bits, color type, compression, filter and interlacing of the first chunk, and its checksum."""
_GRAY_8_BIT = (8, 0, 0, 0, 0)
_CHUNK = struct.Struct(">I4s")
_END = b"\0\0\0\0IEND\xaeB`\x82"
_MAX_BYTES, _MAX_CHUNKS = 1 << 20, 16
_HARMLESS_CHUNKS = {b"pHYs": 9, b"gAMA": 4, b"sRGB": 1, b"tIME": 7}
"""Chunks that don't change how the stored values are read, and their lengths."""


def decode_plain_png(data: bytes, max_pixels: int) -> NDArray[np.uint8] | None:
    """Return the pixels (h, w) of an 8-bit gray PNG file without metadata that could change them.

    None stands for every other file, damaged ones included: `nephros.data.images.decoding` reads them, or says what is wrong.
    """
    if len(data) > _MAX_BYTES or not data.startswith(_START) or not data.endswith(_END):
        return None
    width, height, *kind, checksum = _HEADER.unpack_from(data, len(_START))
    max_pixels = min(max_pixels, Image.MAX_IMAGE_PIXELS or max_pixels)
    if tuple(kind) != _GRAY_8_BIT or not 0 < width * height <= max_pixels or zlib.crc32(data[12:29]) != checksum:
        return None
    compressed = _pixel_chunks(data)
    if compressed is None:
        return None
    try:
        image = Image.frombytes("L", (width, height), compressed, "zip", "L")
    except (ValueError, OSError, MemoryError, Image.DecompressionBombError):
        return None
    return np.frombuffer(image.tobytes(), dtype=np.uint8).reshape(height, width)


def _pixel_chunks(data: bytes) -> bytes | None:
    """Return what the chunks of pixels hold, if they follow each other and nothing but harmless chunks stands beside them."""
    position, end = len(_START) + _HEADER.size, len(data) - len(_END)
    parts: list[bytes] = []
    is_past = False
    for _ in range(_MAX_CHUNKS):
        if position == end:
            return b"".join(parts) or None
        if position > end - _CHUNK.size:
            return None
        length, name = _CHUNK.unpack_from(data, position)
        start, position = position + _CHUNK.size, position + _CHUNK.size + length + 4
        if name == b"IDAT" and not is_past:
            parts.append(data[start : start + length])
            continue
        is_past = bool(parts)
        checksum = int.from_bytes(data[start + length : position], "big")
        if _HARMLESS_CHUNKS.get(name) != length or zlib.crc32(data[start - 4 : start + length]) != checksum:
            return None
    return None
