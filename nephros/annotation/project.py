"""A project: cells to label, their classes and labels, and everything that is made of them, in one folder."""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from nephros.annotation.adding import AddedCells, add_cells
from nephros.annotation.cell_files import CellTable, load_cells
from nephros.annotation.cell_reading import Progress
from nephros.annotation.classes import check_name
from nephros.annotation.label_database import create_database
from nephros.annotation.labels import LabelStore
from nephros.annotation.project_file import (
    FORMAT,
    PROJECT_FILE,
    ProjectInfo,
    StackSource,
    write_project_file,
)
from nephros.annotation.tissue import Tissue, read_tissue
from nephros.errors import FileError, InvalidArgument, LockedError
from nephros.exporters.loading import load_classifier
from nephros.files import file_lock, remove_temporary_files, replace_file
from nephros.inference.bundled import DEFAULT_MODEL
from nephros.inference.model_names import bundled_model_name
from nephros.inference.predictor import Predictor
from nephros.microscopy.location import locate
from nephros.microscopy.stack import StackOptions
from nephros.microscopy.voxel_size import VoxelSize

LABELS_FILE, LOCK_FILE = "labels.sqlite", ".lock"
_LEFTOVERS = {LABELS_FILE, f"{LABELS_FILE}-wal", f"{LABELS_FILE}-shm", LOCK_FILE, ".DS_Store", "Thumbs.db"}
"""What a folder may have before it becomes a project: a killed `Project.create` leaves some of these."""


@dataclass(frozen=True)
class CellLocation:
    """Where a cell is in a stack."""

    stack: str
    """Name of the stack."""
    id: int
    """Of the nucleus in the mask."""
    z: float
    y: float
    x: float
    """Centroid in voxels."""


class Project:
    """A project folder. All methods may be called from several threads; `lock` keeps other processes from adding cells."""

    def __init__(self, root: Path) -> None:
        """Open a folder; use `Project.open`, `Project.create` or `Project.create_or_open`."""
        self.root = root
        self._cells = load_cells(root)
        self._add_lock, self._has_lock = threading.RLock(), False
        self.labels = LabelStore(root / LABELS_FILE, lambda: self.n_cells)

    @classmethod
    def create(cls, root: str | Path, *, name: str | None = None, model: str | Path | None = None) -> Self:
        """Make an empty project.

        Args:
            root: a new or empty folder.
            name: of the project; None takes that of the folder.
            model: whose input the cells become, and whose features are used, as `nephros.load_classifier` takes it; None takes
                the bundled one.

        Raises:
            InvalidArgument: the name can't be used.
            FileError: the folder has other files, or can't be written.
            NephrosError: the model can't be opened.
        """
        root = Path(root).expanduser().absolute()
        _check_new_folder(root)
        predictor = load_classifier(model)
        predictor.check_takes_images("the page for labels")
        info = ProjectInfo(
            FORMAT,
            check_name("name", root.name or "project" if name is None else name),
            datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            _model_name(model),
            predictor.input_shape,
            0,
            predictor.input_conversion,
            id=secrets.token_hex(8),
        )
        try:
            root.mkdir(parents=True, exist_ok=True)
            _create_labels(root)
            write_project_file(root, info)
        except OSError as error:
            raise FileError(root, f"{root} can't be written ({error.strerror}); choose another folder.") from error
        return cls(root)

    @classmethod
    def open(cls, root: str | Path) -> Self:
        """Open a project that exists; FileError where it is none, damaged, or of a newer version of nephros."""
        return cls(Path(root).expanduser().absolute())

    @classmethod
    def create_or_open(cls, root: str | Path, *, name: str | None = None, model: str | Path | None = None) -> Self:
        """Open a project, or make one where there is none; arguments and errors are those of `create`.

        Raises:
            InvalidArgument: the project exists and has another model.
        """
        if not (Path(root).expanduser() / PROJECT_FILE).exists():
            return cls.create(root, name=name, model=model)
        project = cls.open(root)
        project.check_model(model)
        return project

    def check_model(self, model: str | Path | None) -> None:
        """Raise InvalidArgument for another model than the project's; None is any."""
        if model is not None and _model_name(model) != self.model:
            raise InvalidArgument("model", model, f"{self.model}, which this project's cells are made for")

    def delete(self) -> None:
        """Close a project and remove the files of one without cells; its folder stays where it has others."""
        self.close()
        for name in (PROJECT_FILE, *_LEFTOVERS):
            (self.root / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.root.rmdir()

    def close(self) -> None:
        """Close the labels; the project can't be used afterwards."""
        self.labels.close()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Within the block, no other process serves this project or adds cells; LockedError where one does already."""
        with self._add_lock:
            if self._has_lock:
                yield
                return
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(file_lock(self.root / LOCK_FILE, wait=False))
            except BlockingIOError:
                raise LockedError(
                    f"Another process is serving the project {self.root}: use it there, or stop it."
                ) from None
            self._has_lock = True
            try:
                remove_temporary_files(self.root)
                yield
            finally:
                self._has_lock = False

    @property
    def name(self) -> str:
        """What the project is called."""
        return self._cells.info.name

    @property
    def id(self) -> str:
        """What tells the project from others, also of its name; ASCII."""
        return self._cells.info.id or self._cells.info.created

    @property
    def model(self) -> str:
        """Name or file of the model whose input the cells are."""
        return self._cells.info.model

    @property
    def info(self) -> ProjectInfo:
        """The content of project.json."""
        return self._cells.info

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return self._cells.info.n_cells

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels (1 or 3), height and width of a cell."""
        return self._cells.info.image_shape

    @property
    def table(self) -> CellTable:
        """Where each cell comes from."""
        return self._cells.table

    @property
    def has_stack(self) -> bool:
        """Whether some cells are nuclei of a stack, of which `tissue` shows the surroundings."""
        return bool(self._cells.info.stacks)

    def path(self, *parts: str) -> Path:
        """Return the path of a file in the folder."""
        return self.root.joinpath(*parts)

    def load_predictor(self) -> Predictor:
        """Open the model of the project."""
        return load_classifier(self.model)

    def images(self, cells: Sequence[int] | NDArray[np.integer] | None = None) -> NDArray[np.uint8]:
        """Return images of cells, (k, h, w) or (k, h, w, 3); None returns all of them, memory-mapped.

        Raises:
            InvalidArgument: there is no such cell.
        """
        images = self._cells.images
        if cells is None:
            return images
        indices = np.asarray(cells, np.int64).reshape(-1)
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(images)):
            wrong = indices[(indices < 0) | (indices >= len(images))][0]
            raise InvalidArgument("cells", int(wrong), f"cells from 0 to {len(images) - 1}")
        return np.asarray(images[indices])

    def location(self, cell: int) -> CellLocation | None:
        """Return where a cell is in a stack; None for one that is not of a stack."""
        table = self._cells.table
        if not 0 <= cell < len(table):
            raise InvalidArgument("cell", cell, f"from 0 to {len(table) - 1}")
        if np.isnan(table.centroids[cell, 0]):
            return None
        z, y, x = table.centroids[cell].tolist()
        return CellLocation(self._stack(cell).name, int(table.indices[cell]), z, y, x)

    def tissue(self, cell: int) -> Tissue | None:
        """Return the slices of the stack around a cell; None for one that is not of a stack.

        Raises:
            InvalidArgument: there is no such cell.
            FileError: the project's copy of the stack is missing or damaged.
        """
        if self.location(cell) is None:
            return None
        return read_tissue(self.root, self._stack(cell), self._cells.table, cell)

    def _stack(self, cell: int) -> StackSource:
        return next(stack for stack in self._cells.info.stacks if stack.path == self._cells.table.files[cell])

    def add_cells(
        self,
        source: str | Path | Sequence[str | Path],
        *,
        mask: str | None = None,
        channel: int | str | None = None,
        image: int | str | None = None,
        axes: str | None = None,
        level: int | str | None = None,
        time_point: int | None = None,
        voxel_size: VoxelSize | None = None,
        min_volume: float | None = None,
        stitch_threshold: float | None = None,
        segment: str | None = None,
        white_level: float | None = None,
        copy: bool = False,
        progress: Progress = lambda _share, _text: None,
    ) -> AddedCells:
        """Add the cells of npz files, images, folders of them, and stacks, behind those that the project has; all or none.

        Labels in the files are not read (`nephros.annotation.label_import` does that). A file that was added before and
        hasn't changed is not read again, and a cell that the project has is not added twice.

        Args:
            source: one or several paths.
            mask: instance mask of a stack, or a pattern with ``{stem}`` for several; None segments the nuclei.
            channel: index or name of the channel, or the color plane, that shows the nuclei.
            image: of a stack, as for `nephros.prepare`; so are the arguments up to `min_volume`.
            axes: what a stack's dimensions are.
            level: of a pyramid.
            time_point: in a time series.
            voxel_size: micrometers along z, y and x, at the finest level of a pyramid.
            min_volume: leave out smaller nuclei.
            stitch_threshold: of masks whose ids count within each slice only, as for `nephros.prepare`.
            segment: how to segment the nuclei without a mask, as for `nephros.prepare`.
            white_level: pixel value that becomes 255 in images of more than 8 bits; None takes that of the project or, of the
                first ones, that of the model or their brightest pixel.
            copy: keep a stack itself in the project folder, and name other files without their folders, as for uploads; a stack
                always leaves its mask and a copy in 8 bits there.
            progress: is called with the share that is done, and what is being done.

        Raises:
            InvalidArgument: an option can't be used.
            FileError: no file can be read, or the folder can't be written; nothing is added then.
            LockedError: another process is serving the project.
        """
        paths = [locate(path, "source") for path in ([source] if isinstance(source, str | Path) else source)]
        if not paths:
            raise InvalidArgument("source", "empty", "the path of at least one file or folder")
        options = StackOptions(
            channel, image, voxel_size, axes, min_volume, mask, level, time_point, stitch_threshold, segment
        )  # fmt: skip
        with self._add_lock, self.lock():
            added = add_cells(self.root, self._cells, paths, options, white_level, copy=copy, progress=progress)
            if added.n_added:
                self._cells = load_cells(self.root)
        return added


def _check_new_folder(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise FileError(root, f"{root} is a file; name a new folder for the project.")
    if (root / PROJECT_FILE).exists():
        raise FileError(root, f"{root} is a project already; open it.")
    foreign = sorted(
        name
        for name in (os.listdir(root) if root.is_dir() else [])
        if name not in _LEFTOVERS and not name.endswith(".tmp")
    )
    if foreign:
        raise FileError(
            root,
            f"{root} is not a project and has other files, such as {foreign[0]}; name a new folder for the project, and give the "
            "files with cells as `data`.",
        )


def _create_labels(root: Path) -> None:
    """Write an empty file of labels; one of a killed `Project.create` stays, if nothing is in it."""
    path = root / LABELS_FILE
    if path.exists():
        store = LabelStore(path, lambda: 0)
        is_empty = store.revision == 0
        store.close()
        if is_empty:
            return
        raise FileError(
            path, f"{path} holds labels, but {root} has no {PROJECT_FILE}; restore it from a copy of the project."
        )
    temporary = root / f".{LABELS_FILE}.{os.getpid()}.tmp"
    temporary.unlink(missing_ok=True)
    create_database(temporary)
    replace_file(temporary, path)


def _model_name(model: str | Path | None) -> str:
    """Return how project.json names a model: by its name, or by the absolute path of its file or folder."""
    if model is None:
        return DEFAULT_MODEL
    return bundled_model_name(str(model)) or str(Path(model).expanduser().absolute())
