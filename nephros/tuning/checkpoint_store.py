"""A study's checkpoints, in a folder or anywhere that fsspec reaches, such as s3://bucket/study."""

from __future__ import annotations

import contextlib
import errno
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

from nephros.errors import InvalidArgument, NephrosError
from nephros.files import atomic_write
from nephros.training import checkpoint


class CheckpointStore:
    """Checkpoints by name; writes are atomic, even when a process is killed in the middle of one."""

    def __init__(self, root: str) -> None:
        """Take a folder's path or an fsspec URL; InvalidArgument when its protocol is unknown or needs a missing package."""
        self.root = root.rstrip("/")
        local = "://" not in root
        try:
            self._filesystem, self._path = fsspec.core.url_to_fs(str(Path(root).absolute()) if local else self.root)
        except (ImportError, ValueError) as error:
            raise InvalidArgument(
                "checkpoint_dir", root, "a folder or a URL that fsspec opens", hint=f"Opening it failed: {error}."
            ) from None
        self._folder = Path(self._path) if "file" in self._filesystem.protocol else None

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a state, replacing an earlier one of that name; OSError when it can't be written."""
        packed = checkpoint.to_bytes(state)
        if self._folder is not None:
            with atomic_write(self._folder / name) as file:
                file.write(packed)
            return
        # Object stores write atomically; elsewhere the move does.
        temporary = self._full_path(f".{name}.{uuid.uuid4().hex}.tmp")
        with self._errors_as_oserror():
            self._filesystem.makedirs(self._path, exist_ok=True)
            self._filesystem.pipe_file(temporary, packed)
            self._filesystem.mv(temporary, self._full_path(name))

    def load(self, name: str) -> dict[str, Any] | None:
        """Return a state; None when it is missing or damaged, as it can be trained again."""
        try:
            with self._errors_as_oserror():
                packed = self._filesystem.cat_file(self._full_path(name))
            return checkpoint.from_bytes(packed, f"{self.root}/{name}")
        except (FileNotFoundError, NephrosError):
            return None

    # Nothing below checks whether a file exists: an object store may answer from a cache older than another process's write.

    def copy(self, name: str, new_name: str) -> None:
        """Copy a checkpoint to another name; do nothing when it is missing."""
        with contextlib.suppress(FileNotFoundError), self._errors_as_oserror():
            if self._folder is not None:
                with open(self._folder / name, "rb") as source, atomic_write(self._folder / new_name) as target:
                    shutil.copyfileobj(source, target)
            else:
                self._filesystem.cp_file(self._full_path(name), self._full_path(new_name))

    def delete(self, name: str) -> None:
        """Remove a checkpoint; do nothing when it is missing."""
        with contextlib.suppress(FileNotFoundError), self._errors_as_oserror():
            self._filesystem.rm_file(self._full_path(name))

    def names(self) -> list[str]:
        """Return the names of all checkpoints."""
        names = (path.rsplit("/", 1)[-1] for path in self._list_paths())
        return sorted(name for name in names if name.endswith(".pt") and not name.startswith("."))

    def remove_temporary_files(self) -> None:
        """Remove files that killed processes left half-written."""
        for path in self._list_paths():
            if path.endswith(".tmp"):
                with contextlib.suppress(FileNotFoundError), self._errors_as_oserror():
                    self._filesystem.rm_file(path)

    def _list_paths(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError), self._errors_as_oserror():
            return [str(path) for path in self._filesystem.ls(self._path, detail=False, refresh=True)]
        return []

    @contextlib.contextmanager
    def _errors_as_oserror(self) -> Iterator[None]:
        """Turn a remote filesystem's own errors into OSError, so that no configuration is blamed for them."""
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            raise OSError(errno.EIO, f"{type(error).__name__}: {error}", self.root) from error

    def _full_path(self, name: str) -> str:
        return f"{self._path}/{name}"


def checkpoint_name(bracket: int, index: int) -> str:
    """Return the name of a configuration's checkpoint."""
    return f"{bracket}-{index}.pt"


def best_checkpoint_name(bracket: int, index: int, epochs: int) -> str:
    """Return the name of the copy of the best configuration's checkpoint after `epochs`."""
    return f"best-{bracket}-{index}-{epochs}.pt"
