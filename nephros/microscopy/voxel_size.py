"""How large a voxel is: in a stack, by its file or by its user, and in the stacks that TissueMNIST was cut from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from nephros.errors import NephrosError

if TYPE_CHECKING:
    from tifffile import TiffFile

VoxelSize = tuple[float, float, float]
"""Micrometres along z, y and x."""

TRAINING_VOXEL_SIZE: VoxelSize = (1.0, 0.5, 0.5)
"""Assumed of BBBC051, whose page and paper (Woloshuk et al. 2021, doi 10.1002/cyto.a.24274) we could not read for it.

One third party gives about 0.5 along x and y, without a source (the table of data sets in
github.com/Arthur-Chiron/VoCell). TissueMNIST's own pictures agree: their nuclei's median area is that of a disc 14.4
pixels of 32 wide, 7.2 micrometres at 0.5 a pixel. The 1 along z is an assumption from the crop's shape: 7 slices then hold
such a nucleus whole.
"""
TRAINING_VOXEL_SIZE_SOURCE = (
    "assumed: in the plane by the word of a third party (VoCell's table of data sets), which the nuclei's size supports, along z "
    "a guess; --target-voxel-size overrides it"
)

_TARGET_SIZE_SOURCES: dict[VoxelSize | None, str | None] = {None: None, TRAINING_VOXEL_SIZE: TRAINING_VOXEL_SIZE_SOURCE}

RELATIVE_TOLERANCE = 0.02
"""Sizes that differ by no more than this share are taken as equal, and nothing is resampled along that axis."""

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


def parse_voxel_size(parameter: str, text: str) -> VoxelSize:
    """Return three sizes in micrometres written as Z,Y,X; UserError naming `parameter` where they can't be a voxel's."""
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError:
        raise NephrosError(f"{parameter} is {text}, but it must be Z,Y,X in micrometres, such as 1,0.5,0.5.") from None
    if not all(_is_plausible(size) for size in (z, y, x)):
        raise NephrosError(f"{parameter} is {text}, but a voxel's sides lie between 0.005 and 100 micrometres.")
    return z, y, x


@dataclass(frozen=True)
class VoxelScaling:
    """A stack's voxel size beside the training data's."""

    stack_voxel_size: VoxelSize | None
    """None where unknown and nothing is resampled."""
    source: str
    target_voxel_size: VoxelSize | None
    """None where nothing is resampled."""
    step: VoxelSize
    """How many of the stack's voxels one training voxel spans along each axis; exactly 1 where the two are CLOSE."""

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
        """Take the size that is given, else the one found in the file `name`; UserError where it is needed and unknown."""
        stack_voxel_size, source = file_voxel_size, "file metadata"
        if user_voxel_size is not None:
            stack_voxel_size, source = user_voxel_size, "voxel_size parameter"
        if not resample:
            return cls(stack_voxel_size, source if stack_voxel_size else "unknown", None, (1.0, 1.0, 1.0))
        if stack_voxel_size is None:
            raise NephrosError(
                f"{name} doesn't say how large its voxels are: give --voxel-size Z,Y,X in micrometres, "
                "or --no-resample to take its voxels as they are."
            )
        z, y, x = (target / stack_side for stack_side, target in zip(stack_voxel_size, target_voxel_size, strict=True))
        return cls(stack_voxel_size, source, target_voxel_size, (_snap_to_one(z), _snap_to_one(y), _snap_to_one(x)))

    def to_dict(self) -> dict[str, Any]:
        """Return what a result's notes say of it."""
        return {
            "voxel_size_um": self.stack_voxel_size,
            "voxel_size_source": self.source,
            "target_voxel_size_um": self.target_voxel_size,
            "target_voxel_size_source": _TARGET_SIZE_SOURCES.get(self.target_voxel_size, "target_voxel_size parameter"),
            "resampling_step": self.step,
        }


def _snap_to_one(ratio: float) -> float:
    return 1.0 if abs(ratio - 1) <= RELATIVE_TOLERANCE else ratio


def voxel_size_of_tiff(file: TiffFile) -> VoxelSize | None:
    """Return the voxel size that OME's or ImageJ's metadata give; None where one side is missing or can't be right."""
    try:
        voxel_size = _ome_voxel_size(file.ome_metadata) if file.ome_metadata else _imagej_voxel_size(file)
    except (ElementTree.ParseError, KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return voxel_size if voxel_size and all(_is_plausible(size) for size in voxel_size) else None


def _is_plausible(size: float) -> bool:
    return math.isfinite(size) and 0.005 <= size <= 100


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
    )  # pixels a unit, as a fraction
    return unit_um * float(imagej["spacing"]), y, x
