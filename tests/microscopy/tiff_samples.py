"""TIFF files of microscopes' software for tests, which tifffile reads and can't write: MetaMorph's and Micro-Manager's stacks."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.microscopy.microscope_samples import CHANNELS

Tag = tuple[int, int, int, int]
"""Number, type, number of values, and the value or its place."""
_ASCII, _SHORT, _LONG, _RATIONAL = 2, 3, 4, 5
"""Types of tags."""


def _plane_tags(shape: Sequence[int], data: int) -> list[Tag]:
    """Return the tags of an uncompressed plane (y, x) of 16 bits whose pixels are at `data`."""
    height, width = shape
    return [
        (256, _LONG, 1, width), (257, _LONG, 1, height), (258, _SHORT, 1, 16), (259, _SHORT, 1, 1), (262, _SHORT, 1, 1),
        (273, _LONG, 1, data), (277, _SHORT, 1, 1), (278, _LONG, 1, height), (279, _LONG, 1, 2 * height * width),
    ]  # fmt: skip


def _directory(tags: Sequence[Tag], next_place: int = 0) -> bytes:
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags, key=lambda tag: tag[0]))
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


def write_micromanager(path: Path, values: NDArray[np.uint16], channels: Sequence[str] = CHANNELS) -> Path:
    """Write (t, c, z, y, x) as an image stack file of Micro-Manager 1.4 and 2.0, which has an index of its own beside OME's."""
    n_t, n_c, n_z, *plane = values.shape
    places = list(np.ndindex(n_t, n_z, n_c))  # of each page
    sizes = {"Frames": n_t, "Channels": n_c, "Slices": n_z, "Positions": 1}
    summary = json.dumps({"MicroManagerVersion": "2.0.0", "PixelSize_um": 9.0, "z-step_um": 9.0, **sizes}).encode()
    texts = [_micromanager_ome(path.name, values.shape, places, channels), _micromanager_imagej(sizes)]
    file = bytearray(40 + len(summary)) + b"".join(texts)
    text_places = [len(file) - len(texts[0] + texts[1]), len(file) - len(texts[1])]
    index = b""
    for number, (t, z, c) in enumerate(places):
        described = [(270, _ASCII, len(text), place) for text, place in zip(texts, text_places, strict=True)]
        described = described if number == 0 else []
        data = len(file) + 2 + 12 * (13 + len(described)) + 4
        after = data + values[t, c, z].nbytes
        tag = b'{"PixelSizeUm": 9.0}'
        tags = [
            *_plane_tags(plane, data), *described, (282, _RATIONAL, 1, after), (283, _RATIONAL, 1, after + 8),
            (296, _SHORT, 1, 3), (51123, _ASCII, len(tag), after + 16),
        ]  # fmt: skip
        index += struct.pack("<5I", c, z, t, 0, len(file))
        end = after + 16 + len(tag)
        file += _directory(tags, end if number + 1 < len(places) else 0) + values[t, c, z].tobytes()
        file += struct.pack("<4I", 1, 1, 1, 1) + tag
    ends = {483765892: struct.pack("<II2s", 347834724, 2, b"[]"), 99384722: struct.pack("<II2s", 84720485, 2, b"{}")}
    header = [54773648, len(file)]
    file += struct.pack("<II", 3453623, len(places)) + index
    for key, part in ends.items():
        header += [key, len(file)]
        file += part
    first = struct.unpack_from("<I", index, 16)[0]
    struct.pack_into("<4sI8I", file, 0, b"II*\0", first, *header, 2355492, len(summary))
    file[40 : 40 + len(summary)] = summary
    path.write_bytes(file)
    return path


def _micromanager_ome(
    name: str, shape: Sequence[int], places: Sequence[tuple[int, ...]], channels: Sequence[str]
) -> bytes:
    n_t, n_c, n_z, n_y, n_x = shape
    described = "".join(
        f'<Channel ID="Channel:0:{c}" Name="{channel}" SamplesPerPixel="1"/>' for c, channel in enumerate(channels)
    )
    located = "".join(
        f'<TiffData FirstC="{c}" FirstT="{t}" FirstZ="{z}" IFD="{number}" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:1</UUID></TiffData>'
        for number, (t, z, c) in enumerate(places)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">'
        f'<Image ID="Image:0" Name="Pos0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="{n_x}" SizeY="{n_y}" '
        f'SizeC="{n_c}" SizeZ="{n_z}" SizeT="{n_t}" PhysicalSizeX="0.5" PhysicalSizeY="0.5" PhysicalSizeZ="1.0">{described}'
        f"{located}</Pixels></Image></OME>\0"
    ).encode()


def _micromanager_imagej(sizes: Mapping[str, int]) -> bytes:
    n_images = sizes["Frames"] * sizes["Slices"] * sizes["Channels"]
    lines = [f"images={n_images}", *(f"{key.lower()}={sizes[key]}" for key in ("Channels", "Slices", "Frames"))]
    return "\n".join(["ImageJ=1.48", *lines, "hyperstack=true", "\0"]).encode()
