"""The files of a Zarr store by their keys: in a folder, in a zip archive or behind a URL; nothing outside of it is read."""

from __future__ import annotations

import json
import os
import re
import stat
import zipfile
from pathlib import Path
from typing import Any, Protocol

from nephros.errors import FileError, require_extra
from nephros.microscopy.location import StackLocation, StackUrl
from nephros.reading import check_is_file, describe_failure

ZIP_MAGIC = b"PK"
"""First bytes of a zip archive."""
METADATA_NAMES = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
"""Files that say what a folder of a store holds."""
_MAX_METADATA_BYTES = 16 << 20
MAX_CHUNK_FILE_BYTES = 1 << 30
"""Largest file, or part of one, that is read at once."""
URL_TIMEOUT_S = 30.0
"""Seconds that a server may take to connect, or between two parts of its response."""
_MAX_URL_SECONDS = 100.0
"""Seconds for the whole of one request."""
_MAX_NAME_BYTES = 1 << 10
_MAX_ZIP_MEMBERS = 2_000_000
_KEY = re.compile(r"[^/\\\0]+(?:/[^/\\\0]+)*")

ByteRange = tuple[int, int | None]
"""First byte, from the end if negative, and number of bytes; None reads to the end."""


class ZarrFiles(Protocol):
    """The files of a store."""

    location: StackLocation
    is_remote: bool
    """Whether each file costs a request."""
    is_forbidden: bool
    """Whether a server has refused a file."""

    def read(self, key: str, byte_range: ByteRange = (0, None)) -> bytes | None:
        """Return the bytes of a file, or None where there is none.

        Raises:
            FileError: it leads out of the store, is not a regular file or too large, or can't be read.
        """

    def exists(self, key: str) -> bool:
        """Return whether there is such a file."""


def open_zarr_files(location: StackLocation, url_timeout_s: float = URL_TIMEOUT_S) -> ZarrFiles:
    """Return the files of a store; nothing is read yet, except a zip archive's table.

    Raises:
        FileError: a zip archive can't be read.
        MissingDependency: a URL needs the extra `formats`.
    """
    if isinstance(location, StackUrl):
        return _UrlFiles(location, url_timeout_s)
    return _FolderFiles(location) if location.is_dir() else _ZipFiles(location)


def is_zarr_folder(path: Path) -> bool:
    """Return whether a folder is a Zarr store, or a group or an array in one."""
    is_named_so = path.suffix.lower() == ".zarr" and path.is_dir()
    return is_named_so or any(os.path.isfile(path / name) for name in METADATA_NAMES)


def is_zarr_zip(path: Path) -> bool:
    """Return whether a path means a Zarr store in a zip archive, by the archive's name or its first member, or a part of one."""
    file, _ = split_archive(path)
    try:
        check_is_file(file)
        with open(file, "rb") as opened:
            head = opened.read(_MAX_NAME_BYTES)
    except (OSError, ValueError):  # whoever reads it reports what is wrong
        return False
    if not head.startswith(ZIP_MAGIC):
        return False
    member = head[30 : 30 + int.from_bytes(head[26:28], "little")]
    names = tuple(name.encode() for name in METADATA_NAMES)
    return file.name.lower().endswith((".zarr.zip", ".ozx")) or member.endswith(names)


def split_archive(path: Path) -> tuple[Path, str]:
    """Return the file and the key that a path such as ``K4.ozx/labels/nuclei`` means; no key where there is no such file."""
    file = next((parent for parent in (path, *path.parents) if parent.exists()), path)
    return (file, path.relative_to(file).as_posix()) if file != path and file.is_file() else (path, "")


def read_json(files: ZarrFiles, key: str) -> dict[str, Any] | None:
    """Return a metadata file's values, or None where there is no such file.

    Raises:
        FileError: it is not JSON, or too large.
    """
    data = files.read(key, (0, _MAX_METADATA_BYTES + 1))
    if data is None:
        return None
    try:
        if len(data) > _MAX_METADATA_BYTES:
            raise ValueError
        values = json.loads(data)
        if not isinstance(values, dict):
            raise ValueError
    except (ValueError, RecursionError) as error:
        raise FileError(
            str(files.location),
            f"{files.location} has a damaged {key}, which describes its pixels; copy the store again from its source.",
        ) from error
    return values


def join_key(*parts: str) -> str:
    """Return the key of a file in a group; groups at the top of a store are called by an empty text."""
    return "/".join(part for part in parts if part)


def is_valid_key(key: object) -> bool:
    """Return whether text can be the path of a group or an array within a store."""
    return isinstance(key, str) and bool(_KEY.fullmatch(key)) and not {".", ".."} & set(key.split("/"))


def _check_key(location: StackLocation, key: str) -> None:
    if not is_valid_key(key):
        raise FileError(
            str(location),
            f"{location} names {key[:80]!r}, which is not within the store; copy it again from its source.",
        )


class _FolderFiles:
    """A store in a folder. Links may lead to other places in it, but not out of it."""

    def __init__(self, folder: Path) -> None:
        self.location: StackLocation = folder
        self.is_remote = self.is_forbidden = False
        self._root = os.path.realpath(folder)

    def _path(self, key: str) -> str:
        _check_key(self.location, key)
        path = os.path.realpath(os.path.join(self._root, key))
        if not path.startswith(self._root + os.sep):
            raise FileError(
                str(self.location),
                f"{self.location} has a link that leads out of the store, {key}; copy the store with the files that its links "
                "lead to.",
            )
        return path

    def read(self, key: str, byte_range: ByteRange = (0, None)) -> bytes | None:
        path, (start, length) = self._path(key), byte_range
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                if stat.S_ISDIR(status.st_mode):
                    return None
                raise FileError(
                    str(self.location), f"{self.location} has {key}, which is not a regular file; copy the store again."
                )
            start = max(0, status.st_size + start) if start < 0 else start
            n_bytes = status.st_size - start if length is None else min(length, status.st_size - start)
            _check_size(self.location, key, n_bytes)
            with open(path, "rb") as file:
                file.seek(start)
                return file.read(max(0, n_bytes))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise FileError(
                str(self.location),
                f"{self.location} can't be read at {key} ({error.strerror or error}); check its permissions, or copy it again.",
            ) from error

    def exists(self, key: str) -> bool:
        return os.path.isfile(self._path(key))


def _check_size(location: StackLocation, key: str, n_bytes: int) -> None:
    if n_bytes > MAX_CHUNK_FILE_BYTES:
        raise FileError(
            str(location),
            f"{location} has chunks of {n_bytes:,} bytes ({key}), which are too large for memory; save it with smaller chunks.",
        )


class _ZipFiles:
    """A store in a zip archive, perhaps within a folder there."""

    def __init__(self, location: Path) -> None:
        self.location: StackLocation = location
        path, key = split_archive(location)
        self.is_remote = self.is_forbidden = False
        try:
            self._archive = zipfile.ZipFile(path)
            members = self._archive.infolist()
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
            raise FileError(path, f"{path} can't be read ({describe_failure(error)}): copy it again.") from error
        names = [member.filename for member in members]
        if len(names) > _MAX_ZIP_MEMBERS:
            raise FileError(path, f"{path} has {len(names):,} members; unpack it and name the folder.")
        tops = [name[: -len(last)] for name in names for last in METADATA_NAMES if f"/{name}".endswith(f"/{last}")]
        prefix = min(tops, key=len, default="")
        prefix += f"{key}/" if key else ""
        self._members = {
            member.filename[len(prefix) :]: member for member in members if member.filename.startswith(prefix)
        }

    def read(self, key: str, byte_range: ByteRange = (0, None)) -> bytes | None:
        _check_key(self.location, key)
        member, (start, length) = self._members.get(key), byte_range
        if member is None:
            return None
        start = max(0, member.file_size + start) if start < 0 else start
        n_bytes = member.file_size - start if length is None else min(length, member.file_size - start)
        _check_size(self.location, key, n_bytes)
        try:
            with self._archive.open(member) as file:
                file.seek(start)
                return file.read(max(0, n_bytes))
        except Exception as error:  # zlib and zipfile raise nearly every kind
            raise FileError(
                str(self.location), f"{self.location} is damaged at {key}; copy it again from its source."
            ) from error

    def exists(self, key: str) -> bool:
        return key in self._members


class _UrlFiles:
    """A store behind a URL, read by fsspec."""

    def __init__(self, url: StackUrl, timeout_s: float) -> None:
        self.location: StackLocation = url
        self.is_remote, self.is_forbidden = True, False
        self._timeout_s, self._is_s3 = timeout_s, url.text.startswith("s3://")
        self._is_anonymous = False
        self._system = self._open_system(is_anonymous=False)

    def _open_system(self, *, is_anonymous: bool) -> Any:
        message = "Reading URLs needs fsspec and what it reads them with: pip install 'nephros[formats]'."
        with require_extra(message, "fsspec", "aiohttp", "s3fs", "botocore", "aiobotocore"):
            import fsspec

            if self._is_s3:
                import s3fs  # noqa: F401

                limits = {
                    "connect_timeout": self._timeout_s,
                    "read_timeout": self._timeout_s,
                    "retries": {"max_attempts": 2},
                }
                system = fsspec.filesystem("s3", anon=is_anonymous, config_kwargs=limits, skip_instance_cache=True)
                system.retries = 1  # botocore's are enough: each may take the whole limit
                return system
            import aiohttp

            timeout = aiohttp.ClientTimeout(
                total=_MAX_URL_SECONDS, sock_connect=self._timeout_s, sock_read=self._timeout_s
            )
            return fsspec.filesystem("http", client_kwargs={"timeout": timeout}, skip_instance_cache=True)

    def read(self, key: str, byte_range: ByteRange = (0, None)) -> bytes | None:
        _check_key(self.location, key)
        start, length = byte_range
        limits = {"start": start, "end": None if length is None else start + length}
        if start == 0 and length is None:  # s3fs asks for the size of a whole file first, which costs another request
            limits = {"start": 0, "end": MAX_CHUNK_FILE_BYTES} if self._is_s3 else {}
        try:
            data = bytes(self._system.cat_file(f"{self.location}/{key}", **limits))
        except FileNotFoundError:
            return None
        except Exception as error:  # aiohttp, botocore and fsspec raise kinds of their own
            if not self._is_anonymous and type(error).__name__ == "NoCredentialsError":
                self._system, self._is_anonymous = self._open_system(is_anonymous=True), True
                return self.read(key, byte_range)
            if getattr(error, "status", None) in (401, 403) or isinstance(error, PermissionError):
                # S3 says so of files that don't exist to those who may not list them.
                self.is_forbidden = True
                return None
            raise FileError(str(self.location), self._failure(error)) from error
        # A server that doesn't know ranges sends the whole file.
        if start < 0 and len(data) > -start:
            return data[start:]
        return data[start:][:length] if length is not None and len(data) > length else data

    def _failure(self, error: Exception) -> str:
        if (status := getattr(error, "status", None)) is not None:
            return f"{self.location} can't be read: the server answers with the error {status}; try again later."
        if isinstance(error, TimeoutError) or "timeout" in type(error).__name__.lower():
            return (
                f"{self.location} can't be read: the server sent nothing for {self._timeout_s:g} seconds; try again later, or "
                "download the store."
            )
        return f"{self.location} can't be read ({type(error).__name__}); check the address and the connection."

    def exists(self, key: str) -> bool:
        return self.read(key, (0, 1)) is not None
