"""Input files of any origin, on disk or in memory: their bytes and what their first bytes reveal."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

import numpy as np

from nephros.data.images.foreign_formats import folder_format
from nephros.errors import FileError, did_you_mean

MAX_FILE_BYTES = 1 << 30
"""Largest image file that is read, in bytes."""
_MAX_SMALL_BYTES = 1 << 20
NPY_MAGIC = b"\x93NUMPY"
"""First bytes of a .npy array."""
_MAX_NPY_HEADER_BYTES = 10_000
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF file: little- and big-endian, classic and BigTIFF."""


@dataclass(frozen=True)
class InMemoryFile:
    """A file that exists only as bytes in memory, such as an upload.

    It stands where the path of an existing file may stand, so that nothing needs to be written to disk.
    """

    name: str
    """The sender's name for the file. It appears in messages and is never opened."""
    data: bytes = field(repr=False)

    def __str__(self) -> str:
        """Return the name."""
        return self.name

    @property
    def suffix(self) -> str:
        """The name's suffix, as in `pathlib.Path.suffix`."""
        return PurePosixPath(self.name).suffix

    def open(self) -> io.BytesIO:
        """Return the bytes as a file that is open for reading."""
        return io.BytesIO(self.data)


InputFile = Path | InMemoryFile


def read_bytes(path: InputFile, status: os.stat_result | None = None) -> bytes:
    """Return the content of an image file, whose `status` is asked for where it is not given.

    Raises:
        FileError: the file can't be read, is not a regular file, is empty, or is larger than 1 GiB.
    """
    if isinstance(path, InMemoryFile):
        if not path.data:
            raise _empty_file_error(path)
        return path.data
    try:
        status = status or os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise FileError(path, f"{path} is a folder, not an image; name the files in it.")
        if not stat.S_ISREG(status.st_mode):
            raise FileError(path, f"{path} is a device or a pipe, not a file; copy its content to a file.")
        if status.st_size == 0:
            raise _empty_file_error(path)
        if status.st_size > MAX_FILE_BYTES:
            raise FileError(
                path, f"{path} has {status.st_size / 1e9:.1f} GB, too much for images of cells; split it up."
            )
        return _read_whole(path, status.st_size)
    except FileNotFoundError:
        reason = "its link leads nowhere" if path.is_symlink() else "it does not exist"
        raise FileError(path, f"{path} can't be read ({reason}); check the name.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(path, f"{path} can't be read ({reason}); check the file and its permissions.") from error


def _read_whole(path: Path, size: int) -> bytes:
    """Return the content of a regular file of about `size` bytes, by as few calls as small files need."""
    if size > _MAX_SMALL_BYTES:
        return path.read_bytes()
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        parts = [os.read(fd, size + 1)]
        while (
            parts[-1] and len(parts[0]) != size
        ):  # it has changed since, or a network file system gives less at a time
            parts.append(os.read(fd, _MAX_SMALL_BYTES))
        return b"".join(parts)
    finally:
        os.close(fd)


def _empty_file_error(path: InputFile) -> FileError:
    return FileError(str(path), f"{path} is empty (0 bytes), damaged or not an image; copy it again from its source.")


def read_magic(path: InputFile, expected: str, n_bytes: int = 8) -> bytes:
    """Return a file's first `n_bytes` bytes.

    Args:
        path: the file.
        expected: what to give instead where there is no such file, such as ``an .npz file``.
        n_bytes: how many; fewer come where the file is shorter.

    Raises:
        FileError: the file is missing, unreadable or empty. A missing file's message suggests a similar name beside it.
    """
    if isinstance(path, InMemoryFile):
        magic = path.data[:n_bytes]
    else:
        try:
            mode = os.stat(path).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe would be waited for
                raise FileError(path, f"{path} is a device or a pipe, not a file; copy its content to a file.")
            with path.open("rb") as file:
                magic = file.read(n_bytes)
        except (FileNotFoundError, NotADirectoryError) as error:
            suggestion = did_you_mean(path.name, sibling_names(path))
            raise FileError(path, f"{path} does not exist; give the path of {expected}.{suggestion}") from error
        except OSError as error:
            if os.path.isdir(path):
                if folder_kind := folder_format(path):
                    raise FileError(path, folder_kind.message(path)) from error
                raise FileError(path, f"{path} is a folder; give the path of {expected}.") from error
            raise FileError(path, f"{path} can't be read ({error.strerror}); check its permissions.") from error
    if not magic:
        raise FileError(str(path), f"{path} is empty (0 bytes); download or copy it again.")
    return magic


def sibling_names(path: Path) -> list[str]:
    """Return the names in a path's folder, of which one may be meant; none where the folder can't be listed."""
    try:
        return os.listdir(path.parent)
    except OSError:
        return []


_MAX_KINDS_IN_NOTE = 8
"""Number of kinds of skipped files that a note lists."""


def file_kind(name: str) -> str:
    """Return what a note calls a skipped file: ``hidden``, its suffix, or ``without a suffix``."""
    suffix = Path(name).suffix.lower()
    if name.startswith("."):
        return "hidden"
    return suffix if suffix[1:].isalnum() and len(suffix) <= 10 else "without a suffix"


def count_text(skipped: Counter[str]) -> str:
    """Return the most common kinds of skipped files with their counts, such as ``30 .bmp, 2 hidden (32 in all)``."""
    common = skipped.most_common(_MAX_KINDS_IN_NOTE)
    n_other = skipped.total() - sum(count for _, count in common)
    kinds = [f"{count:,} {kind}" for kind, count in common] + ([f"{n_other:,} of other kinds"] if n_other else [])
    return ", ".join(kinds) + (f" ({skipped.total():,} in all)" if len(kinds) > 1 else "")


class NpyHeader(NamedTuple):
    """The header of a .npy array."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]


_HEADER_LOCK = threading.Lock()
"""numpy parses a header as Python, and CPython 3.11's parser counts its depth for all threads at once: SystemError."""


def read_npy_header(file: IO[bytes], name: object) -> NpyHeader:
    """Read the header of a .npy array and leave `file` at the array's first element.

    Args:
        file: open at the array's first byte.
        name: names the array at the beginning of an error's message.

    Raises:
        FileError: the array holds pickled Python objects.
        ValueError: the bytes are not those of a .npy header; numpy raises several other exceptions for damaged headers.
    """
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    length = file.read(2 if version == (1, 0) else 4)
    if (n_bytes := int.from_bytes(length, "little")) > _MAX_NPY_HEADER_BYTES:  # numpy would read all of it first
        raise ValueError(f"a header of {n_bytes:,} bytes")
    data = io.BytesIO(length + file.read(n_bytes))
    with _HEADER_LOCK:
        header = NpyHeader(*read_header(data))
    if header.dtype.hasobject and str(name).endswith("_seg.npy"):
        raise FileError(
            str(name),
            f"{name} holds pickled Python objects, which are never opened, as cellpose's own files do; save its masks as TIFF "
            "(in cellpose: File, Save masks as PNG/tif; or `cellpose.io.save_masks(..., tif=True)`).",
        )
    if header.dtype.hasobject:
        raise FileError(
            str(name), f"{name} holds pickled Python objects, which are never opened; save it as numbers or text."
        )
    return header
