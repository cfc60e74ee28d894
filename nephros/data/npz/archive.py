"""An npz file as the zip archive that it is: its list of arrays, its compressions and its headers, each of bounded cost."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from typing import IO, Any, cast

import numpy as np

from nephros.data.images.foreign_formats import HEAD_BYTES, foreign_format
from nephros.data.input_files import NPY_MAGIC, TIFF_MAGIC, InMemoryFile, InputFile, read_magic, read_npy_header
from nephros.errors import FileError, NephrosError

MAX_DIRECTORY_BYTES = 1 << 20
"""Length of the list of an archive's members, in bytes."""
EXPECTED_LAYOUT = "a MedMNIST file holds train_, val_ and test_ images and labels"
_MAX_COMPRESSION_RATIO, _MIN_BOMB_BYTES = 200, 256 << 20


@contextlib.contextmanager
def open_archive(path: InputFile) -> Iterator[zipfile.ZipFile]:
    """Open an npz file as the zip archive that it is.

    Raises:
        FileError: the file is missing, unreadable, damaged or of another kind, or has too many members.
    """
    magic = read_magic(path, "an .npz file or of a folder of images", HEAD_BYTES)
    if magic.startswith(NPY_MAGIC):
        raise FileError(str(path), f"{path} is a single .npy array, not an .npz file; {EXPECTED_LAYOUT}.")
    if not magic.startswith(b"PK"):
        if file_format := foreign_format(magic, path):
            raise FileError(str(path), file_format.message(path))
        stacks = ""
        if magic[:4] in TIFF_MAGIC:
            stacks = (
                " If it is a stack, `nephros.prepare(STACK, out='cells.npz')` makes an .npz file of its nuclei, and "
                "`nephros.finetune(STACK, mask=MASK, classes=TABLE)` learns their classes from a table."
            )
        raise FileError(str(path), f"{path} is not an .npz file; {EXPECTED_LAYOUT}.{stacks}")
    if path.suffix.lower() == ".xlsx" and (file_format := foreign_format(magic, path)):
        raise FileError(str(path), file_format.message(path))
    with contextlib.ExitStack() as files:
        with translate_read_errors(path):
            file = files.enter_context(path.open() if isinstance(path, InMemoryFile) else path.open("rb"))
            directory_guard = _DirectoryGuard(path, cast(IO[bytes], file))
            archive = files.enter_context(zipfile.ZipFile(cast(IO[bytes], directory_guard)))
            directory_guard.is_open = True
        yield archive


class _DirectoryGuard:
    """The file of an archive that is being opened: zipfile reads the list of its members at once, and makes an object of each.

    The number of members that the archive states is not what zipfile goes by, so the length of that read is checked.
    """

    def __init__(self, path: InputFile, file: IO[bytes]) -> None:
        self._path, self._file, self.is_open = path, file, False

    def read(self, size: int = -1) -> bytes:
        """Read as a file does; raise FileError where a list of members is too long."""
        if size > MAX_DIRECTORY_BYTES and not self.is_open:
            raise FileError(
                str(self._path),
                f"{self._path} lists its arrays in {size:,} bytes, and at most {MAX_DIRECTORY_BYTES:,} are read, the names of "
                "about 10,000 arrays; put all images into one array.",
            )
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextlib.contextmanager
def translate_read_errors(path: InputFile, array_name: str = "") -> Iterator[None]:
    """Turn whatever zipfile, its decompressors or numpy's header reader raise for missing or changed bytes into a FileError."""
    try:
        yield
    except NephrosError:
        raise
    except Exception as error:  # the header reader parses Python: tokenize, ast and numpy's dtypes raise what they like
        location = f" ({array_name} can't be read)" if array_name else ""
        raise FileError(str(path), f"{path} is damaged or cut short{location}; download or copy it again.") from error


def read_member_header(
    path: InputFile, archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and dtype of an array in an npz file, decompressing only its header.

    Raises:
        FileError: the header is damaged, promises more or less than the member holds, or announces Python objects; or the
            member would unpack to far more than it is, as a zip bomb does, or is compressed in a way that numpy never uses.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # Python's decompressors of the other methods return gigabytes for a few bytes.
        method = {zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "lzma"}.get(member.compress_type, "another method")
        raise FileError(str(path), f"{path}: {name} is compressed with {method}; save it with numpy.savez_compressed.")
    if member.file_size > _MIN_BOMB_BYTES and member.file_size > _MAX_COMPRESSION_RATIO * max(member.compress_size, 1):
        raise FileError(
            str(path),
            f"{path}: {name} would unpack to {member.file_size / 1e9:.1f} GB, more than {_MAX_COMPRESSION_RATIO} times its "
            "compressed size, as a zip bomb does; save it again with fewer blank images.",
        )
    with translate_read_errors(path, name), archive.open(member) as file:
        header = read_npy_header(file, f"{path}: {name}")
        expected_bytes = file.tell() + header.dtype.itemsize * int(np.prod(header.shape, dtype=object))
        if expected_bytes != member.file_size:
            raise EOFError(f"{member.file_size} bytes, not {expected_bytes}")
    return header.shape, header.dtype
