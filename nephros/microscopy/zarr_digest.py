"""The digest of a Zarr store, by which a stack is known again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from nephros.errors import FileError
from nephros.files import file_digest
from nephros.microscopy import zarr_files
from nephros.microscopy.isolated_stack import run_isolated
from nephros.microscopy.location import StackLocation, StackUrl, locate
from nephros.microscopy.ome_zarr import LABELS_GROUP
from nephros.microscopy.zarr_files import METADATA_NAMES, open_zarr_files, split_archive


def zarr_digest(location: StackLocation) -> str:
    """Return the SHA-256 of the files of a store without its label images; of a store behind a URL, of its metadata."""
    if isinstance(location, StackUrl):
        (result,) = run_isolated(location, metadata_digest_in_worker, str(location), zarr_files.URL_TIMEOUT_S)
        return str(result)
    archive, _ = split_archive(location)
    if archive.is_file():
        return file_digest(archive)
    return _folder_digest(location)


def metadata_digest_in_worker(location: str, url_timeout_s: float) -> Iterator[str]:
    """Yield the SHA-256 of the metadata at the top of a store."""
    files, digest = open_zarr_files(locate(location), url_timeout_s), hashlib.sha256(location.encode())
    for name in METADATA_NAMES:
        digest.update(files.read(name) or b"")
    yield digest.hexdigest()


def _folder_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != LABELS_GROUP)
        for name in sorted(names):
            path = Path(parent, name)
            try:
                digest.update(f"{path.relative_to(folder).as_posix()}\0{file_digest(path)}\0".encode())
            except OSError as error:
                raise FileError(path, f"{path} can't be read ({error.strerror}); check its permissions.") from error
    return digest.hexdigest()
