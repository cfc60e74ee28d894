"""Masks of single slices, joined to nuclei."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import nephros
from nephros.annotation.project import Project
from nephros.errors import FileError, InvalidArgument
from nephros.microscopy.masks import open_mask
from nephros.microscopy.stack import StackOptions
from nephros.workflows.overlay import overlay
from tests.microscopy.microscope_samples import tissue


def disc(z: int, y: int, x: int, number: int, values: NDArray[np.uint16], radius: int = 3) -> None:
    values[z, y - radius : y + radius, x - radius : x + radius] = number


def stitched(values: NDArray[np.uint16], tmp_path: Path, threshold: float = 0.25) -> NDArray[np.int32]:
    tifffile.imwrite(tmp_path / "mask.tif", values, photometric="minisblack")
    shape = (values.shape[0], values.shape[1], values.shape[2])
    return np.stack(list(open_mask(tmp_path / "mask.tif", shape, threshold).slices()))


def test_objects_that_overlap_are_one_and_others_are_not(tmp_path: Path) -> None:
    values = np.zeros((5, 40, 40), np.uint16)
    for z, number in ((0, 7), (1, 2), (2, 9), (4, 1)):  # not in slice 3: what follows a gap is another nucleus
        disc(z, 10, 10 + z, number, values)
    for z, number in ((1, 7), (2, 3)):  # moves too far from one slice to the next
        disc(z, 30, 8 + 20 * (z - 1), number, values)
    result = stitched(values, tmp_path)
    assert np.array_equal(result > 0, values > 0)
    assert [result[z, 10, 10 + z] for z in (0, 1, 2, 4)] == [1, 1, 1, 4]
    assert (result[1, 30, 8], result[2, 30, 28]) == (2, 3)


@pytest.mark.parametrize(("threshold", "n_ids"), [(0.5, 1), (0.49, 1), (0.51, 2), (1.0, 2)])
def test_the_threshold_is_intersection_over_union(threshold: float, n_ids: int, tmp_path: Path) -> None:
    values = np.zeros((2, 40, 40), np.uint16)
    values[0, 0:9, 0:10], values[1, 3:12, 0:10] = 1, 1  # 60 of 120 pixels
    assert stitched(values, tmp_path, threshold).max() == n_ids


def test_of_two_that_overlap_with_one_the_larger_overlap_continues_it(tmp_path: Path) -> None:
    values = np.zeros((3, 20, 40), np.uint16)
    values[0, 0:10, 0:20] = 1
    values[1, 0:10, 0:8], values[1, 0:10, 8:20] = 1, 2  # it divides
    values[2, 0:10, 0:20] = 5  # and is whole again
    result = stitched(values, tmp_path)
    assert (result[0, 5, 5], result[1, 5, 2], result[1, 5, 12], result[2, 5, 5]) == (1, 2, 1, 1)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, float("nan")])
def test_thresholds_that_are_none(threshold: float) -> None:
    with pytest.raises(InvalidArgument) as error:
        StackOptions(stitch_threshold=threshold)
    assert error.value.parameter == "stitch_threshold"


@pytest.mark.parametrize("segment", [None, "rough"])
def test_a_threshold_without_a_mask_is_refused(tmp_path: Path, segment: str | None) -> None:
    """It would do nothing to nuclei that are segmented here."""
    sizes = {"axes": "ZYX", "PhysicalSizeZ": 1, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5}
    stack = tmp_path / "K4.ome.tif"
    tifffile.imwrite(stack, tissue((9, 80, 90))[0][1], photometric="minisblack", metadata=sizes)
    options: dict[str, Any] = {"segment": segment, "stitch_threshold": 0.25}
    with pytest.raises(InvalidArgument) as error:
        nephros.prepare(stack, tmp_path / "a.npz", **options)
    assert error.value.parameter == "stitch_threshold"
    assert not list(tmp_path.glob("a.*"))
    project = Project.create(tmp_path / "kidney")
    with pytest.raises(FileError, match=r"`stitch_threshold` is 0\.25.*K4\.ome\.tif has none"):
        project.add_cells(stack, **options)


@pytest.mark.slow
def test_prepare_predict_and_overlay(tmp_path: Path) -> None:
    pixels, mask = tissue((9, 80, 90))
    by_slice = np.stack([np.searchsorted(np.unique(plane), plane) for plane in mask]).astype(np.uint16)
    sizes = {"axes": "ZYX", "PhysicalSizeZ": 1, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5}
    tifffile.imwrite(tmp_path / "K4.ome.tif", pixels[1], photometric="minisblack", metadata=sizes)
    tifffile.imwrite(tmp_path / "K4_mask.tif", by_slice, photometric="minisblack")
    stack = tmp_path / "K4.ome.tif"
    with pytest.raises(FileError, match=r"`stitch_threshold` to 0\.25"):
        nephros.prepare(stack, tmp_path / "a.npz", mask="{stem}_mask.tif")
    result = nephros.prepare(stack, tmp_path / "a.npz", mask="{stem}_mask.tif", stitch_threshold=0.25)
    n_nuclei = len(np.unique(mask)) - 1
    assert n_nuclei <= len(result.ids) <= 1.5 * n_nuclei  # some overlap too little from slice to slice
    predictions = nephros.predict(stack, mask="{stem}_mask.tif", stitch_threshold=0.25)
    folder = nephros.save_cells(predictions, tmp_path / "K4")
    assert set(np.unique(tifffile.imread(folder / "mask.ome.tif"))) - {0} == set(result.ids.tolist())
    nephros.predict(tmp_path / "a.npz").save(tmp_path / "a.predictions.csv")
    assert overlay(tmp_path / "a.json", tmp_path / "a.predictions.csv", tmp_path / "a.png").is_file()
