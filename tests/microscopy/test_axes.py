"""Channels, slices and color planes that files written by tifffile confuse: asked for, and named by `axes` or `channel`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import nephros
from nephros.errors import FileError, IncompatibleError, InvalidArgument
from nephros.microscopy.reader import open_stack
from nephros.microscopy.stack import Stack
from nephros.microscopy.synthetic import SyntheticStack

VOLUME = np.random.default_rng(0).integers(0, 4000, (6, 12, 16)).astype(np.uint16)
DEFAULTS: dict[str, dict[str, Any]] = {"imagej.tif": {"imagej": True}, "default.ome.tif": {"photometric": "minisblack"}}


def _read(stack: Stack) -> np.ndarray[Any, Any]:
    return np.stack(list(stack.slices()))


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_slices_saved_as_channels_are_asked_for_and_read_by_axes(
    name: str, compression: str | None, tmp_path: Path
) -> None:
    compressed = None if name == "imagej.tif" else compression
    tifffile.imwrite(tmp_path / name, VOLUME, compression=compressed, **DEFAULTS[name])
    with pytest.raises(FileError, match=r"6 channels and one slice; set `channel` .*slices.* `axes` to ZYX"):
        open_stack(tmp_path / name)
    assert np.array_equal(_read(open_stack(tmp_path / name, axes="ZYX")), VOLUME)
    single = open_stack(tmp_path / name, 2)
    assert np.array_equal(_read(single), VOLUME[2:3])
    assert "`axes` to ZYX" in single.notes[0]
    mask = open_stack(tmp_path / name, is_mask=True)
    assert np.array_equal(_read(mask), VOLUME)
    assert "slices of a mask" in mask.notes[0]


@pytest.mark.parametrize("n_slices", [3, 4])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_few_slices_saved_as_color_planes_are_named_and_read_by_axes(
    n_slices: int, compression: str | None, tmp_path: Path
) -> None:
    volume = VOLUME[:n_slices]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, volume, photometric="rgb", planarconfig="separate", compression=compression)
    with pytest.raises(FileError, match=rf"color image .*{n_slices} planes are slices, set `axes` to ZYX"):
        open_stack(path)
    assert np.array_equal(_read(open_stack(path, axes="ZYX")), volume)
    assert np.array_equal(_read(open_stack(path, 1, axes="CYX")), volume[1:2])
    assert np.array_equal(_read(open_stack(path, is_mask=True)), volume)


def test_time_points_and_nameless_dimensions_are_read_by_axes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "t.ome.tif", VOLUME, photometric="minisblack", metadata={"axes": "TYX"})
    with pytest.raises(FileError, match=r"time series.*`axes`"):
        open_stack(tmp_path / "t.ome.tif")
    assert np.array_equal(_read(open_stack(tmp_path / "t.ome.tif", axes="ZYX")), VOLUME)
    four = VOLUME.reshape(3, 2, 12, 16)
    tifffile.imwrite(tmp_path / "four.tif", four, photometric="minisblack")
    with pytest.raises(FileError, match=r"`axes`"):
        open_stack(tmp_path / "four.tif")
    assert np.array_equal(_read(open_stack(tmp_path / "four.tif", 1, axes="ZCYX")), four[:, 1])
    assert np.array_equal(_read(open_stack(tmp_path / "four.tif", 1, axes="CZYX")), four[1])


@pytest.mark.parametrize("axes", ["", "YX", "XYZ", "ZZYX", "CZYX", "zyx"])
def test_axes_that_dont_fit_are_refused(axes: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, imagej=True)
    with pytest.raises(InvalidArgument) as exc_info:
        open_stack(tmp_path / "a.tif", axes=axes)
    assert (exc_info.value.parameter, exc_info.value.value) == ("axes", axes)


def test_a_mask_with_as_many_slices_as_the_stack_has_channels(tmp_path: Path) -> None:
    pixels, mask = (np.stack(part) for part in zip(*SyntheticStack((12, 90, 90)).slices(), strict=True))
    metadata = {"unit": "um", "spacing": 1.0}
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, resolution=(2, 2), metadata=metadata)
    tifffile.imwrite(tmp_path / "mask.tif", mask.astype(np.uint16), imagej=True)
    files: dict[str, Any] = {"out": tmp_path / "cells.npz", "mask": tmp_path / "mask.tif"}
    with pytest.raises(IncompatibleError, match=r"12 slices, .* set `axes` to ZYX"):
        nephros.prepare(tmp_path / "a.tif", channel=0, **files)
    result = nephros.prepare(tmp_path / "a.tif", axes="ZYX", **files)
    assert result.ids.tolist() == np.unique(mask)[1:].tolist()
    assert result.metadata.stack.axes == "ZYX"


CELL = np.random.default_rng(0).integers(0, 255, (28, 28)).astype(np.uint8)
COMPOSITES: dict[str, dict[str, Any]] = {
    "ij.tif": {"imagej": True, "metadata": {"axes": "CYX", "mode": "composite"}},
    "c.ome.tif": {"photometric": "minisblack", "metadata": {"axes": "CYX"}},
    "shaped.tif": {"photometric": "minisblack", "metadata": {"axes": "CYX"}},
}


@pytest.mark.parametrize("name", COMPOSITES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_channels_of_a_cell_are_not_cells(name: str, dtype: type, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / name, np.stack([CELL // 2, CELL, CELL // 3]).astype(dtype), **COMPOSITES[name])
    tifffile.imwrite(tmp_path / "one.tif", CELL.astype(dtype))
    refused = nephros.predict(tmp_path / name)
    assert len(refused) == 1
    assert "3 channels" in refused.errors[0]
    assert "`channel`" in refused.errors[0]
    chosen, single = nephros.predict(tmp_path / name, channel=1), nephros.predict(tmp_path / "one.tif")
    assert not chosen.errors
    assert np.array_equal(chosen.probabilities, single.probabilities)
    assert "channels" in nephros.predict(tmp_path / name, channel=3).errors[0]


def test_many_channels_of_cell_size_are_cells_and_noted(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([CELL] * 12), imagej=True)
    predictions = nephros.predict(tmp_path / "a.tif")
    assert len(predictions) == 12
    assert not predictions.errors
    assert any("12 channels" in note for note in predictions.notes)


COLOR_LAYOUTS: dict[str, dict[str, Any]] = {
    "interleaved": {},
    "compressed": {"compression": "zlib"},
    "pages of their own": {"metadata": None},
    "planes": {"planarconfig": "separate"},
    "compressed planes": {"planarconfig": "separate", "compression": "zlib"},
}


@pytest.mark.parametrize("layout", COLOR_LAYOUTS)
def test_a_color_plane_of_a_stack_is_chosen_by_channel(layout: str, tmp_path: Path) -> None:
    planes = [VOLUME, VOLUME[::-1], VOLUME[:, ::-1]]
    axis = 1 if "planarconfig" in COLOR_LAYOUTS[layout] else -1
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack(planes, axis=axis), photometric="rgb", **COLOR_LAYOUTS[layout])
    with pytest.raises(FileError, match=r"color image.*`channel`"):
        open_stack(path)
    for channel, plane in enumerate(planes):
        stack = open_stack(path, channel)
        assert (stack.channel, stack.n_channels) == (channel, 3)
        assert not any("mask" in note for note in stack.notes)
        assert np.array_equal(_read(stack), plane)
    with pytest.raises(InvalidArgument, match="from 0 to 2"):
        open_stack(path, 3)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_stacks_are_read_as_stored_whatever_they_look_like(compression: str | None, tmp_path: Path) -> None:
    small = (VOLUME // 16).astype(np.uint8)
    green = np.zeros((3, 256), dtype=np.uint16)
    green[1] = np.arange(256) * 257
    for name, kwargs, word in (
        ("white.tif", {"photometric": "miniswhite"}, "as stored"),
        ("lut.tif", {"photometric": "palette", "colormap": green}, "look-up table"),
    ):
        tifffile.imwrite(tmp_path / name, small, compression=compression, **kwargs)
        stack = open_stack(tmp_path / name)
        assert np.array_equal(_read(stack), small)
        assert word in stack.notes[-1]
        assert not open_stack(tmp_path / name, is_mask=True).notes
    colors = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "colors.tif", small, photometric="palette", colormap=colors, compression=compression)
    with pytest.raises(FileError, match="palette of colors"):
        open_stack(tmp_path / "colors.tif")


def test_channels_are_asked_for_by_name(tmp_path: Path) -> None:
    path = tmp_path / "c.ome.tif"
    metadata = {"axes": "CZYX", "Channel": {"Name": ["DAPI", "Cy3"]}}
    tifffile.imwrite(path, np.stack([VOLUME, VOLUME // 2]), photometric="minisblack", metadata=metadata)
    with pytest.raises(FileError, match=r"0 DAPI, 1 Cy3"):
        open_stack(path)


def test_a_colored_mask_is_refused_and_not_asked_for_a_channel(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", np.stack([VOLUME] * 3, -1), photometric="rgb")
    with pytest.raises(FileError, match="labels themselves") as caught:
        open_stack(tmp_path / "m.tif", is_mask=True)
    assert "`channel`" not in str(caught.value)


def test_imagej_s_signed_stack_gets_its_sign(tmp_path: Path) -> None:
    signed = VOLUME.astype(np.int32) - 900
    stored = (signed + 32768).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "s.tif", stored, imagej=True, metadata={"axes": "ZYX", "cf": 0, "c0": -32768.0, "c1": 1.0}
    )
    stack = open_stack(tmp_path / "s.tif")
    assert np.array_equal(_read(stack), signed)
    assert stack.dtype == np.int32
    assert "32,768" in stack.notes[-1]


def test_dimensions_in_another_order_are_named(tmp_path: Path) -> None:
    pixels, mask = (np.stack(part) for part in zip(*SyntheticStack((12, 90, 90)).slices(), strict=True))
    np.save(tmp_path / "yxz.npy", np.ascontiguousarray(np.moveaxis(pixels, 0, -1)))
    np.save(tmp_path / "mask.npy", np.ascontiguousarray(np.moveaxis(mask, 0, -1)))
    result = nephros.prepare(tmp_path / "yxz.npy", tmp_path / "c.npz", mask=tmp_path / "mask.npy", resample=False)
    assert any("90 slices of 12x90" in warning for warning in result.metadata.warnings)
    with pytest.raises(InvalidArgument) as caught:
        nephros.prepare(tmp_path / "yxz.npy", tmp_path / "d.npz", mask=tmp_path / "yxz.npy", resample=False)
    assert caught.value.parameter == "mask"
    np.save(tmp_path / "a_seg.npy", np.array({"masks": mask}, dtype=object), allow_pickle=True)
    with pytest.raises(FileError, match="cellpose"):
        open_stack(tmp_path / "a_seg.npy", is_mask=True)


@pytest.mark.parametrize("kwargs", [{}, {"contiguous": False}, {"compression": "zlib"}])
@pytest.mark.parametrize("is_mask", [False, True])
def test_slices_written_one_by_one_are_a_stack(tmp_path: Path, kwargs: dict[str, Any], is_mask: bool) -> None:
    path = tmp_path / "pages.tif"
    with tifffile.TiffWriter(path) as file:
        for plane in VOLUME:
            file.write(plane, **kwargs)
    stack = open_stack(path, is_mask=is_mask)
    assert np.array_equal(_read(stack), VOLUME)
    assert "taken for slices" in stack.notes[-1]
    assert open_stack(path, image=2).shape == (1, *VOLUME.shape[1:])
    path.unlink()
    for plane in VOLUME:
        tifffile.imwrite(path, plane, append=True)
    assert np.array_equal(_read(open_stack(path)), VOLUME)


def test_time_points_of_a_mask_are_its_slices(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", VOLUME, imagej=True, metadata={"axes": "TYX"})
    mask = open_stack(tmp_path / "m.tif", is_mask=True)
    assert np.array_equal(_read(mask), VOLUME)
    assert "6 time points" in mask.notes[-1]
    np.savez(tmp_path / "m.npz", VOLUME)
    with pytest.raises(FileError, match="an npz file, which"):
        open_stack(tmp_path / "m.npz", is_mask=True)
