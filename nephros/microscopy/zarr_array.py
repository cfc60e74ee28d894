"""An array of a Zarr store by its metadata, checked before anything is decoded: sizes, type, chunks and codecs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from nephros.errors import FileError
from nephros.microscopy.zarr_files import ZarrFiles, join_key, read_json

MAX_CHUNK_BYTES = 1 << 29
"""Largest chunk, decoded."""
MAX_CHUNKS = 20_000_000
_MAX_SIDE, _MAX_DIMENSIONS = 1 << 40, 8
_CODECS_V2 = frozenset({"blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "lzma", "shuffle", "delta", "crc32", "crc32c"})
_CODECS_V3 = frozenset({"bytes", "endian", "transpose", "blosc", "gzip", "zstd", "crc32c", "sharding_indexed"}) | {
    f"numcodecs.{name}" for name in _CODECS_V2
}
"""Codecs that are decoded: those that OME-Zarr's writers offer. numcodecs has others, of which pickle runs code."""
_TYPES_V3 = frozenset({
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
})  # fmt: skip


@dataclass(frozen=True)
class ZarrArray:
    """An array in a store."""

    key: str
    """Its path in the store; empty for the store itself."""
    zarr_format: int
    """2 or 3."""
    shape: tuple[int, ...]
    file_chunk: tuple[int, ...]
    """Shape of what one file holds: a chunk, or a shard of several."""
    chunk: tuple[int, ...]
    """Shape of what is decoded at once."""
    dtype: np.dtype[Any]
    separator: str
    """Between the numbers in the names of chunks."""
    key_prefix: str
    dimension_names: tuple[str, ...] = ()
    uses_blosc: bool = False
    """Whether a file is what Blosc wrote, which reads beyond the end of a file that was cut."""

    def check_file(self, data: bytes) -> None:
        """Raise ValueError where a file of the array is shorter than it says itself."""
        if self.uses_blosc and len(data) < int.from_bytes(data[12:16], "little"):
            raise ValueError("the chunk is cut short")

    def chunk_keys(self, selection: tuple[slice, ...]) -> Iterator[str]:
        """Yield the keys of the files that hold a part of the array."""
        for index in itertools.product(*self._file_ranges(selection)):
            yield join_key(self.key, self.key_prefix + self.separator.join(map(str, index)))

    def n_files(self, selection: tuple[slice, ...]) -> int:
        """Return the number of files that hold a part of the array, if all were written."""
        return math.prod(len(numbers) for numbers in self._file_ranges(selection))

    def _file_ranges(self, selection: tuple[slice, ...]) -> list[range]:
        return [
            range(part.start // side, -(-part.stop // side))
            for part, side in zip(selection, self.file_chunk, strict=True)
        ]


def read_zarr_array(files: ZarrFiles, key: str) -> ZarrArray | None:
    """Return the array at a key, or None where there is none.

    Raises:
        FileError: its metadata are damaged, or it has a type, a codec or sizes that are not read.
    """
    name = f"{files.location}{f' ({key})' if key else ''}"
    metadata = read_json(files, join_key(key, "zarr.json"))
    try:
        if metadata is not None:
            array = _array_v3(files, name, key, metadata) if metadata.get("node_type") == "array" else None
        elif (metadata := read_json(files, join_key(key, ".zarray"))) is not None:
            array = _array_v2(files, name, key, metadata)
        else:
            array = None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise FileError(
            str(files.location), f"{name} has metadata that are incomplete or damaged; copy it again from its source."
        ) from error
    if array is not None:
        _check_sizes(files, name, array)
    return array


def _array_v2(files: ZarrFiles, name: str, key: str, metadata: dict[str, Any]) -> ZarrArray:
    if metadata.get("zarr_format") != 2 or metadata.get("order", "C") not in ("C", "F"):
        raise ValueError
    codecs = [metadata.get("compressor"), *(metadata.get("filters") or [])]
    _check_codecs(files, name, (codec["id"] for codec in codecs if codec is not None), _CODECS_V2)
    type_text = metadata["dtype"]
    if not isinstance(type_text, str) or np.dtype(type_text).kind not in "biuf":
        _refuse_type(files, name, type_text)
    separator = metadata.get("dimension_separator", ".")
    if separator not in (".", "/"):
        raise ValueError
    chunk = _sizes(metadata["chunks"])
    uses_blosc = (metadata.get("compressor") or {}).get("id") == "blosc"
    shape, dtype = _sizes(metadata["shape"]), np.dtype(type_text)
    return ZarrArray(key, 2, shape, chunk, chunk, dtype, separator, "", uses_blosc=uses_blosc)


def _array_v3(files: ZarrFiles, name: str, key: str, metadata: dict[str, Any]) -> ZarrArray:
    if metadata.get("zarr_format") != 3 or metadata.get("storage_transformers"):
        raise ValueError
    type_name = metadata["data_type"]
    if not isinstance(type_name, str) or type_name not in _TYPES_V3:
        _refuse_type(files, name, type_name)
    grid, encoding = metadata["chunk_grid"], metadata["chunk_key_encoding"]
    if grid["name"] != "regular" or encoding["name"] not in ("default", "v2"):
        raise ValueError
    file_chunk = chunk = _sizes(grid["configuration"]["chunk_shape"])
    codecs = metadata["codecs"]
    while True:
        _check_codecs(files, name, (codec["name"] for codec in codecs), _CODECS_V3)
        shards = [codec["configuration"] for codec in codecs if codec["name"] == "sharding_indexed"]
        if not shards:
            break
        _check_codecs(files, name, (codec["name"] for codec in shards[0]["index_codecs"]), _CODECS_V3)
        chunk, codecs = _sizes(shards[0]["chunk_shape"]), shards[0]["codecs"]
    is_v2 = encoding["name"] == "v2"
    separator = (encoding.get("configuration") or {}).get("separator", "." if is_v2 else "/")
    if separator not in (".", "/"):
        raise ValueError
    names = tuple(str(axis or "") for axis in metadata.get("dimension_names") or ())
    prefix = "" if is_v2 else f"c{separator}"
    uses_blosc = metadata["codecs"][-1]["name"] == "blosc"
    shape, dtype = _sizes(metadata["shape"]), np.dtype(type_name)
    return ZarrArray(key, 3, shape, file_chunk, chunk, dtype, separator, prefix, names, uses_blosc)


def _sizes(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value <= _MAX_SIDE for value in values):
        raise ValueError
    return tuple(values)


def _check_codecs(files: ZarrFiles, name: str, codecs: Iterable[str], allowed: frozenset[str]) -> None:
    for codec in codecs:
        if codec not in allowed:
            raise FileError(
                str(files.location),
                f"{name} is compressed with {str(codec)[:40]!r}, which is not read here; save it with blosc, zstd or gzip.",
            )


def _refuse_type(files: ZarrFiles, name: str, type_name: Any) -> NoReturn:
    text = type_name if isinstance(type_name, str) else "several values"
    raise FileError(
        str(files.location), f"{name} has pixels of type {text[:40]}; save it as 8- or 16-bit integers."
    )  # fmt: skip


def _check_sizes(files: ZarrFiles, name: str, array: ZarrArray) -> None:
    """Raise FileError for sizes that contradict each other, or that no memory holds."""
    sides = (array.shape, array.file_chunk, array.chunk)
    has_equal_lengths = len({len(sizes) for sizes in sides}) == 1 and 1 <= len(array.shape) <= _MAX_DIMENSIONS
    if not has_equal_lengths or min(array.file_chunk) < 1 or min(array.chunk) < 1:
        raise FileError(
            str(files.location),
            f"{name} has metadata whose sizes contradict each other; copy it again from its source.",
        )
    n_bytes = math.prod(array.chunk) * array.dtype.itemsize
    if n_bytes > MAX_CHUNK_BYTES:
        raise FileError(
            str(files.location),
            f"{name} has chunks of {' x '.join(map(str, array.chunk))} pixels, which are too large for memory; save it with "
            "smaller chunks.",
        )
    if array.n_files(tuple(slice(0, side) for side in array.shape)) > MAX_CHUNKS:
        raise FileError(
            str(files.location),
            f"{name} claims more than {MAX_CHUNKS:,} chunks; save it with larger ones, or copy it again if it is damaged.",
        )
