"""A folder of results, replaced as a whole: written under a temporary name beside it, then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nephros.errors import FileError, InvalidArgument
from nephros.files import file_digest, sync_folder
from nephros.reading import MAX_JSON_BYTES, MalformedContent, file_errors, parse_json, read_text

FORMAT = "nephros-cells-1"
"""Value of ``format`` in the file cells.json of such a folder."""
DIGESTS = "sha256"
"""Key in it of the SHA-256 of each other file in the folder."""
FILES = frozenset({
    "cells.csv", "cells.parquet", "cells.geojson", "cells_by_slice.geojson", "cells.json", "classes.ome.tif", "mask.ome.tif",
    "projection.ome.tif", "overlay.png", "overlay.html",
})  # fmt: skip
_SYSTEM_FILES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


def check_result_folder(folder: Path) -> None:
    """Check that a folder can be written or replaced.

    Raises:
        InvalidArgument: it is a file, or has other files than those of FILES and of its subfolders per stack.
        FileError: one of its files was changed since it was written, such as a mask that was corrected by hand.
    """
    expected = "a new or empty folder, or one with such results, which are replaced"
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InvalidArgument("out", folder, expected)
    if folder == Path(folder.anchor) or folder == Path.cwd():
        raise InvalidArgument("out", folder, "the name of a new folder")
    if folder.exists() and (foreign := _foreign_names(folder)):
        raise InvalidArgument("out", folder, expected, hint=f"It has other files, such as {foreign[0]}.")
    if folder.exists() and (changed := next(_changed_files(folder), None)):
        raise FileError(
            changed,
            f"{changed} was changed since it was written, and would be replaced; move it to another place, or choose another "
            "folder for `out`.",
        )


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder, by which `check_result_folder` knows what was changed since."""
    return {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.is_file()}


def read_description(folder: Path) -> dict[str, Any]:
    """Return the content of the file cells.json of a folder of results.

    Raises:
        FileError: there is none, or it has another format.
    """
    path = folder / "cells.json"
    with file_errors(path, "name a folder that `nephros.save_cells` wrote"):
        description = parse_json(read_text(path, MAX_JSON_BYTES))
        if not isinstance(description, dict) or description.get("format") != FORMAT:
            raise MalformedContent(f"its format is not {FORMAT}")
    return description


def _foreign_names(folder: Path) -> list[str]:
    """Return what a folder has beside such results; everything, where it is none."""
    names = sorted(set(os.listdir(folder)) - _SYSTEM_FILES)
    if not names:
        return []
    try:
        stacks = read_description(folder).get("stacks")
    except FileError:
        return names
    subfolders = [name for name in names if isinstance(stacks, list) and name in stacks and (folder / name).is_dir()]
    foreign = [name for name in names if name not in FILES and name not in subfolders]
    return foreign + [f"{name}/{inner}" for name in subfolders for inner in _foreign_names(folder / name)]


def _changed_files(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder of results that are not as they were written."""
    try:
        description = read_description(folder)
    except FileError:  # it is empty
        return
    digests = description.get(DIGESTS)
    if isinstance(digests, dict):  # folders of earlier builds have none
        for name in sorted(FILES - {"cells.json"}):
            path = folder / name
            if path.is_file() and file_digest(path) != digests.get(name):
                yield path
    stacks = description.get("stacks")
    for name in sorted(os.listdir(folder)):
        if isinstance(stacks, list) and name in stacks and (folder / name).is_dir():
            yield from _changed_files(folder / name)


@contextlib.contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside `folder`, which takes its place at the end of the block; an exception leaves all as it was.

    Raises:
        FileError: nothing can be written there.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise FileError(
            folder, f"{folder} can't be written ({error.strerror}); choose another folder for `out`."
        ) from error
    try:
        new, old = scratch / "new", scratch / "old"
        new.mkdir()
        yield new
        try:
            if folder.exists():
                os.rename(folder, old)
            os.rename(new, folder)
        except BaseException:  # also Ctrl-C, since `scratch`, which holds the old folder, is removed below
            if old.exists() and not folder.exists():
                os.rename(old, folder)
            raise
        sync_folder(folder.parent)
    except OSError as error:
        raise FileError(
            folder, f"{folder} can't be written ({error.strerror or error}); free some space, or choose another."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
