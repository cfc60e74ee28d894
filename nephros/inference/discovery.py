"""From the words of a user to what is read one after the other: files, arrays of cells, and what can't be read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from nephros.data.image_decoding import SUFFIXES
from nephros.data.in_memory_file import Held
from nephros.data.npz_stream import CellArray, Unread, open_arrays
from nephros.errors import UserError

Source = Path | Held | CellArray | Unread
_NAMED = 8
"""Kinds of files that a note names."""


class Sources:
    """What is to be read, in the order named, a folder's files in sorted order."""

    def __init__(self, named: Iterable[str | Path | Held]) -> None:
        self.passed: Counter[str] = Counter()
        """Kind, such as .csv -> how many of them lie in the folders named and are not read."""
        self._entered: set[tuple[int, int]] = set()
        self.found: list[Source] = []
        for path in named:
            self.found += self._of(path if isinstance(path, Held) else Path(path).expanduser())

    def note(self) -> str:
        """Return in one sentence what was passed over in folders, or nothing."""
        if not self.passed:
            return ""
        kinds = [f"{count:,} {kind}" for kind, count in self.passed.most_common(_NAMED)]
        rest = self.passed.total() - sum(count for _, count in self.passed.most_common(_NAMED))
        kinds += [f"{rest:,} of other kinds"] if rest else []
        return (
            f"passed over in the folders named, where PNG, TIFF, JPEG and npz files are read: {', '.join(kinds)} "
            f"({self.passed.total():,} in all)"
        )

    def _of(self, path: Path | Held) -> Iterator[Source]:
        """Yield the files of a folder, the arrays of an npz, the file itself, or the path and what is wrong with it."""
        try:
            if isinstance(path, Path) and path.is_dir():
                yield from self._in(path)
            elif path.suffix.lower() == ".npz" and (isinstance(path, Held) or path.is_file() or not path.exists()):
                yield from open_arrays(path)
            else:
                yield path
        except UserError as error:
            yield Unread(path, str(error))
        except (OSError, ValueError) as error:
            yield Unread(path, _why(path, error))

    def _in(self, root: Path) -> Iterator[Source]:
        """Yield what a folder holds, and nothing of those that were entered before, to which links lead back."""
        locked: list[OSError] = []
        empty, before = True, self.passed.copy()
        self._entered.clear()  # a folder that is named twice is read twice
        for folder, folders, files in os.walk(root, onerror=locked.append, followlinks=True):
            empty = empty and not locked
            yield from _told(locked)
            try:
                new = self._is_new(folder)
            except OSError as error:  # it has gone since it was listed
                locked.append(error)
                folders.clear()
                continue
            if not new:
                folders.clear()
                self.passed["by links to folders already read"] += 1
                continue
            hidden = [name for name in folders if name.startswith((".", "__MACOSX"))]
            folders[:] = sorted(set(folders) - set(hidden))
            self.passed.update(["hidden"] * len(hidden))
            for name in sorted(files):
                if name.startswith(".") or Path(name).suffix.lower() not in {*SUFFIXES, ".npz"}:
                    self.passed[_kind(name)] += 1
                    continue
                empty = False
                yield from self._of(Path(folder, name))
        empty = empty and not locked
        yield from _told(locked)
        if empty:
            only = ", ".join(f"{count:,} {kind}" for kind, count in (self.passed - before).most_common(_NAMED))
            held = f", but {only}" if only else ""
            yield Unread(root, f"{root} holds no PNG, TIFF or JPEG pictures and no npz{held}; name another folder.")

    def _is_new(self, folder: str) -> bool:
        about = os.stat(folder)
        before = len(self._entered)
        self._entered.add((about.st_dev, about.st_ino))
        return len(self._entered) > before


def _told(locked: list[OSError]) -> Iterator[Unread]:
    """Yield the folders that could not be entered since the last time."""
    for error in locked:
        path = Path(os.fsdecode(error.filename))
        yield Unread(path, _why(path, error))
    locked.clear()


def _why(path: Path | Held, error: OSError | ValueError) -> str:
    return f"{path} can't be read ({getattr(error, 'strerror', None) or error}); check its permissions."


def _kind(name: str) -> str:
    """Return what a note calls a file: its suffix, where that is one."""
    suffix = Path(name).suffix.lower()
    if name.startswith("."):
        return "hidden"
    return suffix if suffix[1:].isalnum() and len(suffix) <= 10 else "without a suffix"
