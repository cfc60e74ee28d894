"""Voxel sizes in nanometers are read; those in pixels, or of no plausible length, are named in the error that asks for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import nephros
from nephros.errors import FileError
from nephros.microscopy.reader import open_stack
from nephros.microscopy.synthetic import SyntheticStack
from tests.command_line import run_cli
from tests.microscopy.zarr_samples import write_image

PIXELS, MASK = (np.stack(part) for part in zip(*SyntheticStack((7, 50, 60)).slices(), strict=True))
Write = Callable[[Path], Path]


def _ome(z: float, yx: float, unit: str | None, z_unit: str | None = None, compression: str | None = None) -> Write:
    def write(folder: Path) -> Path:
        metadata: dict[str, Any] = {"axes": "ZYX", "PhysicalSizeZ": z, "PhysicalSizeY": yx, "PhysicalSizeX": yx}
        units = {} if unit is None else {"Z": z_unit or unit, "Y": unit, "X": unit}
        metadata |= {f"PhysicalSize{axis}Unit": name for axis, name in units.items()}
        path = folder / "s.ome.tif"
        tifffile.imwrite(path, PIXELS, photometric="minisblack", compression=compression, metadata=metadata)
        return path

    return write


def _imagej(z: float, yx: float, unit: str) -> Write:
    def write(folder: Path) -> Path:
        metadata = {"axes": "ZYX", "spacing": z, "unit": unit}
        tifffile.imwrite(folder / "s.tif", PIXELS, imagej=True, resolution=(1 / yx, 1 / yx), metadata=metadata)
        return folder / "s.tif"

    return write


def _zarr(unit: str | None) -> Write:
    return lambda folder: write_image(folder / "s.zarr", PIXELS, unit=unit)


@pytest.mark.parametrize(
    "write", [_ome(1000, 500, "nm"), _ome(1000, 0.5, "µm", "nm"), _ome(1e4, 5e3, "Å"), _imagej(1000, 500, "nm")]
)
def test_other_units_are_converted(write: Write, tmp_path: Path) -> None:
    assert open_stack(write(tmp_path)).voxel_size == pytest.approx((1, 0.5, 0.5), rel=1e-4)


STATEMENTS: dict[str, tuple[Write, str]] = {
    "OME, pixels": (_ome(2, 1, "pixel"), "'pixel'"),
    "OME, pixels, in a worker process": (_ome(2, 1, "pixel", compression="zlib"), "'pixel'"),
    "OME, reference frame": (_ome(2, 1, "reference frame"), "'reference frame'"),
    "OME, nanometers that lost their unit": (_ome(1000, 500, None), "1000 x 500 x 500 micrometers"),
    "OME, micrometers in the place of meters": (_ome(1e-6, 5e-7, None), "1e-06 x 5e-07 x 5e-07 micrometers"),
    "ImageJ, pixels": (_imagej(2, 0.5, "pixel"), "'pixel'"),
    "Zarr, pixels": (_zarr("pixel"), "1 x 0.5 x 0.5 pixel"),
    "Zarr, no unit": (_zarr(None), "without a unit"),
    "Zarr, implausible": (_zarr("nanometer"), "1 x 0.5 x 0.5 nanometer"),
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("name", STATEMENTS)
def test_what_the_file_states_is_in_the_error(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write, expected = STATEMENTS[name]
    path = write(tmp_path)
    tifffile.imwrite(tmp_path / "m.tif", MASK.astype(np.uint16), photometric="minisblack")
    args = ["data", "prepare", str(path), "--mask", str(tmp_path / "m.tif"), "--out", str(tmp_path / "c.npz")]
    status, _, err = run_cli(args, capsys)
    assert status == 2
    assert expected in err
    assert ("not a plausible size" in err) is (name != "Zarr, no unit")
    assert "--voxel-size" in err
    status, _, err = run_cli([*args, "--voxel-size", "1,0.5,0.5"], capsys)
    assert status == 0, err


def test_a_file_that_states_nothing_says_so(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "s.tif", PIXELS, photometric="minisblack")
    assert open_stack(tmp_path / "s.tif").implausible_size == ""
    with pytest.raises(FileError, match="doesn't say how large"):
        nephros.prepare(tmp_path / "s.tif", tmp_path / "c.npz")
