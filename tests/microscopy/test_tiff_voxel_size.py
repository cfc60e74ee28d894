"""Voxel sizes that TIFF files state, in the words of different programs; the files are written by tifffile."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile

import nephros
from nephros.errors import FileError
from nephros.microscopy.reader import open_stack
from nephros.microscopy.synthetic import SyntheticStack
from nephros.microscopy.tiff_voxel_size import micrometers_per_unit, voxel_size_of_tiff
from nephros.microscopy.voxel_size import VoxelSize

VOLUME = np.random.default_rng(0).integers(0, 4000, (5, 12, 16)).astype(np.uint16)


def _imagej(path: Path, resolution: tuple[float, float] = (2, 4), **metadata: Any) -> VoxelSize | None:
    metadata = {"axes": "ZYX", **metadata}
    tifffile.imwrite(path, VOLUME, imagej=True, resolution=resolution, metadata=metadata)
    return open_stack(path).voxel_size


@pytest.mark.parametrize(
    ("name", "micrometers"),
    [
        *(
            (name, 1)
            for name in ("micron", "microns", "um", "µm", "μm", "\\u00B5m", "Micrometer", "micrometre", " UM ")
        ),
        *((name, 1) for name in ("micrometers", "micrometres", "Âµm", "um.", "[um]", "µ")),
        *((name, 1e-3) for name in ("nm", "nanometer", "nanometres")),
        *((name, 1e3) for name in ("mm", "millimeter", "millimetres")),
        *((name, 1e6) for name in ("m", "meter", "metres")),
        *((name, 25400) for name in ("inch", "inches")),
        *((name, 1e-4) for name in ("Å", "angstrom")),
    ],
)
def test_units_are_known_in_every_usual_spelling(name: str, micrometers: float) -> None:
    assert micrometers_per_unit(name) == pytest.approx(micrometers)


@pytest.mark.parametrize("name", ["pixel", "pixels", "", "voxel", "sec", "gray value"])
def test_other_words_are_no_units_of_length(name: str, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        micrometers_per_unit(name)
    assert _imagej(tmp_path / "a.tif", unit=name, spacing=1.5) is None


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"unit": "micron"}, (1, 0.25, 0.5)),
        ({"unit": "um", "spacing": -1.5}, (1.5, 0.25, 0.5)),
        ({"unit": "micrometre", "spacing": 0.3}, (0.3, 0.25, 0.5)),
        ({"unit": "um", "zunit": "nm", "spacing": 300}, (0.3, 0.25, 0.5)),
        ({"unit": "um", "yunit": "mm", "spacing": 1}, None),
        ({"spacing": 1.5}, None),
        ({"unit": "um", "spacing": "about 1"}, None),
    ],
)
def test_imagej_states_what_differs_from_one(
    metadata: dict[str, Any], expected: VoxelSize | None, tmp_path: Path
) -> None:
    assert _imagej(tmp_path / "a.tif", **metadata) == (expected and pytest.approx(expected, rel=1e-4))


def test_other_units_than_micrometers_are_converted(tmp_path: Path) -> None:
    size = _imagej(tmp_path / "a.tif", (1 / 260, 1 / 250), unit="nm", spacing=800)
    assert size == pytest.approx((0.8, 0.25, 0.26), rel=1e-4)


@pytest.mark.parametrize(
    "metadata",
    [
        {"spacing": 1.5, "unit": "um"},
        {"PhysicalSizeZ": 1.5, "PhysicalSizeY": 0.25, "PhysicalSizeX": 0.5},
        {"PhysicalSizeZ": 1500, "PhysicalSizeZUnit": "nm", "PhysicalSizeY": 0.25, "PhysicalSizeX": 0.5},
    ],
)
def test_what_people_tell_tifffile_is_found(metadata: dict[str, Any], tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", **metadata}
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, photometric="minisblack", resolution=(2, 4), metadata=metadata)
    assert open_stack(tmp_path / "a.tif").voxel_size == pytest.approx((1.5, 0.25, 0.5), rel=1e-4)


@pytest.mark.parametrize("unit", ["um", "micrometer", "microns"])
def test_ome_units_are_known_too(unit: str, tmp_path: Path) -> None:
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (1.5, 0.25, 0.5), strict=True)}
    units = {f"PhysicalSize{axis}Unit": unit for axis in "ZYX"}
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, VOLUME, photometric="minisblack", ome=True, metadata={"axes": "ZYX", **sizes})
    comment = str(tifffile.tiffcomment(path))
    for axis in "ZYX":
        comment = comment.replace(f'PhysicalSize{axis}="', f'PhysicalSize{axis}Unit="{units[f"PhysicalSize{axis}Unit"]}" '
                                                           f'PhysicalSize{axis}="')  # fmt: skip
    tifffile.tiffcomment(path, comment.encode())
    assert open_stack(path).voxel_size == pytest.approx((1.5, 0.25, 0.5))


def test_micromanagers_tag_is_read(tmp_path: Path) -> None:
    tag = json.dumps({"PixelSizeUm": 0.25, "z-step_um": -2.0}).encode()
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in VOLUME:
            writer.write(page, photometric="minisblack", metadata=None, extratags=[(51123, "s", 0, tag, True)])
    assert open_stack(tmp_path / "a.tif").voxel_size == (2.0, 0.25, 0.25)


VENDORS: dict[str, dict[str, Any]] = {
    "lsm": {"VoxelSizeZ": 1.5e-6, "VoxelSizeY": 0.25e-6, "VoxelSizeX": 0.5e-6},
    "stk": {"CalibrationUnits": "um", "XCalibration": 0.5, "YCalibration": 0.25, "ZDistance": np.array([1.5, 1.5])},
    "fluoview": {
        "Dimensions": [
            ("X", 16, 0.0, 0.5, "um"),
            ("Y", 12, 0.0, 0.25, "um"),
            ("Z", 5, 0.0, 1.5, "um"),
            ("Ch", 2, 0.0, 1.0, ""),
        ]
    },
    "micromanager": {"Summary": {"PixelSize_um": 0.5, "z-step_um": 1.5}},
    "scanimage": {
        "FrameData": {
            "SI.hRoiManager.imagingFovUm": [[0, 0], [8, 0], [8, 3], [0, 3]],
            "SI.hStackManager.stackZStepSize": 1.5,
        }
    },
}


@pytest.mark.parametrize("vendor", VENDORS)
def test_vendors_metadata_are_read(vendor: str) -> None:
    """As tifffile returns them; it can't write such files."""
    names = ("ome", "imagej", "shaped", "lsm", "stk", "fluoview", "micromanager", "scanimage")
    metadata = {f"{name}_metadata": VENDORS[name] if name == vendor else None for name in names}
    page = SimpleNamespace(tags={}, imagelength=12, imagewidth=16)
    size = voxel_size_of_tiff(SimpleNamespace(pages=SimpleNamespace(first=page), **metadata))  # type: ignore[arg-type]
    assert size == pytest.approx((1.5, 0.5 if vendor == "micromanager" else 0.25, 0.5))


def test_a_voxel_size_that_contradicts_the_file_is_warned_of(tmp_path: Path) -> None:
    pixels = np.stack([pixels for pixels, _ in SyntheticStack((12, 90, 90)).slices()])
    metadata = {"axes": "ZYX", "unit": "um", "spacing": 1.0}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, imagej=True, resolution=(2, 2), metadata=metadata)

    def warnings(voxel_size: VoxelSize | None) -> list[str]:
        notes = nephros.predict(path, voxel_size=voxel_size).notes
        return [note for note in notes if "`voxel_size`" in note]

    assert warnings(None) == warnings((1.0, 0.5, 0.505)) == []
    (other,) = warnings((1.0, 0.6, 0.6))
    assert "1 x 0.5 x 0.5" in other
    assert "1 x 0.6 x 0.6" in other
    assert "another order" not in other
    assert "another order" in warnings((0.5, 0.5, 1.0))[0]
    prepared = nephros.prepare(path, tmp_path / "cells.npz", voxel_size=(1.0, 0.6, 0.6))
    assert any("`voxel_size` is used" in warning for warning in prepared.metadata.warnings)


def test_predict_takes_the_channel_and_the_voxel_size(tmp_path: Path) -> None:
    pixels = np.stack([pixels for pixels, _ in SyntheticStack((12, 90, 90)).slices()])
    both = np.stack([np.zeros_like(pixels) + np.arange(90, dtype=np.uint16), pixels])
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, both, photometric="minisblack", metadata={"axes": "CZYX"})
    assert "channel" in nephros.predict(path).errors[0]
    assert "voxel_size" in nephros.predict(path, channel=1).errors[0]
    predictions = nephros.predict(path, channel=1, voxel_size=(1.0, 0.5, 0.5))
    prepared = nephros.prepare(path, tmp_path / "cells.npz", channel=1, voxel_size=(1.0, 0.5, 0.5))
    assert not predictions.errors
    assert [row.source.index for row in predictions.rows()] == prepared.ids.tolist()
    assert "channel" in nephros.predict(path, channel=2, voxel_size=(1.0, 0.5, 0.5)).errors[0]


def test_pixels_without_a_step_along_z_are_noted(tmp_path: Path) -> None:
    sides = {"PhysicalSizeX": 0.4, "PhysicalSizeY": 500, "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", VOLUME, photometric="minisblack", metadata={"axes": "ZYX", **sides})
    stack = open_stack(tmp_path / "a.ome.tif")
    assert stack.voxel_size is None
    assert "0.5 x 0.4 micrometers" in stack.notes[-1]
    tifffile.imwrite(tmp_path / "b.ome.tif", VOLUME[0], metadata={"axes": "YX", **sides})
    single = open_stack(tmp_path / "b.ome.tif")
    assert single.voxel_size == pytest.approx((1.0, 0.5, 0.4))
    assert "one slice" in single.notes[-1]


def test_a_step_that_imagej_left_out_is_noted(tmp_path: Path) -> None:
    assert _imagej(tmp_path / "a.tif", unit="um") == pytest.approx((1, 0.25, 0.5), rel=1e-4)
    assert "no step along z" in open_stack(tmp_path / "a.tif").notes[-1]
    assert "1 x 0.25 x 0.5 micrometers" in open_stack(tmp_path / "a.tif").notes[-1]
    _imagej(tmp_path / "b.tif", unit="um", spacing=1)
    assert not open_stack(tmp_path / "b.tif").notes
    tifffile.imwrite(tmp_path / "c.tif", VOLUME[0], imagej=True, resolution=(2, 4), metadata={"unit": "um"})
    single = open_stack(tmp_path / "c.tif")
    assert single.voxel_size == pytest.approx((1, 0.25, 0.5), rel=1e-4)
    assert "one slice" in single.notes[-1]


@pytest.mark.parametrize("is_plain", [True, False])
def test_slices_that_imagej_saved_one_by_one_have_no_step(is_plain: bool, tmp_path: Path) -> None:
    folder = tmp_path / "slices"
    folder.mkdir()
    for z, pixels in enumerate(VOLUME):  # as ImageJ saves an image sequence: without images, slices and spacing
        description = "ImageJ=1.54f\nunit=\\u00B5m\nmin=0.0\nmax=4000.0\n"
        tifffile.imwrite(
            folder / f"z{z}.tif", pixels, resolution=(2, 4), description=description, metadata=None,
            compression=None if is_plain else "zlib",
        )  # fmt: skip
    stack = open_stack(folder)
    assert stack.voxel_size is None
    with pytest.raises(FileError, match=r"pixels of 0\.25 x 0\.5 micrometers .* no step along z; give `voxel_size`"):
        nephros.prepare(folder, tmp_path / "cells.npz")
