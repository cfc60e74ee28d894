"""Where the checkpoints of a study lie: a folder, or any place that fsspec reaches, such as s3://bucket/study."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import fsspec

from nephros.errors import UserError
from nephros.files import atomic
from nephros.training import checkpoint


class Store:
    """Checkpoints by name; each is there whole or not at all, whoever is killed while writing it."""

    def __init__(self, root: str) -> None:
        """Take a folder's path or a URL; UserError when its kind of place needs a package that is missing."""
        self.root = root.rstrip("/")
        local = "://" not in root
        try:
            self._files, self._path = fsspec.core.url_to_fs(str(Path(root).absolute()) if local else self.root)
        except (ImportError, ValueError) as error:
            raise UserError(f"--checkpoints {root} can't be used ({error}): name a folder or another URL.") from None
        self._folder = Path(self._path) if "file" in self._files.protocol else None

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a state in place of an earlier one of that name."""
        packed = checkpoint.pack(state)
        if self._folder is not None:
            with atomic(self._folder / name) as file:
                file.write(packed)
            return
        # Object stores put an object whole or not at all; elsewhere the move makes it so.
        temporary = self._at(f".{name}.{uuid.uuid4().hex}.tmp")
        self._files.makedirs(self._path, exist_ok=True)
        self._files.pipe_file(temporary, packed)
        self._files.mv(temporary, self._at(name))

    def load(self, name: str) -> dict[str, Any] | None:
        """Return a state, or None when there is none of that name, or a damaged one, which can be trained again."""
        try:
            return checkpoint.unpack(self._files.cat_file(self._at(name)), f"{self.root}/{name}")
        except (FileNotFoundError, UserError):
            return None

    def copy(self, name: str, other: str) -> None:
        """Copy a checkpoint to another name; nothing happens when it is missing."""
        if self._folder is not None:
            if (self._folder / name).exists():
                with open(self._folder / name, "rb") as source, atomic(self._folder / other) as target:
                    shutil.copyfileobj(source, target)
        elif self._files.exists(self._at(name)):
            self._files.copy(self._at(name), self._at(other))

    def delete(self, name: str) -> None:
        """Remove a checkpoint, if it is there."""
        if self._files.exists(self._at(name)):
            self._files.rm_file(self._at(name))

    def names(self) -> list[str]:
        """Return the names of all checkpoints."""
        if not self._files.exists(self._path):
            return []
        found = (str(path).rsplit("/", 1)[-1] for path in self._files.ls(self._path, detail=False, refresh=True))
        return sorted(name for name in found if name.endswith(".pt") and not name.startswith("."))

    def clean(self) -> None:
        """Remove what killed processes left half-written."""
        if self._files.exists(self._path):
            for path in self._files.ls(self._path, detail=False, refresh=True):
                if str(path).endswith(".tmp"):
                    self._files.rm_file(path)

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"


def checkpoint_name(bracket: int, index: int) -> str:
    """Return the name of a configuration's checkpoint."""
    return f"{bracket}-{index}.pt"


def best_name(bracket: int, index: int, epochs: int) -> str:
    """Return the name of the copy that is kept of the best configuration as it was after `epochs`."""
    return f"best-{bracket}-{index}-{epochs}.pt"
