"""The slices of an array in a Zarr store, decoded by the library zarr; imported in a worker process only."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import IO, Any, NoReturn

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from nephros.errors import FileError, NephrosError
from nephros.microscopy.stack import Slice
from nephros.microscopy.zarr_array import ZarrArray
from nephros.microscopy.zarr_files import METADATA_NAMES, ByteRange, ZarrFiles

MAX_SLAB_BYTES = 1 << 27
"""Slices that share chunks are kept in memory up to so many bytes, and in a temporary file beyond."""
_N_THREADS = 4
"""Each takes address space, of which a worker has a limited amount."""


class _FilesStore(Store):
    """The files of a store as zarr reads them; counts those that are missing."""

    def __init__(self, files: ZarrFiles, array: ZarrArray) -> None:
        super().__init__(read_only=True)
        self._files, self._array = files, array
        self.missing: set[str] = set()

    def __eq__(self, other: object) -> bool:
        return self is other

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        data = await asyncio.to_thread(self._files.read, key, _byte_range(byte_range))
        if data is None:
            if not key.endswith(METADATA_NAMES):
                self.missing.add(key)  # a shard is asked for several times
            return None
        if not key.endswith(METADATA_NAMES):
            self._array.check_file(data)
        return prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        return await asyncio.to_thread(self._files.read, key, (0, 1)) is not None

    @property
    def supports_writes(self) -> bool:
        return False

    @property
    def supports_deletes(self) -> bool:
        return False

    @property
    def supports_listing(self) -> bool:
        return False

    async def set(self, key: str, value: Buffer) -> NoReturn:
        raise NotImplementedError

    async def delete(self, key: str) -> NoReturn:
        raise NotImplementedError

    def list(self) -> AsyncIterator[str]:
        raise NotImplementedError

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        raise NotImplementedError

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        raise NotImplementedError


def _byte_range(request: ByteRequest | None) -> ByteRange:
    if isinstance(request, RangeByteRequest):
        return request.start, request.end - request.start
    if isinstance(request, OffsetByteRequest):
        return request.offset, None
    if isinstance(request, SuffixByteRequest):
        return -request.suffix, None
    return 0, None


class ZarrSlices:
    """The slices of one channel and time point."""

    def __init__(self, files: ZarrFiles, array: ZarrArray, axes: str, fixed: list[int]) -> None:
        """Open the array.

        Args:
            files: of the store.
            array: the array, whose metadata have been checked.
            axes: a letter per dimension.
            fixed: index along each dimension other than Z, Y and X, whose entries mean nothing.
        """
        zarr.config.set({"threading.max_workers": _N_THREADS, "async.concurrency": _N_THREADS})
        self._name, self._axes, self._fixed = files.location, axes, fixed
        self._store = _FilesStore(files, array)
        zarr_format: Any = array.zarr_format
        self._array = zarr.open_array(self._store, path=array.key, mode="r", zarr_format=zarr_format)
        size_of, chunk_of = dict(zip(axes, array.shape, strict=True)), dict(zip(axes, array.chunk, strict=True))
        self._shape = tuple(size_of.get(axis, 1) for axis in "ZYX")
        self._chunk = tuple(min(chunk_of.get(axis, 1), size) for axis, size in zip("ZYX", self._shape, strict=True))
        self._dtype = array.dtype.newbyteorder("=")

    @property
    def n_missing(self) -> int:
        """Files that were looked for and not found so far, which hold chunks of the array's fill value."""
        return len(self._store.missing)

    def __iter__(self) -> Iterator[Slice | None]:
        """Yield the slices, and None for each part of a slab that was decoded before its first slice is whole."""
        depth, height, width = self._shape
        for first in range(0, depth, self._chunk[0]):
            z = slice(first, min(first + self._chunk[0], depth))
            n_slices = z.stop - z.start
            n_bytes = n_slices * height * width * self._dtype.itemsize
            if n_slices == 1 or n_bytes <= MAX_SLAB_BYTES:
                yield from self._read(z, slice(0, height), slice(0, width))
                continue
            with self._slab_file(n_bytes) as file:
                yield from self._copy_slab(z, file)
                for k in range(n_slices):
                    file.seek(k * height * width * self._dtype.itemsize)
                    yield np.fromfile(file, self._dtype, height * width).reshape(height, width)

    def _copy_slab(self, z: slice, file: IO[bytes]) -> Iterator[None]:
        """Write slices that share chunks to a file, box by box, so that each chunk is decoded once.

        Yield after each box: all of them together may take longer than this process has for a slice.
        """
        _, height, width = self._shape
        n_bytes = self._dtype.itemsize
        row_bytes = self._chunk[0] * self._chunk[1] * n_bytes
        box_width = max(1, MAX_SLAB_BYTES // row_bytes // self._chunk[2]) * self._chunk[2]
        for top, left in itertools.product(range(0, height, self._chunk[1]), range(0, width, box_width)):
            y, x = slice(top, min(top + self._chunk[1], height)), slice(left, min(left + box_width, width))
            for k, rows in enumerate(self._read(z, y, x)):
                # Whole rows are one piece of the file.
                for row, values in enumerate([rows] if x.stop - x.start == width else rows):
                    file.seek((k * height * width + (top + row) * width + left) * n_bytes)
                    file.write(np.ascontiguousarray(values).tobytes())
            yield
        file.flush()

    @contextlib.contextmanager
    def _slab_file(self, n_bytes: int) -> Iterator[IO[bytes]]:
        """Within the block, a temporary file that may get so many bytes is open.

        Raises:
            FileError: the disk is full, or the file can't be written for another reason.
        """
        try:
            if shutil.disk_usage(tempfile.gettempdir()).free < n_bytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with tempfile.TemporaryFile() as file:
                yield file
        except OSError as error:
            place = tempfile.tempdir or "the folder of temporary files"
            raise FileError(
                str(self._name),
                f"{self._name} has chunks of {self._chunk[0]} slices, which need {n_bytes:,} bytes in {place} "
                f"({error.strerror or error}); free some space there, or set TMPDIR to a folder on a larger disk.",
            ) from error

    def _read(self, z: slice, y: slice, x: slice) -> NDArray[Any]:
        """Return a box, (slices, rows, columns)."""
        parts: dict[str, slice] = {"Z": z, "Y": y, "X": x}
        selection = tuple(
            parts.get(axis, index) for axis, index in zip(self._axes, self._fixed, strict=True)
        )  # fmt: skip
        try:
            values = np.asarray(self._array[selection])
        except (NephrosError, MemoryError):
            raise
        except Exception as error:  # codecs raise nearly every kind for changed bytes
            slices = f"slice {z.start}" if z.stop == z.start + 1 else f"slices {z.start} to {z.stop - 1}"
            raise FileError(
                str(self._name), f"{self._name} has a damaged chunk in {slices}; copy it again from its source."
            ) from error
        letters = [axis for axis in self._axes if axis in parts]
        values = values.transpose([letters.index(axis) for axis in "ZYX" if axis in letters])
        return values.reshape((-1, *values.shape[-2:])).astype(self._dtype, copy=False)
