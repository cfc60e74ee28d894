"""Read the cells of an npz a batch at a time, without its labels and without unpacking it whole; nothing is unpickled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from nephros.data.image_decoding import MAX_PIXELS, MIN_SIDE
from nephros.data.in_memory_file import InMemoryFile
from nephros.data.npz import open_archive, read_npy_header, translate_read_errors
from nephros.errors import NephrosError

IMAGE_ARRAY_SPLITS = {"images": "", "train_images": "train", "val_images": "val", "test_images": "test"}
"""Arrays that hold cells, and the split that each is."""
STREAM_BYTES = 4 << 20
_MAX_COMPRESSION_RATIO, _MIN_BOMB_BYTES = 200, 256 << 20


@dataclass(frozen=True)
class ImageArray:
    """An array of cells in an npz file, known from its header."""

    path: Path | InMemoryFile
    name: str
    shape: tuple[int, ...]
    """(n, h, w), (n, h, w, 1) or (n, h, w, 3)."""
    dtype: np.dtype[Any]
    """uint8 or uint16."""

    @property
    def split(self) -> str:
        """``train``, ``val``, ``test`` or an empty string."""
        return IMAGE_ARRAY_SPLITS[self.name]

    def __len__(self) -> int:
        return self.shape[0]

    def iter_batches(self) -> Iterator[NDArray[Any]]:
        """Yield the cells in file order, (b, h, w) or (b, h, w, 3); UserError where the bytes turn out to be damaged."""
        image_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        batch_size = max(1, STREAM_BYTES // image_bytes)
        with (
            open_archive(self.path) as archive,
            translate_read_errors(self.path, self.name),
            archive.open(f"{self.name}.npy") as file,
        ):
            self._skip_header(file)
            for start in range(0, len(self), batch_size):
                n_images = min(batch_size, len(self) - start)
                data = file.read(n_images * image_bytes)
                if len(data) != n_images * image_bytes:
                    raise EOFError("short")
                images = np.frombuffer(data, self.dtype).reshape(n_images, *self.shape[1:])
                yield images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images
            if file.read(1):  # reading to the end also compares the checksum
                raise EOFError("long")

    def _skip_header(self, file: IO[bytes]) -> None:
        version = np.lib.format.read_magic(file)
        read_header_version = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        if read_header_version(file)[1]:
            raise NephrosError(
                f"{self.path}: {self.name} is stored column by column; save numpy.ascontiguousarray of it."
            )


@dataclass(frozen=True)
class UnreadableInput:
    """What stands in the place of cells that can't be read."""

    path: Path | InMemoryFile
    message: str
    """One sentence."""
    split: str = ""
    """Of an npz file's array, as CellArray's."""


def open_image_arrays(path: Path | InMemoryFile) -> list[ImageArray | UnreadableInput]:
    """Return the arrays of cells in an npz file, in the order in which they lie there.

    They are called ``images``, ``train_images``, ``val_images`` or ``test_images``, each of which may be missing, and other
    arrays are passed over. One that is no array of 8- or 16-bit pictures is Unread. UserError when there is none at all.
    """
    with open_archive(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        arrays = [
            _open_or_unreadable(path, archive, name, member)
            for name, member in members.items()
            if name in IMAGE_ARRAY_SPLITS
        ]
    if not arrays:
        array_names = ", ".join(sorted(members)[:5]) or "nothing"
        raise NephrosError(
            f"{path} holds no images, train_images, val_images or test_images, but {array_names[:200]}; rename its arrays."
        )
    return arrays


def _open_or_unreadable(
    path: Path | InMemoryFile, archive: ZipFile, name: str, member: ZipInfo
) -> ImageArray | UnreadableInput:
    try:
        return _open_array(path, archive, name, member)
    except NephrosError as error:
        return UnreadableInput(path, str(error), IMAGE_ARRAY_SPLITS[name])


def _open_array(path: Path | InMemoryFile, archive: ZipFile, name: str, member: ZipInfo) -> ImageArray:
    if member.file_size > _MIN_BOMB_BYTES and member.file_size > _MAX_COMPRESSION_RATIO * max(member.compress_size, 1):
        raise NephrosError(
            f"{path}: {name} would unpack to {member.file_size / 1e9:.1f} GB, {_MAX_COMPRESSION_RATIO} times its size and more, "
            "as a zip bomb does; save it anew with less of it blank."
        )
    shape, dtype = read_npy_header(path, archive, name, member)
    if dtype not in (np.uint8, np.uint16):
        raise NephrosError(f"{path}: {name} is {dtype}; convert it to uint8 or uint16.")
    if len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,)):
        raise NephrosError(f"{path}: {name} has shape {shape}; it must be (n, h, w) or (n, h, w, 3).")
    if shape[0] == 0:
        raise NephrosError(f"{path}: {name} is empty; leave it out.")
    if min(shape[1:3]) < MIN_SIDE or shape[1] * shape[2] > MAX_PIXELS:
        raise NephrosError(
            f"{path}: {name} has pictures of {shape[1]}x{shape[2]} pixels, too small or too large for cells."
        )
    return ImageArray(path, name, shape, dtype)
