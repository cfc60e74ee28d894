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

from nephros.data.image_decoding import LEAST_SIDE, MOST_PIXELS
from nephros.data.in_memory_file import Held
from nephros.data.npz import header_of, opened, undamaged
from nephros.errors import UserError

NAMES = {"images": "", "train_images": "train", "val_images": "val", "test_images": "test"}
"""Arrays that hold cells, and the split that each is."""
BATCH_BYTES = 4 << 20
_RATIO, _FREE = 200, 256 << 20


@dataclass(frozen=True)
class CellArray:
    """An array of cells in an npz file, known from its header."""

    path: Path | Held
    name: str
    shape: tuple[int, ...]
    """(n, h, w), (n, h, w, 1) or (n, h, w, 3)."""
    dtype: np.dtype[Any]
    """uint8 or uint16."""

    @property
    def split(self) -> str:
        """``train``, ``val``, ``test`` or an empty string."""
        return NAMES[self.name]

    def __len__(self) -> int:
        return self.shape[0]

    def batches(self) -> Iterator[NDArray[Any]]:
        """Yield the cells in file order, (b, h, w) or (b, h, w, 3); UserError where the bytes turn out to be damaged."""
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        step = max(1, BATCH_BYTES // row)
        with opened(self.path) as archive, undamaged(self.path, self.name), archive.open(f"{self.name}.npy") as file:
            self._skip_header(file)
            for start in range(0, len(self), step):
                rows = min(step, len(self) - start)
                data = file.read(rows * row)
                if len(data) != rows * row:
                    raise EOFError("short")
                cells = np.frombuffer(data, self.dtype).reshape(rows, *self.shape[1:])
                yield cells[..., 0] if cells.ndim == 4 and cells.shape[3] == 1 else cells
            if file.read(1):  # reading to the end also compares the checksum
                raise EOFError("long")

    def _skip_header(self, file: IO[bytes]) -> None:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        if read(file)[1]:
            raise UserError(f"{self.path}: {self.name} is stored column by column; save numpy.ascontiguousarray of it.")


@dataclass(frozen=True)
class Unread:
    """What stands in the place of cells that can't be read."""

    path: Path | Held
    error: str
    """One sentence."""
    split: str = ""
    """Of an npz file's array, as CellArray's."""


def open_arrays(path: Path | Held) -> list[CellArray | Unread]:
    """Return the arrays of cells in an npz file, in the order in which they lie there.

    They are called ``images``, ``train_images``, ``val_images`` or ``test_images``, each of which may be missing, and other
    arrays are passed over. One that is no array of 8- or 16-bit pictures is Unread. UserError when there is none at all.
    """
    with opened(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        found = [_array_or_why(path, archive, name, member) for name, member in members.items() if name in NAMES]
    if not found:
        held = ", ".join(sorted(members)[:5]) or "nothing"
        raise UserError(
            f"{path} holds no images, train_images, val_images or test_images, but {held[:200]}; rename its arrays."
        )
    return found


def _array_or_why(path: Path | Held, archive: ZipFile, name: str, member: ZipInfo) -> CellArray | Unread:
    try:
        return _array(path, archive, name, member)
    except UserError as error:
        return Unread(path, str(error), NAMES[name])


def _array(path: Path | Held, archive: ZipFile, name: str, member: ZipInfo) -> CellArray:
    if member.file_size > _FREE and member.file_size > _RATIO * max(member.compress_size, 1):
        raise UserError(
            f"{path}: {name} would unpack to {member.file_size / 1e9:.1f} GB, {_RATIO} times its size and more, as a zip bomb "
            "does; save it anew with less of it blank."
        )
    shape, dtype = header_of(path, archive, name, member)
    if dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path}: {name} is {dtype}; convert it to uint8 or uint16.")
    if len(shape) not in (3, 4) or shape[3:] not in ((), (1,), (3,)):
        raise UserError(f"{path}: {name} has shape {shape}; it must be (n, h, w) or (n, h, w, 3).")
    if shape[0] == 0:
        raise UserError(f"{path}: {name} is empty; leave it out.")
    if min(shape[1:3]) < LEAST_SIDE or shape[1] * shape[2] > MOST_PIXELS:
        raise UserError(
            f"{path}: {name} has pictures of {shape[1]}x{shape[2]} pixels, too small or too large for cells."
        )
    return CellArray(path, name, shape, dtype)
