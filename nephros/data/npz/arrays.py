"""Arrays of an npz file, read one by one; large ones are unpacked to the cache folder and memory-mapped."""

from __future__ import annotations

import hashlib
import math
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.download import cache_dir
from nephros.data.input_files import read_npy_header
from nephros.data.npz.archive import read_member_header, translate_read_errors
from nephros.errors import FileError
from nephros.files import atomic_write

MAX_NAMES_BYTES = 64 << 20
"""Bytes of names that are read whatever memory is free."""
READ_BYTES = 1 << 20
CHUNK_BYTES = 64 << 20
"""Bytes of images that are converted at a time."""


@dataclass(frozen=True)
class NpzArray:
    """An array in an npz file whose header has been read."""

    name: str
    member: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def open_array(path: Path, archive: zipfile.ZipFile, name: str) -> NpzArray:
    """Read the header of an array; errors as `read_member_header`."""
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    return NpzArray(name, members[name], *read_member_header(path, archive, name, members[name]))


def read_array(path: Path, archive: zipfile.ZipFile, array: NpzArray) -> NDArray[Any]:
    """Return an array's values; FileError where its bytes are damaged."""
    with translate_read_errors(path, array.name), archive.open(array.member) as file:
        header = read_npy_header(file, f"{path}: {array.name}")
        values: NDArray[Any] = np.empty(math.prod(header.shape), header.dtype)
        data = values.view(np.uint8).data if values.nbytes else memoryview(b"")
        for start in range(0, len(data), READ_BYTES):
            piece = data[start : start + READ_BYTES]
            piece[:] = file.read(len(piece))  # ValueError where bytes are missing
    return values.reshape(header.shape, order="F" if header.fortran_order else "C")


def read_small_array(path: Path, archive: zipfile.ZipFile, array: NpzArray, max_bytes: int) -> NDArray[Any]:
    """Return an array of labels or groups; FileError where it is larger than half of the free memory."""
    if array.member.file_size > max(max_bytes // 2, MAX_NAMES_BYTES):
        raise FileError(
            path, f"{path}: {array.name} has {array.member.file_size / 1e6:,.0f} MB, more than half of the free memory."
        )
    return read_array(path, archive, array)


@dataclass(frozen=True)
class ImageLoader:
    """Loads arrays of images of one file."""

    path: Path
    archive: zipfile.ZipFile
    sha256: str
    """Of the file, which names its unpacked copies."""
    max_bytes: int
    """Free memory: what is larger than half of it is memory-mapped."""

    def load(self, array: NpzArray) -> NDArray[Any]:
        """Return an array as it is stored, memory-mapped from an unpacked copy where it is large."""
        if array.member.file_size <= self.max_bytes // 2:
            return read_array(self.path, self.archive, array)
        unpacked = self._mapped_file(array.name)
        if not unpacked.exists() or unpacked.stat().st_size != array.member.file_size:
            with translate_read_errors(self.path, array.name), self.archive.open(array.member) as compressed:
                self._write(unpacked, array, lambda file: shutil.copyfileobj(compressed, file, 1 << 20))
        return np.load(unpacked, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]

    def convert(
        self,
        array: NpzArray,
        images: NDArray[Any],
        indices: NDArray[np.int64],
        convert: Callable[[NDArray[Any]], NDArray[np.uint8]],
        key: str,
    ) -> NDArray[np.uint8]:
        """Return the images at `indices`, converted; memory-mapped if they are.

        Args:
            array: of the images.
            images: as `load` returns them.
            indices: (m,) int64, ascending.
            convert: takes some images, and returns as many.
            key: says what is done with the images, to name their copy.
        """
        n_images = max(1, CHUNK_BYTES // max(1, images[:1].nbytes))
        chunks = (convert(images[indices[start : start + n_images]]) for start in range(0, len(indices), n_images))
        if not isinstance(images, np.memmap):
            return np.concatenate(list(chunks))
        digest = hashlib.sha256(key.encode() + indices.tobytes()).hexdigest()[:16]
        target = self._mapped_file(f"{array.name}-{digest}")

        def write(file: Any) -> None:
            header = np.lib.format.header_data_from_array_1_0(convert(images[:1]))
            np.lib.format.write_array_header_1_0(file, header | {"shape": (len(indices), *header["shape"][1:])})
            for chunk in chunks:
                file.write(np.ascontiguousarray(chunk).data)

        if not target.exists():
            self._write(target, array, write)
        return np.load(target, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]

    def _mapped_file(self, name: str) -> Path:
        return cache_dir() / "mapped" / f"{self.sha256}-{name}.npy"

    def _write(self, target: Path, array: NpzArray, write: Callable[[Any], None]) -> None:
        try:
            with atomic_write(target) as file:
                write(file)
        except OSError as error:
            raise FileError(
                target,
                f"{self.path}: {array.name} is larger than half of the free memory, and {target.parent} can't hold its "
                f"{array.member.file_size} bytes ({error.strerror}); free some space there.",
            ) from error
