"""The voxel size that a TIFF file states, in the metadata of OME, ImageJ, tifffile or a microscope's software."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from nephros.microscopy.voxel_size import NOT_PLAUSIBLE, VoxelSize, is_plausible_side

if TYPE_CHECKING:
    from tifffile import TiffFile

_Reader = Callable[["TiffFile"], VoxelSize | None]

_PREFIXES = {"": 1e6, "deci": 1e5, "centi": 1e4, "milli": 1e3, "micro": 1.0, "nano": 1e-3, "pico": 1e-6}
_MICROMETERS_PER_UNIT = {
    **{prefix + name: scale for prefix, scale in _PREFIXES.items() for name in ("meter", "metre", "meters", "metres")},
    **dict.fromkeys(("m", "si"), 1e6),
    "dm": 1e5,
    "cm": 1e4,
    "mm": 1e3,
    **dict.fromkeys(("µm", "um", "µ", "u", "mu", "mum", "mcm", "micron", "microns", "µms", "ums", "\ufffdm"), 1.0),
    **dict.fromkeys(("nm", "nms"), 1e-3),
    "pm": 1e-6,
    **dict.fromkeys(("å", "\u212b", "a", "ang", "angstrom", "angstroms", "ångström", "ångströms"), 1e-4),
    **dict.fromkeys(("in", "inch", "inches", '"'), 25400.0),
}
_ERRORS = (
    ElementTree.ParseError, StopIteration, LookupError, TypeError, ValueError, ArithmeticError, AttributeError
)  # fmt: skip
"""What metadata of another form than expected raise."""


def voxel_size_of_tiff(file: TiffFile) -> VoxelSize | None:
    """Return the voxel size that a file states, or None where a side is missing or implausible."""
    return next((sides for _, sides in _stated_sides(file) if all(map(is_plausible_side, sides))), None)


def leaves_out_step(file: TiffFile) -> bool:
    """Return whether the voxel size of a file has a step along z that is not in it: ImageJ leaves out a step of 1."""
    readers = (read for read, sides in _stated_sides(file) if all(map(is_plausible_side, sides)))
    return next(readers, None) is _read_imagej and "spacing" not in (file.imagej_metadata or {})


def pixel_size_of_tiff(file: TiffFile) -> tuple[float, float] | None:
    """Return the height and width of a pixel in micrometers, where a file states these but no step along z; else None."""
    sides = next((sides for _, sides in _stated_sides(file)), None)
    return sides[1:] if sides and math.isnan(sides[0]) and all(map(is_plausible_side, sides[1:])) else None


def implausible_size_of_tiff(file: TiffFile) -> str:
    """Return what a file states of its voxels if that can't be used or is not all, and why; empty if it states nothing."""
    for read in _readers():
        try:
            sides = read(file)
        except _UnknownUnit as error:
            return f"voxels in {error.unit!r}, {NOT_PLAUSIBLE}"
        except _ERRORS:
            continue
        if sides and all(map(math.isfinite, sides)) and not all(is_plausible_side(abs(side)) for side in sides):
            text = " x ".join(f"{side:.4g}" for side in sides)
            return f"voxels of {text} micrometers (z, y, x), {NOT_PLAUSIBLE}"
    pixel_size = pixel_size_of_tiff(file)
    return f"{format_pixel_size(pixel_size)}, but no step along z" if pixel_size else ""


def format_pixel_size(pixel_size: tuple[float, float]) -> str:
    """Return such as ``pixels of 0.5 x 0.5 micrometers (y, x)``."""
    return f"pixels of {pixel_size[0]:.4g} x {pixel_size[1]:.4g} micrometers (y, x)"


def _stated_sides(file: TiffFile) -> Iterator[tuple[_Reader, VoxelSize]]:
    """Yield what the metadata of each kind state of z, y and x, in micrometers; a step along z that is unknown as NaN."""
    for read in _readers():
        try:
            if sides := read(file):
                # A stage that moves downwards has negative steps.
                yield read, (abs(sides[0]), abs(sides[1]), abs(sides[2]))
        except _ERRORS:
            continue


def _readers() -> Sequence[_Reader]:
    return _read_ome, _read_imagej, _read_tifffile, *_VENDORS


class _UnknownUnit(KeyError):
    """A word that is not a unit of length."""

    def __init__(self, unit: str) -> None:
        super().__init__(unit)
        self.unit = unit[:40]


def micrometers_per_unit(name: str) -> float:
    """Return the length of a unit, in any usual spelling; raise KeyError for other words, such as ``pixel``."""
    text = (
        name.replace("\\u00B5", "µ")
        .replace("\\u00b5", "µ")
        .replace("\\xB5", "µ")
        .replace("\u03bc", "µ")
        .replace("Â", "")
    )
    scale = _MICROMETERS_PER_UNIT.get(text.strip(" \t\r\n\0.[]()").lower().replace("μ", "µ"))
    if scale is None:
        raise _UnknownUnit(name)
    return scale


def _read_ome(file: TiffFile) -> VoxelSize | None:
    if not file.ome_metadata:
        return None
    elements = ElementTree.fromstring(file.ome_metadata).iter()
    pixels = next(element for element in elements if element.tag.rpartition("}")[2] == "Pixels")
    return _physical_sizes(pixels.attrib)


def _physical_sizes(attributes: Mapping[str, Any]) -> VoxelSize:
    """Read OME's three attributes, in micrometers where they name no unit; NaN for a missing z."""
    attributes = {"PhysicalSizeZ": math.nan, **attributes}
    z, y, x = (
        float(attributes[f"PhysicalSize{axis}"])
        * micrometers_per_unit(str(attributes.get(f"PhysicalSize{axis}Unit") or "µm"))
        for axis in "ZYX"
    )
    return z, y, x


def _read_imagej(file: TiffFile) -> VoxelSize | None:
    imagej = file.imagej_metadata
    if not imagej:
        return None
    # ImageJ leaves out the units of y and z where they are that of x, and the step where it is 1 or there is a single image,
    # such as a slice that is saved by itself.
    step = float(imagej.get("spacing", 1.0 if int(imagej.get("images", 1)) > 1 else math.nan))
    unit = str(imagej["unit"])
    z_unit, y_unit = (micrometers_per_unit(str(imagej.get(f"{axis}unit") or unit)) for axis in "zy")
    y, x = _pixel_sides(file)
    return z_unit * step, y_unit * y, micrometers_per_unit(unit) * x


def _pixel_sides(file: TiffFile) -> tuple[float, float]:
    """Return the height and width of a pixel, in units; the tags hold pixels per unit, as a fraction."""
    tags = file.pages.first.tags
    y, x = (tags[f"{axis}Resolution"].value[1] / tags[f"{axis}Resolution"].value[0] for axis in "YX")
    return y, x


def _read_tifffile(file: TiffFile) -> VoxelSize | None:
    """Read tifffile's own JSON, in which people write the words of OME or of ImageJ."""
    metadata = (file.shaped_metadata or ())[0]
    if "PhysicalSizeX" in metadata:
        return _physical_sizes(metadata)
    unit, (y, x) = micrometers_per_unit(str(metadata["unit"])), _pixel_sides(file)
    return unit * float(metadata["spacing"]), unit * y, unit * x


def _read_lsm(file: TiffFile) -> VoxelSize | None:
    """Read Zeiss LSM's sizes, which are in meters."""
    lsm = file.lsm_metadata
    return (lsm["VoxelSizeZ"] * 1e6, lsm["VoxelSizeY"] * 1e6, lsm["VoxelSizeX"] * 1e6) if lsm else None


def _read_metamorph(file: TiffFile) -> VoxelSize | None:
    stk = file.stk_metadata
    if not stk:
        return None
    unit, steps = micrometers_per_unit(str(stk["CalibrationUnits"])), stk["ZDistance"]
    return unit * float(steps[0]), unit * float(stk["YCalibration"]), unit * float(stk["XCalibration"])


def _read_fluoview(file: TiffFile) -> VoxelSize | None:
    """Read Olympus FluoView's dimensions: name, size, origin, step, unit."""
    fluoview = file.fluoview_metadata
    if not fluoview:
        return None
    sides = {str(name).strip(" \0").upper(): step * micrometers_per_unit(str(unit)) for name, _, _, step, unit in (
        dimension for dimension in fluoview["Dimensions"] if str(dimension[0]).strip(" \0").upper() in ("X", "Y", "Z")
    )}  # fmt: skip
    return sides["Z"], sides["Y"], sides["X"]


def _read_micromanager(file: TiffFile) -> VoxelSize | None:
    """Read Micro-Manager's pixel size and z step, in the summary or in the tag of the first page."""
    metadata = file.micromanager_metadata or {}
    tag = file.pages.first.tags.get(51123)
    values: dict[str, Any] = {**(tag.value if tag is not None else {}), **metadata.get("Summary", {})}
    pixel = float(values.get("PixelSize_um") or values["PixelSizeUm"])
    return float(values["z-step_um"]), pixel, pixel


def _read_scanimage(file: TiffFile) -> VoxelSize | None:
    """Read ScanImage's z step; its field of view, in micrometers, gives the pixels."""
    scanimage = file.scanimage_metadata
    if not scanimage:
        return None
    frame: dict[str, Any] = scanimage["FrameData"]
    corners, page = frame["SI.hRoiManager.imagingFovUm"], file.pages.first
    width, height = corners[1][0] - corners[0][0], corners[2][1] - corners[1][1]
    step = frame.get("SI.hStackManager.actualStackZStepSize") or frame["SI.hStackManager.stackZStepSize"]
    return float(step), height / page.imagelength, width / page.imagewidth


_VENDORS: tuple[_Reader, ...] = (
    _read_lsm,
    _read_metamorph,
    _read_fluoview,
    _read_micromanager,
    _read_scanimage,
)
