"""Regions of ImageJ's ROI manager as masks."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nephros.errors import FileError
from nephros.microscopy.reader import open_stack
from nephros.microscopy.roi_mask import describe_in_worker, is_roi_archive, slices_in_worker

roifile = pytest.importorskip("roifile", reason="it is in an extra")
SHAPE = (3, 20, 30)


def write(path: Path, regions: Sequence[Any]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number, region in enumerate(regions):
            archive.writestr(f"{number:04}.roi", region.tobytes())
    return path


def square(left: int, top: int, side: int, **options: Any) -> Any:
    """Return a square region; roifile takes numbers of slices from 0 and stores them from 1, as ImageJ does."""
    corners = [[left, top], [left + side, top], [left + side, top + side], [left, top + side]]
    return roifile.ImagejRoi.frompoints(np.array(corners), **options)


def draw(path: Path) -> Any:
    return np.stack(list(slices_in_worker(str(path), list(SHAPE))))


def test_each_region_has_an_id_and_its_slice(tmp_path: Path) -> None:
    path = write(tmp_path / "RoiSet.zip", [square(2, 3, 5, position=0), square(20, 10, 4, z=2), square(10, 0, 3)])
    expected = np.zeros(SHAPE, np.int32)
    expected[0, 3:8, 2:7] = 1
    expected[2, 10:14, 20:24] = 2
    expected[:, 0:3, 10:13] = 3
    assert np.array_equal(draw(path), expected)
    assert next(iter(describe_in_worker(str(path), list(SHAPE)))) == [3, 0, 1]


def test_shapes_that_imagej_has(tmp_path: Path) -> None:
    kinds = roifile.ROI_TYPE
    box = {"top": 4, "left": 6, "bottom": 14, "right": 20}
    regions = [
        roifile.ImagejRoi(roitype=kinds.RECT, position=1, **box),
        roifile.ImagejRoi(roitype=kinds.OVAL, position=2, **box),
        roifile.ImagejRoi(roitype=kinds.LINE, position=3, **box),
    ]
    result = draw(write(tmp_path / "RoiSet.zip", regions))
    assert (result[0] == 1).sum() == 140
    assert np.array_equal(result[0] > 0, np.pad(np.ones((10, 14), bool), ((4, 6), (6, 10))))
    assert (result[1] == 2).sum() == pytest.approx(np.pi / 4 * 140, rel=0.05)
    assert not result[2].any()


@pytest.mark.slow
def test_as_the_mask_of_a_stack(tmp_path: Path) -> None:
    path = write(tmp_path / "RoiSet.zip", [square(2, 3, 5, position=0), square(10, 0, 3)])
    stack = open_stack(path, is_mask=True, shape=SHAPE)
    assert (stack.shape, len(stack.notes)) == (SHAPE, 2)
    assert np.unique(np.stack(list(stack.slices()))).tolist() == [0, 1, 2]
    with pytest.raises(FileError, match="outside of the stack"):
        open_stack(path, is_mask=True, shape=(3, 2, 2))
    line = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.LINE, bottom=9, right=9)
    with pytest.raises(FileError, match="no region with an area"):
        open_stack(write(tmp_path / "lines.zip", [line]), is_mask=True, shape=SHAPE)
    data = path.read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    with pytest.raises(FileError):
        open_stack(tmp_path / "cut.zip", is_mask=True, shape=SHAPE)
    with pytest.raises(FileError):
        open_stack(path, is_mask=False)


def test_other_archives_are_none(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("cell.png", b"")
    assert not is_roi_archive(tmp_path / "a.zip")
    assert not is_roi_archive(tmp_path / "none.zip")
    assert not is_roi_archive(tmp_path)
