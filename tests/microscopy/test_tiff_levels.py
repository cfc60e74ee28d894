"""Levels of image pyramids in TIFF files, written by tifffile in each of the ways that it and bfconvert have."""

from __future__ import annotations

import logging
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import nephros
from nephros.annotation.project import Project
from nephros.errors import FileError, IncompatibleError, InvalidArgument
from nephros.microscopy.reader import open_stack, open_stack_with
from nephros.microscopy.stack import Stack, StackOptions
from nephros.microscopy.synthetic import SyntheticStack
from tests.command_line import run_cli
from tests.microscopy.zarr_samples import write_image

VOLUME = np.random.default_rng(0).integers(0, 4000, (6, 40, 36)).astype(np.uint16)
SIZES = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 1.0}
SHAPES = ((6, 40, 36), (6, 20, 18), (6, 10, 9))
KINDS: dict[str, dict[str, Any]] = {
    "OME": {"ome": True},
    "OME as bfconvert writes it": {"ome": True, "tile": (16, 16), "compression": "zlib", "bigtiff": True},
    "OME of two channels": {"ome": True, "axes": "CZYX"},
    "OME of time points": {"ome": True, "axes": "TZYX"},
    "tifffile's metadata": {},
    "no metadata": {"metadata": None},
    "smaller pages after the others": {"has_subifds": False},
    "smaller pages without metadata": {"has_subifds": False, "metadata": None},
    "levels of tifffile's default axes": {"level_metadata": {}},
}
"""What is written -> options of `write`."""


def write(
    path: Path,
    volume: Any = VOLUME,
    *,
    steps: tuple[int, ...] = (2, 4),
    axes: str = "ZYX",
    ome: bool = False,
    bigtiff: bool = False,
    has_subifds: bool = True,
    **options: Any,
) -> Path:
    """Write an image and its levels, each with every so-many-th row and column."""
    metadata = options.pop("metadata", {"axes": axes, **SIZES})
    level_metadata = options.pop("level_metadata", None if ome or metadata is None else {"axes": axes})
    with tifffile.TiffWriter(path, ome=ome, bigtiff=bigtiff) as writer:
        options["photometric"] = "minisblack"
        writer.write(volume, subifds=len(steps) if has_subifds else None, metadata=metadata, **options)
        for step in steps:
            level = np.ascontiguousarray(volume[..., ::step, ::step])
            writer.write(level, subfiletype=1, metadata=level_metadata, **options)
    return path


def read(stack: Stack) -> Any:
    return np.stack(list(stack.slices()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_level_is_chosen_by_number_or_voxel_size(kind: str, tmp_path: Path) -> None:
    axes = KINDS[kind].get("axes", "ZYX")
    volume = VOLUME if axes == "ZYX" else np.stack([VOLUME[::-1], VOLUME])
    path = write(tmp_path / "a.tif", volume, **KINDS[kind])
    choice: dict[str, Any] = {"CZYX": {"channel": 1}, "TZYX": {"time_point": 1}}.get(axes, {})
    has_sizes = KINDS[kind].get("metadata", SIZES) is not None
    for level, step in ((None, 1), (0, 1), (1, 2), ("2", 4), ("auto", 2 if has_sizes else 1)):
        stack = open_stack(path, level=level, **choice)
        assert np.array_equal(read(stack), VOLUME[:, ::step, ::step])
        assert (stack.shape, stack.level_shapes) == (SHAPES[stack.level], SHAPES)
        assert stack.voxel_size == ((1.0, 0.25 * step, 0.25 * step) if has_sizes else None)
        assert ["pyramid" in note for note in stack.notes] == ([] if has_sizes or level != "auto" else [True])
    for wrong in (3, "fine", "-1"):
        with pytest.raises(InvalidArgument) as error:
            open_stack(path, level=wrong, **choice)
        assert (error.value.parameter, "6 x 10 x 9" in str(error.value)) == ("level", True)


def test_sizes_that_are_no_multiples_keep_the_factor(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif", VOLUME[:, :39, :33], steps=(2, 4), ome=True)
    assert open_stack(path, level=2).voxel_size == (1.0, 1.0, 1.0)


def test_a_single_slice_and_color_planes_have_levels(tmp_path: Path) -> None:
    one = write(tmp_path / "one.ome.tif", VOLUME[0], axes="YX", ome=True)
    assert open_stack(one, level=1).shape == (1, 20, 18)
    pixels = np.stack([VOLUME[0], VOLUME[1], VOLUME[2]], axis=-1).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "rgb.ome.tif", ome=True) as writer:
        writer.write(pixels, subifds=1, photometric="rgb", metadata={"axes": "YXS", **SIZES})
        writer.write(pixels[::2, ::2], subfiletype=1, photometric="rgb")
    stack = open_stack(tmp_path / "rgb.ome.tif", 1, level=1)
    assert np.array_equal(read(stack)[0], pixels[::2, ::2, 1])


def test_each_image_has_levels_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for name, volume in (("position 1", VOLUME), ("position 2", VOLUME[::-1, :32])):
            volume = np.ascontiguousarray(volume)
            writer.write(volume, subifds=1, photometric="minisblack", metadata={"axes": "ZYX", "Name": name, **SIZES})
            writer.write(np.ascontiguousarray(volume[:, ::2, ::2]), subfiletype=1, photometric="minisblack")
    stack = open_stack(path, image="position 2", level=1)
    assert np.array_equal(read(stack), VOLUME[::-1, :32:2, ::2])


def test_images_of_other_kinds_are_no_levels(tmp_path: Path) -> None:
    """Reduced pages of other slices or pixels stay images of their own, as thumbnails are."""
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for pixels in (VOLUME, VOLUME[:3, ::2, ::2], (VOLUME[:, ::4, ::4] >> 8).astype(np.uint8)):
            metadata = {"axes": "ZYX"}
            writer.write(np.ascontiguousarray(pixels), subfiletype=1, photometric="minisblack", metadata=metadata)
    stack = open_stack(path)
    assert stack.level_shapes[0] == VOLUME.shape
    assert (6, 10, 9) not in stack.level_shapes
    assert "holds 2 images" in stack.notes[0]


def test_a_mask_takes_the_level_of_its_stack(tmp_path: Path) -> None:
    mask = write(tmp_path / "mask.ome.tif", VOLUME % 7, ome=True)
    for level, shape in enumerate(SHAPES):
        assert open_stack(mask, is_mask=True, shape=shape).level == level


def test_a_mask_of_another_level_names_the_level(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels, mask = (np.stack(part) for part in zip(*SyntheticStack((9, 71, 90)).slices(), strict=True))
    write(tmp_path / "s.ome.tif", pixels, ome=True)
    half = np.ascontiguousarray(mask[:, ::2, ::2]).astype(np.uint16)
    tifffile.imwrite(tmp_path / "m.tif", half, photometric="minisblack")
    args = ["data", "prepare", str(tmp_path / "s.ome.tif"), "--mask", str(tmp_path / "m.tif"), "--no-resample"]
    args += ["--out", str(tmp_path / "c.npz")]
    status, _, err = run_cli(args, capsys)
    assert (status, "set --level to 1" in err) == (2, True)
    assert run_cli([*args, "--level", "1"], capsys)[0] == 0
    with pytest.raises(IncompatibleError, match="set `level` to 1"):
        nephros.prepare(tmp_path / "s.ome.tif", tmp_path / "d.npz", mask=tmp_path / "m.tif", resample=False)


def test_a_level_that_is_cut_short_is_refused_when_it_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.ome.tif", ome=True)
    path.write_bytes(path.read_bytes()[:-900])  # the metadata are at the beginning, the last level at the end
    with caplog.at_level(logging.ERROR), pytest.raises(FileError):
        read(open_stack(path, level=2))


DAMAGE: dict[str, tuple[Any, type[Exception] | None, type[Exception]]] = {
    "beyond the end": (lambda n, page, page_offset: n + 1000, FileError, FileError),
    "of the page itself": (lambda n, page, page_offset: page_offset, None, InvalidArgument),
    "of nothing": (lambda n, page, page_offset: 0, None, InvalidArgument),
    "of nothing in one page": (lambda n, page, page_offset: 0 if page == 3 else None, None, FileError),
}
"""What is written in place of the places of the first level: by length of the file, page and its place; and the errors of levels
0 and 1, None where it is read."""


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_places_of_a_level(name: str, tmp_path: Path) -> None:
    change, *errors = DAMAGE[name]
    path = write(tmp_path / "a.ome.tif", ome=True)
    with tifffile.TiffFile(path) as file:
        places = [(page.tags[330].valueoffset, page.offset) for page in file.pages]  # type: ignore[union-attr]
    data = bytearray(path.read_bytes())
    for page, (place, page_offset) in enumerate(places):
        if (value := change(len(data), page, page_offset)) is not None:
            struct.pack_into("<I", data, place, value)
    path.write_bytes(data)
    for level, error in enumerate(errors):
        if error is None:
            assert np.array_equal(read(open_stack(path, level=level)), VOLUME)
        else:
            with pytest.raises(error):
                open_stack(path, level=level)


@pytest.mark.parametrize("kind", ["zarr", "zipped zarr", "tif", "ome.tif"])
def test_a_users_voxel_size_is_that_of_the_finest_level(kind: str, tmp_path: Path) -> None:
    """Of a store without units, and of TIFF files that say nothing, read in this process and in another one."""
    pixels, mask = (np.stack(part) for part in zip(*SyntheticStack((9, 140, 180)).slices(), strict=True))
    if "zarr" in kind:
        path = write_image(tmp_path / "K4.ome.zarr", pixels, n_levels=3, unit=None)
    else:
        is_ome = kind == "ome.tif"
        path = write(tmp_path / f"K4.{kind}", pixels, ome=is_ome, has_subifds=is_ome, metadata={"axes": "ZYX"})
    if kind == "zipped zarr":
        path = Path(shutil.make_archive(str(path), "zip", path))
    size = (1.0, 0.25, 0.25)
    assert open_stack_with(path, StackOptions(voxel_size=size, level="auto")).level == 1
    assert open_stack_with(path, StackOptions(voxel_size=(1.0, 0.125, 0.125), level="auto")).level == 2
    assert any("give `voxel_size`, or set `level`" in note for note in open_stack(path, level="auto").notes)
    tifffile.imwrite(tmp_path / "m.tif", mask[:, ::2, ::2].astype(np.uint16), photometric="minisblack")
    options: dict[str, Any] = {"mask": str(tmp_path / "m.tif"), "voxel_size": size}
    for level in (1, "auto"):
        metadata = nephros.prepare(path, tmp_path / "cells.npz", level=level, **options).metadata
        assert (metadata.stack.level, metadata.voxel_size_um) == (1, (1.0, 0.5, 0.5))
        assert metadata.resampling_step == (1.0, 1.0, 1.0)
    project = Project.create(tmp_path / "kidney")
    project.add_cells(path, level="auto", **options)
    (stack,) = project.info.stacks
    assert (stack.voxel_size, stack.level_step) == ((1.0, 0.5, 0.5), (1.0, 2.0, 2.0))
    assert project.add_cells(path, level="auto", **options).n_added == 0
    with pytest.raises(InvalidArgument) as error:
        project.add_cells(path, **options | {"voxel_size": (1.0, 0.5, 0.5)})
    assert error.value.parameter == "voxel_size"
