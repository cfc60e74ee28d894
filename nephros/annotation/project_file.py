"""project.json: what a project is called, which model looks at its cells, and where the cells come from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nephros.data.images.input_conversion import DEFAULT_CONVERSION, CellShape, InputConversion
from nephros.errors import FileError
from nephros.files import write_json
from nephros.microscopy.stack import StackOptions
from nephros.microscopy.voxel_size import VoxelSize
from nephros.reading import MAX_JSON_BYTES, MalformedContent, decode, file_errors, parse_json, read_text

FORMAT = "nephros-project-1"
_FORMAT_STEM = "nephros-project-"
PROJECT_FILE = "project.json"
UNKNOWN_STATE = (-1, -1)
"""In place of the size and the time of the last change of a file: of a folder, a URL or an upload."""


@dataclass(frozen=True)
class CellFile:
    """A file, or an array of one, from which cells were added."""

    path: str
    """Absolute, or the name under which it was uploaded."""
    n_cells: int
    size: int = -1
    """Bytes of the file when it was read; -1 for a folder."""
    modified_ns: int = -1
    """When it was last changed then, in nanoseconds since 1970."""
    channel: int | str | None = None
    """As it was given."""
    white_level: float | None = None
    """As it was given."""


@dataclass(frozen=True)
class StackSource:
    """A stack from which nuclei were cut out."""

    path: str
    """As the column ``file`` of the table of cells names it: absolute, or below the project folder."""
    name: str
    """What tables and GeoJSON call it."""
    channel: int
    shape: tuple[int, int, int]
    """Slices, rows and columns."""
    voxel_size: VoxelSize | None
    """Micrometers along z, y and x."""
    mask: str
    """The mask that was used: absolute, or the name of the method that made it."""
    folder: str
    """Below the project folder: the stack in 8 bits, and its mask, to look at single slices."""
    n_cells: int
    level_step: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Voxels of the stack's finest pyramid level per voxel here, along z, y and x."""
    options: StackOptions | None = None
    """As they were given, without the mask; None in projects of earlier versions."""
    white_level: float | None = None
    """As it was given."""
    state: tuple[int, int] = UNKNOWN_STATE
    """Size and time of the last change of the stack's file, as in CellFile, or UNKNOWN_STATE."""
    mask_state: tuple[int, int] = UNKNOWN_STATE
    """Likewise of the mask's file."""


@dataclass(frozen=True)
class ProjectInfo:
    """The content of project.json."""

    format: str
    name: str
    created: str
    """UTC, in ISO 8601."""
    model: str
    """Name or file of the model whose input the cells are, as `nephros.load_classifier` takes it."""
    image_shape: CellShape
    """Channels (1 or 3), height and width of a cell."""
    n_cells: int
    conversion: InputConversion = DEFAULT_CONVERSION
    """How images become cells: as for the model, with the white level and the channel of the cells."""
    files: tuple[CellFile, ...] = ()
    stacks: tuple[StackSource, ...] = ()
    white_level: float | None = None
    """Value that became 255 in the cells of more than 8 bits; None where there are none, or it is fitted to each stack."""
    channel: int | None = None
    """Plane that was chosen in images of several; None where none was."""
    notes: tuple[str, ...] = dataclasses.field(default=())
    """How images became cells, and what is odd about them; one sentence each."""
    id: str = ""
    """Random, so that pages tell projects apart; empty in projects of earlier versions."""

    @property
    def cell_shape(self) -> tuple[int, ...]:
        """(h, w) or (h, w, 3) of a cell as an array."""
        channels, height, width = self.image_shape
        return (height, width) if channels == 1 else (height, width, channels)


def read_project_file(root: Path) -> ProjectInfo:
    """Read the file of a project folder.

    Raises:
        FileError: it is missing, damaged, or of a newer version of nephros.
    """
    path = root / PROJECT_FILE
    if not path.exists():
        raise FileError(
            path, f"{root} is not a project: it has no {PROJECT_FILE}; name a folder that `nephros.annotate` made."
        )
    with file_errors(path, "restore it from a copy of the project"):
        values = parse_json(read_text(path, MAX_JSON_BYTES))
        _check_format(path, values)
        info = decode(ProjectInfo, values)
        channels, height, width = info.image_shape
        if channels not in (1, 3) or min(height, width) < 1 or max(height, width) > 4096 or info.n_cells < 0:
            raise MalformedContent(f"it describes {info.n_cells} cells of shape {info.image_shape}")
        InputConversion.from_dict(info.conversion.to_dict())
    return info


def write_project_file(root: Path, info: ProjectInfo) -> None:
    """Write the file, all or nothing."""
    write_json(root / PROJECT_FILE, dataclasses.asdict(info))


def _check_format(path: Path, values: Any) -> None:
    project_format = values.get("format") if isinstance(values, dict) else None
    if project_format == FORMAT:
        return
    number = str(project_format).removeprefix(_FORMAT_STEM)
    if str(project_format).startswith(_FORMAT_STEM) and number.isdecimal():
        raise FileError(
            path,
            f"{path} has the format {project_format}, written by a newer version of nephros; install that version.",
        )
    raise MalformedContent(f"its format is not {FORMAT}")
