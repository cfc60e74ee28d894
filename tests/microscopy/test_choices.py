"""Channels, images and time points by number or name, in TIFF files and folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from nephros.errors import FileError, InvalidArgument, UnknownName
from nephros.microscopy.choices import choose_index
from nephros.microscopy.reader import open_stack
from tests.microscopy.test_sequence_stack import write_slices

VOLUME = np.random.default_rng(0).integers(1, 4000, (3, 2, 4, 20, 24)).astype(np.uint16)


def _read(path: Path, **choice: Any) -> np.ndarray[Any, Any]:
    return np.stack(list(open_stack(path, **choice).slices()))


@pytest.mark.parametrize("choice", ["DAPI", "dapi", " DAPI ", "1", 1])
def test_a_name_or_a_number(choice: int | str) -> None:
    assert choose_index("channel", choice, ["GFP", "DAPI"], 2, "a.tif") == 1


def test_names_that_leave_it_open() -> None:
    assert choose_index("channel", "dapi", ["DAPI", "dapi"], 2, "a.tif") == 1
    assert choose_index("channel", "1", ["1", "0"], 2, "a.tif") == 0  # a name of digits goes before a number
    for choice, names in (("Dapi", ["DAPI", "dapi"]), ("x", ["x", "x"]), ("x", []), ("x", ["", ""]), ("²", ["a", "b"])):
        with pytest.raises(InvalidArgument) as error:
            choose_index("channel", choice, names, 2, "a.tif")
        assert (error.value.parameter, error.value.value) == ("channel", choice)
    with pytest.raises(UnknownName, match="Did you mean 'DAPI'"):
        choose_index("channel", "DAPPI", ["GFP", "DAPI"], 2, "a.tif")
    for number in (-1, 2, "2", 10**30):
        with pytest.raises(InvalidArgument):
            choose_index("channel", number, ["GFP", "DAPI"], 2, "a.tif")


def test_channels_of_ome_tiff_have_names(tmp_path: Path) -> None:
    metadata = {"axes": "CZYX", "Channel": {"Name": ["A & B", "DAPI"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", VOLUME[0], photometric="minisblack", metadata=metadata)
    assert np.array_equal(_read(tmp_path / "a.ome.tif", channel="DAPI"), VOLUME[0, 1])
    assert np.array_equal(_read(tmp_path / "a.ome.tif", channel="a & b"), VOLUME[0, 0])
    with pytest.raises(FileError, match=r"0 A & B, 1 DAPI"):
        open_stack(tmp_path / "a.ome.tif")
    with pytest.raises(UnknownName):
        open_stack(tmp_path / "a.ome.tif", "GFP")


def test_channels_of_each_image_have_names_of_their_own(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        for name, channels in (("left", ["DAPI", "GFP"]), ("right", ["GFP", "DAPI"])):
            metadata = {"axes": "CZYX", "Name": name, "Channel": {"Name": channels}}
            file.write(VOLUME[0], photometric="minisblack", metadata=metadata)
    assert open_stack(tmp_path / "a.ome.tif", "DAPI", image="right").channel == 1
    assert open_stack(tmp_path / "a.ome.tif", "DAPI", image=0).channel == 0
    with pytest.raises(UnknownName, match="left"):
        open_stack(tmp_path / "a.ome.tif", "DAPI", image="lefd")


def test_labels_of_imagej_name_channels(tmp_path: Path) -> None:
    labels = ["GFP", "DAPI"] * 4
    values = VOLUME[0].transpose(1, 0, 2, 3)
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata={"axes": "ZCYX", "Labels": labels})
    assert np.array_equal(_read(tmp_path / "a.tif", channel="dapi"), VOLUME[0, 1])
    tifffile.imwrite(tmp_path / "b.tif", values, imagej=True, metadata={"axes": "ZCYX", "Labels": ["same"] * 8})
    with pytest.raises(InvalidArgument):
        open_stack(tmp_path / "b.tif", "same")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_time_point_is_chosen(compression: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, VOLUME, photometric="minisblack", metadata={"axes": "TCZYX"}, compression=compression)
    assert np.array_equal(_read(path, channel=1, time_point=2), VOLUME[2, 1])
    assert open_stack(path, 0, time_point=1).time_point == 1
    for time_point in (3, -1):
        with pytest.raises(InvalidArgument) as error:
            open_stack(path, 0, time_point=time_point)
        assert (error.value.parameter, error.value.value) == ("time_point", time_point)
    with pytest.raises(FileError, match="`time_point` to one of 0 to 2"):
        open_stack(path, 0)


def test_dimensions_that_a_user_calls_time_points(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", VOLUME[:, 0], imagej=True)
    assert np.array_equal(_read(tmp_path / "a.tif", axes="TZYX", time_point=2), VOLUME[2, 0])
    with pytest.raises(FileError, match="`time_point`"):
        open_stack(tmp_path / "a.tif", axes="TZYX")
    np.save(tmp_path / "a.npy", VOLUME[0, 0])
    with pytest.raises(InvalidArgument):
        open_stack(tmp_path / "a.npy", time_point=1)


def test_channels_of_a_folder_have_names(tmp_path: Path) -> None:
    for name, volume in zip(("DAPI", "GFP"), VOLUME[0], strict=True):
        write_slices(tmp_path, volume, f"a_z{{:03d}}_{name}.tif")
    assert np.array_equal(_read(tmp_path, channel="gfp"), VOLUME[0, 1])
    with pytest.raises(UnknownName):
        open_stack(tmp_path, "Cy5")
