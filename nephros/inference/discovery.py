"""From the paths that a user names to a list of inputs: image files, arrays of cells, and what can't be read."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from os.path import splitext
from pathlib import Path

from nephros.data.companion_files import COMPANION_KIND, companion_files, companion_folders
from nephros.data.folders.image_files import is_image_name
from nephros.data.folders.voxel_table import VoxelTable, is_voxel_table, read_voxel_table
from nephros.data.images.foreign_formats import folder_format
from nephros.data.input_files import InMemoryFile, count_text, file_kind
from nephros.data.npz.stream import ImageArray, UnreadableInput, open_image_arrays
from nephros.errors import FileError, InvalidArgument, NephrosError
from nephros.microscopy.detect import slices_in_folder
from nephros.microscopy.formats.registry import FORMATS, STACK_SUFFIXES
from nephros.microscopy.location import StackUrl, locate
from nephros.microscopy.zarr_files import is_zarr_folder

logger = logging.getLogger(__name__)

_KINDS = ", ".join(["PNG", "TIFF", "JPEG", "npz", *map(str.upper, FORMATS)])
"""Files of folders that are read; stores of OME-Zarr are, too."""
InputItem = Path | StackUrl | InMemoryFile | ImageArray | VoxelTable | UnreadableInput


class InputDiscovery:
    """All inputs in the order named; the files of a folder in sorted order."""

    def __init__(self, inputs: Iterable[str | Path | InMemoryFile], *, expects_stacks: bool = False) -> None:
        """List the inputs; raise InvalidArgument for a URL that no store has.

        `expects_stacks`: whether images in a folder that may be the slices of a stack are.
        """
        self._expects_stacks = expects_stacks
        self.skipped: Counter[str] = Counter()
        """Number of skipped files in the named folders, by kind, such as ``.csv``."""
        self.notes: list[str] = []
        """What is to be known of the named folders; one sentence each."""
        self._visited_folders: set[tuple[int, int]] = set()
        self.items: list[InputItem] = []
        for path in inputs:
            if isinstance(path, InMemoryFile):
                self.items += self._expand(path)
            elif isinstance(location := locate(path, "inputs"), StackUrl):
                self.items.append(location)
            else:
                self.items += self._expand(Path(path).expanduser())

    def skipped_note(self) -> str:
        """Return which files of the named folders were skipped, as one sentence; empty if none were."""
        if not self.skipped:
            return ""
        return f"skipped in folders, where only {_KINDS} and OME-Zarr are read: {count_text(self.skipped)}"

    def _expand(self, path: Path | InMemoryFile) -> Iterator[InputItem]:
        """Yield the files of a folder, the arrays of an npz file, or the file itself; what can't be read comes with its error."""
        try:
            if isinstance(path, Path) and path.is_dir():
                if is_zarr_folder(path):
                    yield path
                elif folder_kind := folder_format(path):
                    raise FileError(path, folder_kind.message(path))
                else:
                    yield from self._walk_folder(path)
            elif path.suffix.lower() == ".npz" and (
                isinstance(path, InMemoryFile) or path.is_file() or not path.exists()
            ):
                yield from open_image_arrays(path)
            elif is_voxel_table(path):
                yield read_voxel_table(path)
            else:
                yield path
        except NephrosError as error:
            yield UnreadableInput(path, str(error))
        except (OSError, ValueError) as error:
            yield UnreadableInput(path, _read_error_message(path, error))
        except Exception as error:
            yield UnreadableInput(path, unreadable_message(path, error))

    def _walk_folder(self, root: Path) -> Iterator[InputItem]:
        """Yield the inputs in a folder and its subfolders; a folder that links lead to repeatedly is entered once."""
        errors: list[OSError] = []
        empty, skipped_before = True, self.skipped.copy()
        self._visited_folders.clear()  # a folder that is named twice is read twice
        for folder, folders, files in os.walk(root, onerror=errors.append, followlinks=True):
            empty = empty and not errors
            yield from _drain_errors(errors)
            try:
                is_first_visit = self._is_first_visit(folder)
            except OSError as error:  # it was removed after it was listed
                errors.append(error)
                folders.clear()
                continue
            if not is_first_visit:
                folders.clear()
                self.skipped["by links to folders already read"] += 1
                continue
            hidden = [name for name in folders if name.startswith((".", "__MACOSX"))]
            foreign = [name for name in folders if name not in hidden and folder_format(Path(folder, name))]
            images = list(filter(is_image_name, files))
            stores = [name for name in foreign if is_zarr_folder(Path(folder, name))]
            stacks = [name for name in set(files).difference(images) if _suffix(name) in STACK_SUFFIXES] + stores
            companions = companion_files([*images, *stacks])
            masks = companion_folders(folders, bool(images or stacks))
            n_companions = len(companions) + sum(_n_files(Path(folder, name)) for name in masks)
            self.skipped.update([COMPANION_KIND] * n_companions)
            files = sorted(set(files) - companions)
            folders[:] = sorted(set(folders) - set(hidden) - set(foreign) - masks)
            self.skipped.update(["hidden"] * len(hidden))
            self.skipped.update(f"{Path(name).suffix or name} folder" for name in foreign if name not in stores)
            stores = [name for name in stores if name not in companions]
            empty = empty and not stores
            yield from (Path(folder, name) for name in sorted(stores))
            parent, image_names = Path(folder), set(images)
            slices = slices_in_folder(
                parent, [name for name in files if name in image_names], expects_stack=self._expects_stacks
            )
            if slices == "unclear":
                self.notes.append(
                    f"{folder} has images whose names or sizes are like those of slices, and each is taken for one cell; if they "
                    f"are one stack, set `voxel_size`, or cut its nuclei out by `nephros.prepare({folder!r}, out='cells.npz')`"
                )
            if slices == "yes":
                empty = False
                yield parent
                self.skipped.update(file_kind(name) for name in files if name not in image_names)
                continue
            for name in files:
                if name in image_names:
                    empty = False
                    yield parent / name
                    continue
                suffix = _suffix(name)
                if suffix in STACK_SUFFIXES:
                    empty = False
                    yield parent / name
                elif suffix == ".npz":
                    empty = False
                    yield from self._expand(Path(folder, name))
                else:
                    self.skipped[file_kind(name)] += 1
        empty = empty and not errors
        yield from _drain_errors(errors)
        if empty:
            yield UnreadableInput(root, _empty_folder_message(root, self.skipped - skipped_before))

    def _is_first_visit(self, folder: str) -> bool:
        stat = os.stat(folder)
        n_visited = len(self._visited_folders)
        self._visited_folders.add((stat.st_dev, stat.st_ino))
        return len(self._visited_folders) > n_visited


def _suffix(name: str) -> str:
    """Return a file's suffix in lower case; empty for a hidden file."""
    return "" if name.startswith(".") else splitext(name)[1].lower()


def _n_files(folder: Path) -> int:
    try:
        return len(os.listdir(folder))
    except OSError:
        return 0


def _drain_errors(errors: list[OSError]) -> Iterator[UnreadableInput]:
    """Yield the folders that could not be entered since the last call."""
    for error in errors:
        path = Path(os.fsdecode(error.filename))
        yield UnreadableInput(path, _read_error_message(path, error))
    errors.clear()


def _read_error_message(path: Path | InMemoryFile, error: OSError | ValueError) -> str:
    return f"{path} can't be read ({getattr(error, 'strerror', None) or error}); check its permissions."


def unreadable_message(path: Path | StackUrl | InMemoryFile, error: Exception) -> str:
    """Return one sentence for whatever a parser raised for a file, so that no file costs the answers for others."""
    if isinstance(error, NephrosError):
        return str(error)
    logger.debug("%s can't be read", path, exc_info=error)
    return f"{path} can't be read ({type(error).__name__}): it is damaged or of an unknown kind; save it again."


def _empty_folder_message(root: Path, skipped: Counter[str]) -> str:
    detail = f", only {count_text(skipped)}" if skipped else ""
    return f"{root} contains no {_KINDS} or OME-Zarr{detail}; name another folder."


def without_mask_files(items: list[InputItem], mask: str | None) -> list[InputItem]:
    """Return the inputs without those that are masks of others, as where a folder holds both.

    Args:
        items: the inputs.
        mask: where the mask of each stack is; see `nephros.microscopy.located.find_mask`.

    Raises:
        InvalidArgument: there is no stack, or one mask for several.
    """
    if mask is None:
        return items
    from nephros.microscopy.class_labels import STEM
    from nephros.microscopy.located import find_mask

    masks = set()
    for item in items:
        if isinstance(item, Path | StackUrl):
            with contextlib.suppress(NephrosError):
                masks.add(locate(find_mask(mask, item)))
    kept = [item for item in items if not (isinstance(item, Path | StackUrl) and locate(item) in masks)]
    n_stacks = sum(isinstance(item, Path | StackUrl) for item in kept)
    if n_stacks == 0 and not any(isinstance(item, UnreadableInput) for item in kept):
        raise InvalidArgument("mask", mask, "left out: it is the mask of a stack, and no input is one")
    if n_stacks > 1 and STEM not in mask:
        raise InvalidArgument("mask", mask, f"a pattern such as '{STEM}_mask.tif', since there are {n_stacks:,} stacks")
    return kept
