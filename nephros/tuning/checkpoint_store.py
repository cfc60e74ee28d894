"""Where the checkpoints of a study lie: a folder, or any place that fsspec reaches, such as s3://bucket/study."""

from __future__ import annotations

import contextlib
import errno
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

from nephros.errors import NephrosError
from nephros.files import atomic_write
from nephros.training import checkpoint


class CheckpointStore:
    """Checkpoints by name; each is there whole or not at all, whoever is killed while writing it."""

    def __init__(self, root: str) -> None:
        """Take a folder's path or a URL; UserError when its kind of place needs a package that is missing."""
        self.root = root.rstrip("/")
        local = "://" not in root
        try:
            self._filesystem, self._path = fsspec.core.url_to_fs(str(Path(root).absolute()) if local else self.root)
        except (ImportError, ValueError) as error:
            raise NephrosError(f"--checkpoints {root} can't be used ({error}): name a folder or another URL.") from None
        self._folder = Path(self._path) if "file" in self._filesystem.protocol else None

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a state in place of an earlier one of that name; OSError when the place does not take it."""
        packed = checkpoint.to_bytes(state)
        if self._folder is not None:
            with atomic_write(self._folder / name) as file:
                file.write(packed)
            return
        # Object stores put an object whole or not at all; elsewhere the move makes it so.
        temporary = self._full_path(f".{name}.{uuid.uuid4().hex}.tmp")
        with self._errors_as_oserror():
            self._filesystem.makedirs(self._path, exist_ok=True)
            self._filesystem.pipe_file(temporary, packed)
            self._filesystem.mv(temporary, self._full_path(name))

    def load(self, name: str) -> dict[str, Any] | None:
        """Return a state, or None when there is none of that name, or a damaged one, which can be trained again."""
        try:
            with self._errors_as_oserror():
                packed = self._filesystem.cat_file(self._full_path(name))
            return checkpoint.from_bytes(packed, f"{self.root}/{name}")
        except (FileNotFoundError, NephrosError):
            return None

    # Nothing below asks whether a file is there: an object store may answer from memory, before another process wrote it.

    def copy(self, name: str, new_name: str) -> None:
        """Copy a checkpoint to another name; nothing happens when it is missing."""
        with contextlib.suppress(FileNotFoundError), self._errors_as_oserror():
            if self._folder is not None:
                with open(self._folder / name, "rb") as source, atomic_write(self._folder / new_name) as target:
                    shutil.copyfileobj(source, target)
            else:
                self._filesystem.cp_file(self._full_path(name), self._full_path(new_name))

    def delete(self, name: str) -> None:
        """Remove a checkpoint, if it is there."""
        with contextlib.suppress(FileNotFoundError), self._errors_as_oserror():
            self._filesystem.rm_file(self._full_path(name))

    def names(self) -> list[str]:
        """Return the names of all checkpoints."""
        names = (path.rsplit("/", 1)[-1] for path in self._list_paths())
        return sorted(name for name in names if name.endswith(".pt") and not name.startswith("."))

    def remove_temporary_files(self) -> None:
        """Remove what killed processes left half-written."""
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
        """Turn a remote place's own errors into OSError, so that they are not taken for a configuration's."""
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
    """Return the name of the copy that is kept of the best configuration as it was after `epochs`."""
    return f"best-{bracket}-{index}-{epochs}.pt"
