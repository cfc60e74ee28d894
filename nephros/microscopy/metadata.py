"""The metadata of a prepared stack, which record how its nuclei were cropped: the JSON file that `nephros.prepare` writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nephros.errors import NephrosError
from nephros.microscopy.stack import StackOptions
from nephros.microscopy.voxel_size import VoxelSize
from nephros.reading import MAX_JSON_BYTES, MalformedContent, decode, file_errors, parse_json, read_text

FORMAT = 2
"""Version of the file's layout."""
_KEYS = frozenset({"stack", "stacks"})
"""Of a single stack, and of several."""


@dataclass(frozen=True)
class StackInfo:
    """The stack that the nuclei were cropped from."""

    path: str
    sha256: str
    shape: tuple[int, int, int]
    """Slices, rows and columns."""
    dtype: str
    channel: int
    """Index of the channel that shows the nuclei."""
    n_channels: int
    image: int = 0
    """Index of the image in a file that holds several."""
    axes: str | None = None
    """What the user says the file's dimensions are; None takes the file's word."""
    level: int = 0
    """Level of an image pyramid."""
    time_point: int = 0
    """Index in a time series."""
    options: StackOptions | None = None
    """As the user gave them, since the indices above don't say all: pages may be images or slices. None in files of earlier
    versions."""

    @property
    def reading_options(self) -> StackOptions:
        """With which the same voxels are read again."""
        return self.options or StackOptions(
            self.channel, self.image, axes=self.axes, level=self.level, time_point=self.time_point
        )


@dataclass(frozen=True)
class MaskInfo:
    """The instance mask that the nuclei were cropped by."""

    path: str
    sha256: str
    shape: tuple[int, int, int]
    """Slices, rows and columns."""
    dtype: str
    method: str
    """How the mask was made, or ``user-provided mask``."""
    automatic: bool
    """Whether nephros made the mask."""
    stitch_threshold: float | None = None
    """Overlap from which objects of the mask's slices were joined; None took its ids."""


@dataclass(frozen=True)
class ContrastInfo:
    """The linear map from the stack's intensities to 8 bits, and what the images look like after it."""

    rule: str
    black_level: float
    """Intensity that becomes 0."""
    white_level: float
    """Intensity that becomes 255."""
    black_percentile: float
    """Percentile of the stack's voxels at the black level."""
    white_percentile: float
    pixel_mean: float
    """Mean of the images' pixels, from 0 to 1."""
    pixel_std: float


@dataclass(frozen=True)
class NucleusCounts:
    """Numbers of nuclei."""

    segmented: int
    """In the mask."""
    kept: int
    """In the npz file."""
    at_border: int
    """In the mask and cut by the stack's edge, or with a crop that extends beyond it."""
    dropped: int
    """In the mask and not in the npz file."""
    too_small: int = 0
    """Of the dropped ones, those below the least volume."""


@dataclass(frozen=True)
class ClassLabelInfo:
    """The user's classes."""

    file: str
    class_names: tuple[str, ...]
    n_labeled: int = 0
    """Number of nuclei kept that have a class."""
    seed: int = 0
    """Of the split that files of earlier versions hold."""


@dataclass(frozen=True)
class PreparationMetadata:
    """How a stack's nuclei were segmented, cropped, resampled and scaled to 8 bits."""

    stack: StackInfo
    mask: MaskInfo
    voxel_size_um: VoxelSize | None
    """The stack's; None where it is unknown."""
    voxel_size_source: str
    target_voxel_size_um: VoxelSize | None
    """What the crops were resampled to; None where nothing was."""
    target_voxel_size_source: str | None
    resampling_step: VoxelSize
    """Stack voxels per voxel of a crop, along z, y and x."""
    crop_shape_zyx: tuple[int, int, int]
    contrast_limits: ContrastInfo
    nuclei: NucleusCounts
    class_labels: ClassLabelInfo | None
    warnings: tuple[str, ...]
    table: str
    """Name of the CSV file beside this file."""
    npz: str
    """Name of the npz file beside this file."""
    versions: dict[str, str]
    """Versions of nephros and of the libraries that the figures depend on."""
    min_volume: float | None = None
    """Volume below which nuclei were left out; None where none was."""
    min_volume_unit: str | None = None
    """``cubic micrometers``, or ``voxels`` where the voxel size is unknown."""

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the JSON file."""
        return {"format": FORMAT, **asdict(self)}


def metadata_of_stacks(stacks: Sequence[PreparationMetadata]) -> dict[str, Any]:
    """Return the content of the JSON file of several stacks."""
    return {"format": FORMAT, "stacks": [asdict(metadata) for metadata in stacks]}


def read_metadata(path: Path) -> PreparationMetadata:
    """Read the JSON file that `nephros.prepare` wrote.

    Raises:
        FileError: the file can't be read, is not such a file, or has another version's format.
    """
    with file_errors(path, "give the JSON file that `nephros.prepare(STACK)` wrote"):
        values = parse_json(read_text(path, MAX_JSON_BYTES))
        if not isinstance(values, dict) or "format" not in values:
            raise MalformedContent("it is not a metadata file of `nephros.prepare(STACK)`")
        if values.pop("format") != FORMAT:
            raise MalformedContent(f"it has another format than {FORMAT}; run `nephros.prepare(STACK)` again")
        if isinstance(stacks := values.get("stacks"), list) and len(stacks) > 1:
            raise MalformedContent(f"it is of {len(stacks)} stacks; prepare the one that you want to see by itself")
        return decode(PreparationMetadata, values)


def files_beside(npz: Path) -> tuple[Path, ...]:
    """Return the table and the metadata that `nephros.prepare` wrote beside an npz file; none where it wrote none."""
    metadata = npz.with_suffix(".json")
    try:
        values = parse_json(read_text(metadata, MAX_JSON_BYTES))
    except (OSError, ValueError, NephrosError):
        return ()
    is_metadata = isinstance(values, dict) and values.get("format") == FORMAT and not values.keys().isdisjoint(_KEYS)
    return (metadata, npz.with_suffix(".csv")) if is_metadata else ()
