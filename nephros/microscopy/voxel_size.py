"""How large a voxel is: in a stack, by its file or by its user, and in the stacks that TissueMNIST was cut from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from nephros.errors import UserError

if TYPE_CHECKING:
    from tifffile import TiffFile

Voxels = tuple[float, float, float]
"""Micrometres along z, y and x."""

TRAINING: Voxels = (1.0, 0.5, 0.5)
"""Assumed of BBBC051, whose page and paper (Woloshuk et al. 2021, doi 10.1002/cyto.a.24274) we could not read for it.

One third party gives about 0.5 along x and y, without a source (the table of data sets in
github.com/Arthur-Chiron/VoCell). TissueMNIST's own pictures agree: their nuclei's median area is that of a disc 14.4
pixels of 32 wide, 7.2 micrometres at 0.5 a pixel. The 1 along z is an assumption from the crop's shape: 7 slices then hold
such a nucleus whole.
"""
ASSUMED = (
    "assumed: in the plane by the word of a third party (VoCell's table of data sets), which the nuclei's size supports, along z "
    "a guess; --training-voxel-size overrides it"
)

_SOURCES: dict[Voxels | None, str | None] = {None: None, TRAINING: ASSUMED}

CLOSE = 0.02
"""Sizes that differ by no more than this share are taken as equal, and nothing is resampled along that axis."""

_UNITS = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3, "pm": 1e-6, "inch": 25400.0}


def parse(flag: str, written: str) -> Voxels:
    """Return three sizes in micrometres written as Z,Y,X; UserError naming `flag` where they can't be a voxel's."""
    try:
        z, y, x = (float(part) for part in written.split(","))
    except ValueError:
        raise UserError(f"{flag} is {written}, but it must be Z,Y,X in micrometres, such as 1,0.5,0.5.") from None
    if not all(_sane(size) for size in (z, y, x)):
        raise UserError(f"{flag} is {written}, but a voxel's sides lie between 0.005 and 100 micrometres.")
    return z, y, x


@dataclass(frozen=True)
class Scale:
    """A stack's voxel size beside the training data's."""

    own: Voxels | None
    """None where unknown and nothing is resampled."""
    source: str
    training: Voxels | None
    """None where nothing is resampled."""
    step: Voxels
    """How many of the stack's voxels one training voxel spans along each axis; exactly 1 where the two are CLOSE."""

    @classmethod
    def of(cls, name: str, found: Voxels | None, given: Voxels | None, training: Voxels, *, resample: bool) -> Scale:
        """Take the size that is given, else the one found in the file `name`; UserError where it is needed and unknown."""
        own, source = found, "the file's metadata"
        if given is not None:
            own, source = given, "given with --voxel-size"
        if not resample:
            return cls(own, source if own else "unknown", None, (1.0, 1.0, 1.0))
        if own is None:
            raise UserError(
                f"{name} doesn't say how large its voxels are: give --voxel-size Z,Y,X in micrometres, "
                "or --no-resample to take its voxels as they are."
            )
        z, y, x = (there / here for here, there in zip(own, training, strict=True))
        return cls(own, source, training, (_rounded(z), _rounded(y), _rounded(x)))

    def about(self) -> dict[str, Any]:
        """Return what a result's notes say of it."""
        return {
            "voxel_size_um": self.own,
            "voxel_size_from": self.source,
            "training_voxel_size_um": self.training,
            "training_voxel_size_from": _SOURCES.get(self.training, "given with --training-voxel-size"),
            "stack_voxels_a_training_voxel": self.step,
        }


def _rounded(ratio: float) -> float:
    return 1.0 if abs(ratio - 1) <= CLOSE else ratio


def of_file(file: TiffFile) -> Voxels | None:
    """Return the voxel size that OME's or ImageJ's metadata give; None where one side is missing or can't be right."""
    try:
        found = _ome(file.ome_metadata) if file.ome_metadata else _imagej(file)
    except (ElementTree.ParseError, KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return found if found and all(_sane(size) for size in found) else None


def _sane(size: float) -> bool:
    return math.isfinite(size) and 0.005 <= size <= 100


def _unit(name: str) -> float:
    name = name.replace("\\u00B5", "µ").replace("\u03bc", "µ").strip().lower()
    return _UNITS[name.removesuffix("s")]


def _ome(text: str) -> Voxels:
    pixels: Any = next(element for element in ElementTree.fromstring(text).iter() if element.tag.endswith("}Pixels"))
    z, y, x = (
        float(pixels.attrib[f"PhysicalSize{axis}"]) * _unit(pixels.attrib.get(f"PhysicalSize{axis}Unit", "µm"))
        for axis in "ZYX"
    )
    return z, y, x


def _imagej(file: TiffFile) -> Voxels | None:
    about = file.imagej_metadata
    if not about:
        return None
    unit, tags = _unit(str(about["unit"])), file.pages.first.tags
    y, x = (
        unit * tags[f"{axis}Resolution"].value[1] / tags[f"{axis}Resolution"].value[0] for axis in "YX"
    )  # pixels a unit, as a fraction
    return unit * float(about["spacing"]), y, x
