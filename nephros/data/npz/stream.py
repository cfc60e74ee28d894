"""Images of an npz file in batches, without its labels and without unpacking it whole. Nothing in it is ever unpickled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from nephros.data.images.decoding import MAX_PIXELS
from nephros.data.images.input_conversion import MIN_SIDE
from nephros.data.input_files import InputFile, read_npy_header
from nephros.data.medmnist import is_cube, medmnist_of_file
from nephros.data.npz.archive import open_archive, read_member_header, translate_read_errors
from nephros.data.npz.images import image_shape, is_channels_first
from nephros.data.npz.layout import find_image_arrays, holds_volumes
from nephros.data.volumes import slices_last
from nephros.errors import FileError, NephrosError

STREAM_BYTES = 4 << 20
"""Bytes of images per batch."""


@dataclass(frozen=True)
class ImageArray:
    """An array of images in an npz file whose header has been read."""

    path: InputFile
    name: str
    shape: tuple[int, ...]
    """(n, h, w), (n, h, w, 1) or (n, h, w, 3), or with the channels before h; of volumes (n, d, h, w)."""
    dtype: np.dtype[Any]
    """Of truth values, integers or floating-point numbers."""
    split: str = ""
    """``train``, ``val``, ``test`` or an empty string."""
    is_volumetric: bool = False
    """Whether it holds volumes."""

    def __len__(self) -> int:
        return self.shape[0]

    def iter_batches(self) -> Iterator[NDArray[Any]]:
        """Yield the images in file order, (b, h, w), (b, h, w, 3) or, volumes, (b, h, w, d); truth values as 0 and 255.

        Raises:
            FileError: the array's bytes are damaged, or it is stored in Fortran order.
        """
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
                    raise EOFError("too short")
                images = np.frombuffer(data, self.dtype).reshape(n_images, *self.shape[1:])
                images = images.astype(np.uint8) * np.uint8(255) if images.dtype == np.bool_ else images
                if self.is_volumetric:
                    yield slices_last(images)
                    continue
                images = np.moveaxis(images, 1, 3) if is_channels_first(self.shape) else images
                yield images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images
            if file.read(1):  # reading to the end also checks the archive's checksum
                raise EOFError("too long")

    def _skip_header(self, file: IO[bytes]) -> None:
        if read_npy_header(file, f"{self.path}: {self.name}").fortran_order:
            raise FileError(
                str(self.path),
                f"{self.path}: {self.name} is stored column by column; save numpy.ascontiguousarray of it.",
            )


@dataclass(frozen=True)
class UnreadableInput:
    """Stands in for images that can't be read."""

    path: InputFile
    message: str
    """Why not, in one sentence."""
    split: str = ""
    """The split of an npz file's array, as `ImageArray.split`."""


def open_image_arrays(path: InputFile) -> list[ImageArray | UnreadableInput]:
    """Open the arrays of images in an npz file, in the file's order.

    These are ``images``, ``train_images``, ``val_images`` and ``test_images``, or arrays of similar names such as ``x_test``, as
    far as the file has them; other arrays are ignored. An array that does not hold images becomes an `UnreadableInput`.

    Raises:
        FileError: the file is missing or damaged, or has none of these arrays.
    """
    with open_archive(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        names = find_image_arrays(list(members), lambda name: read_member_header(path, archive, name, members[name])[0])
        arrays = [_open_or_unreadable(path, archive, name, members[name], split) for name, split in names.items()]
    if not arrays:
        array_names = ", ".join(sorted(members)[:5]) or "nothing"
        raise FileError(
            str(path),
            f"{path} holds no images, train_images, val_images or test_images, but {array_names[:200]}; rename its arrays.",
        )
    return arrays


def _open_or_unreadable(
    path: InputFile, archive: ZipFile, name: str, member: ZipInfo, split: str
) -> ImageArray | UnreadableInput:
    try:
        return _open_array(path, archive, name, member, split)
    except NephrosError as error:
        return UnreadableInput(path, str(error), split)


def _open_array(path: InputFile, archive: ZipFile, name: str, member: ZipInfo, split: str) -> ImageArray:
    shape, dtype = read_member_header(path, archive, name, member)
    if dtype.kind not in "buif":
        raise FileError(str(path), f"{path}: {name} is {dtype}; convert it to uint8 or uint16.")
    info = medmnist_of_file(path.name)
    is_volumetric = holds_volumes(name) or (info is not None and info.is_volumetric and is_cube(shape))
    height, width, _ = image_shape(path, name, shape, is_volumetric=is_volumetric)
    if shape[0] == 0:
        raise FileError(str(path), f"{path}: {name} is empty; leave it out.")
    if min(height, width) < MIN_SIDE or height * width > MAX_PIXELS:
        raise FileError(
            str(path), f"{path}: {name} has images of {height}x{width} pixels, too small or too large for cells."
        )
    return ImageArray(path, name, shape, dtype, split, is_volumetric)
