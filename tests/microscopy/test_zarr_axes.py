"""Dimensions without names in OME-Zarr metadata: read where one reading is likely, asked for by `axes` where not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.errors import FileError
from nephros.microscopy.reader import open_stack
from tests.microscopy.zarr_samples import write_attributes, write_image

VOLUME = np.arange(2 * 3 * 20 * 24, dtype=np.uint16).reshape(2, 3, 20, 24)


def _write(path: Path, values: NDArray[Any], axes: list[dict[str, Any]]) -> Path:
    """Write an image whose axes are described so."""
    write_image(path, values, "TCZYX"[-values.ndim :])
    transformations = [{"type": "scale", "scale": [1.0, 1.0, 0.5, 0.4][-values.ndim :]}]
    datasets = [{"path": "0", "coordinateTransformations": transformations}]
    write_attributes(path, {"multiscales": [{"axes": axes, "datasets": datasets, "version": "0.4"}]})
    return path


def _named(*names: str, unit: str | None = None) -> list[dict[str, Any]]:
    return [{"name": name, "type": "space"} | ({"unit": unit} if unit else {}) for name in names]


@pytest.mark.parametrize("axes", [[{}] * 3, _named("dim_0", "dim_1", "dim_2"), _named("", "", "")])
@pytest.mark.parametrize("is_mask", [False, True])
def test_three_dimensions_are_slices_rows_and_columns(
    axes: list[dict[str, Any]], is_mask: bool, tmp_path: Path
) -> None:
    stack = open_stack(_write(tmp_path / "a.zarr", VOLUME[0], axes), is_mask=is_mask)
    assert np.array_equal(np.stack(list(stack.slices())), VOLUME[0])
    assert any("taken for ZYX" in note for note in stack.notes)


@pytest.mark.parametrize("axes", [[{}] * 4, _named("dim_0", "dim_1", "dim_2", "dim_3"), _named("", "z", "y", "x")])
def test_four_dimensions_are_asked_for_and_read_by_axes(axes: list[dict[str, Any]], tmp_path: Path) -> None:
    path = _write(tmp_path / "a.zarr", VOLUME, axes)
    with pytest.raises(FileError, match="`axes`"):
        open_stack(path)
    for text, expected in (("CZYX", VOLUME[1]), ("ZCYX", VOLUME[:, 1])):
        stack = open_stack(path, 1, axes=text)
        assert np.array_equal(np.stack(list(stack.slices())), expected)


def test_the_voxel_size_follows_the_axes_that_a_user_names(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.zarr", VOLUME, _named("i", "j", "k", "l", unit="micrometer"))
    assert open_stack(path, 0, axes="CZYX").voxel_size == pytest.approx((1, 0.5, 0.4))


def test_an_axis_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError):
        open_stack(_write(tmp_path / "a.zarr", VOLUME[0], _named("y", "y", "x")))
