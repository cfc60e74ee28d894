"""TIFF files of microscopes' software for tests, which tifffile reads and can't write: MetaMorph's STK."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Tag = tuple[int, int, int, int]
"""Number, type, number of values, and the value or its place."""
_SHORT, _LONG, _RATIONAL = 3, 4, 5
"""Types of tags."""


def _plane_tags(shape: Sequence[int], data: int) -> list[Tag]:
    """Return the tags of an uncompressed plane (y, x) of 16 bits whose pixels are at `data`."""
    height, width = shape
    return [
        (256, _LONG, 1, width), (257, _LONG, 1, height), (258, _SHORT, 1, 16), (259, _SHORT, 1, 1), (262, _SHORT, 1, 1),
        (273, _LONG, 1, data), (277, _SHORT, 1, 1), (278, _LONG, 1, height), (279, _LONG, 1, 2 * height * width),
    ]  # fmt: skip


def _directory(tags: Sequence[Tag], next_place: int = 0) -> bytes:
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", next_place)


def write_stk(path: Path, volume: NDArray[np.uint16], voxel_size: Sequence[float]) -> Path:
    """Write (z, y, x) as MetaMorph does: one directory for all planes, and an entry for each of them in the tag UIC2."""
    z, y, x = (round(1000 * side) for side in voxel_size)
    sides_place, unit_place, uic1_place, uic2_place = 8, 24, 32, 56
    data = uic2_place + 24 * len(volume)
    parts = [
        b"II*\0" + struct.pack("<I", data + volume.nbytes),
        struct.pack("<4I", x, 1000, y, 1000),
        struct.pack("<I4s", 3, b"um"),
        struct.pack("<6I", 4, sides_place, 5, sides_place + 8, 6, unit_place),
        *(struct.pack("<6I", z, 1000, *(2_459_000, 1000 * plane) * 2) for plane in range(len(volume))),
        volume.tobytes(),
        _directory([
            *_plane_tags(volume.shape[1:], data), (33628, _LONG, 3, uic1_place), (33629, _RATIONAL, len(volume), uic2_place),
        ]),
    ]  # fmt: skip
    path.write_bytes(b"".join(parts))
    return path
