"""Voxel sizes: of a stack, from its file or its user, and of the stacks that TissueMNIST was cropped from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from nephros.errors import FileError, InvalidArgument

if TYPE_CHECKING:
    from tifffile import TiffFile

VoxelSize = tuple[float, float, float]
"""Micrometers along z, y and x."""

TRAINING_VOXEL_SIZE: VoxelSize = (1.0, 0.5, 0.5)
"""Assumed for BBBC051, the source of TissueMNIST: its page and its paper (Woloshuk et al. 2021, doi 10.1002/cyto.a.24274)
were not accessible.

In the plane, a third party gives about 0.5, without a source (the table of data sets in github.com/Arthur-Chiron/VoCell).
TissueMNIST's own images agree: the median area of their nuclei is that of a disc 14.4 pixels of 32 across, which is 7.2
micrometers at 0.5 per pixel. The 1 along z is a guess from the shape of the crops: their 7 slices then contain such a nucleus.
"""
TRAINING_VOXEL_SIZE_SOURCE = (
    "assumed: in the plane from a third party (VoCell's table of data sets), which the size of the nuclei supports; along z a "
    "guess; `target_voxel_size` overrides it"
)

_TARGET_SIZE_SOURCES: dict[VoxelSize | None, str | None] = {None: None, TRAINING_VOXEL_SIZE: TRAINING_VOXEL_SIZE_SOURCE}

RELATIVE_TOLERANCE = 0.02
"""Sizes with a smaller relative difference count as equal, and nothing is resampled along that axis."""

MIN_SIDE_UM, MAX_SIDE_UM = 0.005, 100.0
"""Plausible range of a voxel's side, in micrometers."""

_MICROMETERS_PER_UNIT = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "µm": 1.0,
    "um": 1.0,
    "micron": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "inch": 25400.0,
}


def check_voxel_size(parameter: str, voxel_size: Sequence[float]) -> VoxelSize:
    """Return a voxel size that a user passes as `parameter`.

    Raises:
        InvalidArgument: it is not three numbers, or a side is not between 0.005 and 100 micrometers.
    """
    if len(voxel_size) != 3 or not all(_is_plausible(side) for side in voxel_size):
        text = ",".join(f"{side:g}" for side in voxel_size)
        raise InvalidArgument(
            parameter,
            text,
            f"z, y and x in micrometers, each from {MIN_SIDE_UM:g} to {MAX_SIDE_UM:g}, such as 1,0.5,0.5",
        )
    z, y, x = voxel_size
    return z, y, x


def format_voxel_size(voxel_size: VoxelSize | None) -> str:
    """Return a voxel size as text, such as ``1 x 0.5 x 0.5 micrometers``, or ``unknown``."""
    return "unknown" if voxel_size is None else " x ".join(f"{side:.4g}" for side in voxel_size) + " micrometers"


@dataclass(frozen=True)
class VoxelScaling:
    """A stack's voxel size relative to that of the training data."""

    stack_voxel_size: VoxelSize | None
    """None where it is unknown and nothing is resampled."""
    source: str
    """Where the stack's voxel size comes from."""
    target_voxel_size: VoxelSize | None
    """None where nothing is resampled."""
    step: VoxelSize
    """Stack voxels per training voxel along each axis; exactly 1 where the two differ by less than RELATIVE_TOLERANCE."""

    @classmethod
    def resolve(
        cls,
        name: str,
        file_voxel_size: VoxelSize | None,
        user_voxel_size: VoxelSize | None,
        target_voxel_size: VoxelSize,
        *,
        resample: bool,
    ) -> VoxelScaling:
        """Take the user's voxel size, else the one in the metadata of the file called `name`.

        Raises:
            FileError: the voxel size is unknown, and resampling needs it.
        """
        stack_voxel_size, source = file_voxel_size, "file metadata"
        if user_voxel_size is not None:
            stack_voxel_size, source = user_voxel_size, "voxel_size parameter"
        if not resample:
            return cls(stack_voxel_size, source if stack_voxel_size else "unknown", None, (1.0, 1.0, 1.0))
        if stack_voxel_size is None:
            raise FileError(
                name,
                f"{name} doesn't say how large its voxels are; give `voxel_size` (z, y, x in micrometers), "
                "or `resample=False` to use its voxels as they are.",
            )
        z, y, x = (target / stack_side for stack_side, target in zip(stack_voxel_size, target_voxel_size, strict=True))
        return cls(stack_voxel_size, source, target_voxel_size, (_snap_to_one(z), _snap_to_one(y), _snap_to_one(x)))

    @property
    def target_source(self) -> str | None:
        """Where the target voxel size comes from; None where nothing is resampled."""
        return _TARGET_SIZE_SOURCES.get(self.target_voxel_size, "target_voxel_size parameter")


def _snap_to_one(ratio: float) -> float:
    return 1.0 if abs(ratio - 1) <= RELATIVE_TOLERANCE else ratio


def voxel_size_of_tiff(file: TiffFile) -> VoxelSize | None:
    """Return the voxel size in a file's OME or ImageJ metadata, or None where a side is missing or implausible."""
    try:
        voxel_size = _ome_voxel_size(file.ome_metadata) if file.ome_metadata else _imagej_voxel_size(file)
    except (ElementTree.ParseError, KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return voxel_size if voxel_size and all(_is_plausible(side) for side in voxel_size) else None


def _is_plausible(side: float) -> bool:
    return math.isfinite(side) and MIN_SIDE_UM <= side <= MAX_SIDE_UM


def _micrometers_per_unit(name: str) -> float:
    name = name.replace("\\u00B5", "µ").replace("\u03bc", "µ").strip().lower()
    return _MICROMETERS_PER_UNIT[name.removesuffix("s")]


def _ome_voxel_size(text: str) -> VoxelSize:
    pixels: Any = next(element for element in ElementTree.fromstring(text).iter() if element.tag.endswith("}Pixels"))
    z, y, x = (
        float(pixels.attrib[f"PhysicalSize{axis}"])
        * _micrometers_per_unit(pixels.attrib.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "ZYX"
    )
    return z, y, x


def _imagej_voxel_size(file: TiffFile) -> VoxelSize | None:
    imagej = file.imagej_metadata
    if not imagej:
        return None
    unit_um, tags = _micrometers_per_unit(str(imagej["unit"])), file.pages.first.tags
    y, x = (
        unit_um * tags[f"{axis}Resolution"].value[1] / tags[f"{axis}Resolution"].value[0] for axis in "YX"
    )  # the tags hold pixels per unit, as a fraction
    return unit_um * float(imagej["spacing"]), y, x
