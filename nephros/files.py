"""Atomic files (written under a temporary name, then renamed), lock files and digests."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from nephros.errors import FileError, InvalidArgument

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
    msvcrt: Any = importlib.import_module("msvcrt")

_UMASK = os.umask(0o077)
"""Of the process at its start: to read it is to set it, for all threads."""
os.umask(_UMASK)


@contextlib.contextmanager
def atomic_write(path: Path | str, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; at the end of the block, flush it to disk and rename it to `path`.

    An exception, such as a full disk, removes the temporary file and leaves an existing `path` unchanged. Text is UTF-8, with the
    ends of lines as they are given, so that its digest is the same on every system; halves of surrogate pairs, which stand for
    bytes of file names that are not text, are written as escapes such as ``\\udce9``.
    """
    path = Path(path)
    _make_folder(path.parent)
    try:
        fd, temp_path = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        error.filename = str(path)  # nobody knows the temporary name
        raise
    try:
        encoding, errors, newline = (None, None, None) if "b" in mode else ("utf-8", "backslashreplace", "")
        with os.fdopen(fd, mode, encoding=encoding, errors=errors, newline=newline) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temp_path, 0o666 & ~_UMASK)
        replace_file(temp_path, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp_path)
        raise


def absolute_path(path: Path | str) -> Path:
    """Return the absolute path of a file or folder without ``..``, for which the links of the folders before it are followed."""
    absolute = Path(path).expanduser().absolute()
    if ".." not in absolute.parts:
        return absolute
    if absolute.name == "..":
        return Path(os.path.realpath(absolute))
    return Path(os.path.realpath(absolute.parent), absolute.name)


def check_writable(path: Path, parameter: str = "out") -> None:
    """Raise InvalidArgument where a path, which need not exist, can't be written: before long work rather than after it."""
    folder = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidArgument(parameter, path, "in a folder that you can write to", hint=f"{folder} can't be written.")


def replace_file(source: Path | str, target: Path | str) -> None:
    """Rename a file, which replaces `target`, so that the new name survives a power failure."""
    os.replace(source, target)
    sync_folder(Path(target).parent)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk, without which a power failure may undo a rename; does nothing on Windows."""
    with contextlib.suppress(OSError):  # Windows opens no folders, and some network file systems can't flush them
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _make_folder(folder: Path) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def remove_temporary_files(root: Path) -> None:
    """Remove the temporary files that killed processes left below `root`; the caller must hold its lock."""
    for path in root.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def file_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on the file `path` within the block. The file stays, since removing it would be a race.

    Without `wait`, raises BlockingIOError if it is locked already. Does nothing on file systems without locks.
    """
    with open(path, "ab") as file:  # "wb" would empty it, which Windows may refuse where another process has locked it
        try:
            _lock(file, wait)
        except BlockingIOError:
            raise
        except OSError:  # some cluster file systems have no locks
            pass
        try:
            yield
        finally:
            _unlock(file)


def _lock(file: IO[bytes], wait: bool) -> None:
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        return
    while True:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            return
        except PermissionError as error:  # it is locked already
            if not wait:
                raise BlockingIOError(*error.args) from None
        time.sleep(0.1)


def _unlock(file: IO[bytes]) -> None:
    """Release the lock of a file that is about to be closed, which releases it, but on Windows only some time later."""
    if fcntl is None:
        with contextlib.suppress(OSError):  # there was no lock
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8, all or nothing."""
    with atomic_write(path, "w") as file:
        file.write(text)


def write_json(path: Path | str, value: object) -> None:
    """Write `value` as indented JSON, all or nothing; NaN and infinities, which JSON lacks, become null."""
    write_text(path, json.dumps(replace_nonfinite(value), indent=2, ensure_ascii=False) + "\n")


def replace_nonfinite(value: Any) -> Any:
    """Return `value` with every NaN and infinity inside it replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: replace_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nonfinite(item) for item in value]
    return value


def record_sha256(path: Path, sha256: str) -> None:
    """Keep a file's SHA-256 beside it, as ``sha256sum --check`` reads it; `checked_sha256` compares the file with it."""
    write_text(_digest_file(path), f"{sha256}  {path.name}\n")


def checked_sha256(path: Path) -> str:
    """Return a file's SHA-256; FileError where `record_sha256` has kept another one."""
    sha256, record = file_digest(path), _digest_file(path)
    if record.is_file() and record.read_bytes().split()[:1] != [sha256.encode()]:
        raise FileError(
            path,
            f"{path} has changed since it was downloaded: its SHA-256 is not the one in {record}. Download it again, or remove "
            "that file if the change is yours.",
        )
    return sha256


def _digest_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256")


def file_digest(path: Path | str, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
