"""Tables of nuclei as VTEA and NephNet exchange them: a row per nucleus, with its label, its id and its 7,168 voxels."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.assembly import assemble, divide
from nephros.data.class_names import class_name_fault
from nephros.data.dataset import Dataset
from nephros.data.folders.image_files import sort_class_names
from nephros.data.folders.images import convert_images
from nephros.data.images.decoded_image import DecodedImage
from nephros.data.images.input_conversion import DEFAULT_CONVERSION, CellShape, InputConversion
from nephros.data.images.tiff_description import VOLUME_SHAPE
from nephros.data.input_files import InputFile, read_bytes
from nephros.data.provenance import Provenance
from nephros.data.splitting import assign_splits
from nephros.errors import FileError

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
N_VOXELS = 7 * 32 * 32
IMAGE_SIDE = 28
"""Pixels per side of the cells that a model is trained on by default: TissueMNIST's were resized so from the same volumes."""
_DELIMITERS = b",;\t"
_FIRST_LINES_BYTES = 1 << 20
_BATCH = 1024


@dataclass(frozen=True)
class VoxelTable:
    """The nuclei of a table, projected along z; stands where an npz file's array of images may stand."""

    path: InputFile
    labels: tuple[str, ...]
    """By row; empty where the table has none."""
    images: NDArray[Any]
    """(n, 32, 32) uint8 or uint16."""
    split: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the images."""
        return self.images.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the images."""
        return self.images.dtype

    def scaled_by(self, white_level: float | None) -> VoxelTable:
        """Return the table with voxels that a white level above 255 scales: a dim 12-bit table may have none above 255 itself."""
        is_deep = white_level is not None and white_level > 255
        return replace(self, images=self.images.astype(np.uint16)) if is_deep else self

    def __len__(self) -> int:
        return len(self.images)

    def iter_batches(self) -> Iterator[NDArray[Any]]:
        """Yield the images in file order, (b, 32, 32)."""
        for start in range(0, len(self), _BATCH):
            yield self.images[start : start + _BATCH]


def is_voxel_table(path: InputFile) -> bool:
    """Return whether a file's first or, after a header, second line has the voxels of a nucleus; False where it can't be read."""
    if path.suffix.lower() not in TABLE_SUFFIXES:
        return False
    try:
        with path.open() if not isinstance(path, Path) else path.open("rb") as file:
            lines = file.read(_FIRST_LINES_BYTES).split(b"\n", 2)[:2]
    except (OSError, ValueError):
        return False
    return any(_n_fields(line)[0] in range(N_VOXELS, N_VOXELS + 3) for line in lines)


def _n_fields(line: bytes) -> tuple[int, bytes]:
    """Return how many fields a line has, without empty ones at its end, and its delimiter."""
    line = line.rstrip(b"\r\n \t,;")
    delimiter = max((bytes([character]) for character in _DELIMITERS), key=line.count)
    return line.count(delimiter) + 1, delimiter


def read_voxel_table(path: InputFile) -> VoxelTable:
    """Read a table of nuclei.

    A row has a label, an id and 7,168 voxels, or only a label, or neither; the voxel's column changes fastest and its slice
    slowest. A first row that holds no numbers is a header. Java's signed bytes, from -128 to 127, are read as unsigned.

    Raises:
        FileError: the file can't be read, or a row is of another kind.
    """
    labels: list[str] = []
    maxima: list[NDArray[np.uint16]] = []
    n_leading: int | None = None
    for number, line in enumerate(io.BytesIO(read_bytes(path)), start=1):
        line = line.rstrip(b"\r\n \t,;")
        if not line:
            continue
        n_fields, delimiter = _n_fields(line)
        if number == 1 and line.split(delimiter, 3)[-1][:1].isalpha():
            continue
        n_row_leading = n_fields - N_VOXELS
        if n_row_leading not in (0, 1, 2) or n_row_leading != (n_leading if n_leading is not None else n_row_leading):
            raise FileError(
                str(path),
                f"{path}: line {number} has {n_fields:,} fields; a row has a label, an id and {N_VOXELS:,} voxels.",
            )
        n_leading = n_row_leading
        *leading, text = line.split(delimiter, n_leading)
        maxima.append(_project(path, number, text, delimiter))
        labels += [leading[0].decode("utf-8", "replace").strip(' "')] if leading else []
    if not maxima:
        raise FileError(str(path), f"{path} has no nuclei; a row has a label, an id and {N_VOXELS:,} voxels.")
    images = np.stack(maxima)
    return VoxelTable(path, tuple(labels), images.astype(np.uint8) if images.max() < 256 else images)


def _project(path: InputFile, number: int, text: bytes, delimiter: bytes) -> NDArray[np.uint16]:
    """Return the maximum over the slices of one row's voxels, (32, 32)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # of earlier versions of numpy, which stop at other text
            voxels = np.fromstring(text, dtype=np.float64, sep=delimiter.decode())
    except ValueError:
        voxels = np.empty(0)
    if len(voxels) != N_VOXELS or not (voxels == np.floor(voxels)).all() or voxels.min() < -128 or voxels.max() > 65535:
        raise FileError(
            str(path),
            f"{path}: line {number} has voxels that are not whole numbers from 0 to 65,535 (or signed bytes).",
        )
    if voxels.min() < 0:
        if voxels.max() > 127:
            raise FileError(
                str(path), f"{path}: line {number} has negative voxels and others above 127; save it unsigned."
            )
        voxels[voxels < 0] += 256
    maximum: NDArray[np.uint16] = voxels.reshape(VOLUME_SHAPE).max(axis=0).astype(np.uint16)
    return maximum


def open_voxel_table(
    path: Path,
    *,
    size: int | None = None,
    seed: int = 0,
    conversion: InputConversion = DEFAULT_CONVERSION,
    shape: CellShape | None = None,
    draw_test: bool = True,
) -> Dataset:
    """Open a table of nuclei as a data set, split here 7:1:2 by class.

    Args:
        path: the table; every row has a label.
        size: pixels per side of the cells; None makes them 28x28, as TissueMNIST's are.
        seed: of the split.
        conversion: how volumes of more than 8 bits are scaled; without a white level, the table's brightest voxel becomes 255.
        shape: channels, height and width of the cells of a model that is to be evaluated; wins over `size`.
        draw_test: False leaves test empty, and splits the nuclei 9:1.

    Raises:
        FileError: the table can't be read, has no labels, or too few nuclei of a class.
    """
    path = path.expanduser().absolute()
    table = read_voxel_table(path).scaled_by(conversion.white_level)
    if not table.labels or "" in table.labels:
        raise FileError(
            path, f"{path} has nuclei without a label; training needs one in the first column of every row."
        )
    class_names = tuple(sort_class_names(set(table.labels)))
    if len(class_names) < 2 or (fault := class_name_fault(class_names)):
        raise FileError(
            path, f"{path} has {fault if len(class_names) > 1 else 'one class only'}; a classifier needs two."
        )
    labels = np.array([class_names.index(label) for label in table.labels], dtype=np.int64)
    names = np.array([f"nucleus {row}" for row in range(len(table))])
    full_names = [f"{path}: {name}" for name in names]
    images = [DecodedImage(image, "gray") for image in table.images]
    cells = convert_images(
        path, full_names, images, images.__getitem__, size=size or IMAGE_SIDE, conversion=conversion, shape=shape
    )
    assignment = assign_splits(path, labels, class_names, seed, draw_test=draw_test)
    volume = "x".join(map(str, (*VOLUME_SHAPE[1:], VOLUME_SHAPE[0])))
    detail = "; ".join([assignment.rule, f"volumes of {volume} voxels projected (maximum)", *cells.details])
    provenance = Provenance(path.stem, "own", str(path), hashlib.sha256(path.read_bytes()).hexdigest(), None, detail)
    warnings = (*cells.warnings, *assignment.warnings)
    splits = divide(cells.images, labels, assignment, names)
    return assemble(splits, class_names, provenance, cells.conversion, warnings)
