"""Voxel sizes: how a stack's relates to the training data's, and sizes that can't be right."""

from __future__ import annotations

import pytest

from nephros.errors import FileError, InvalidArgument
from nephros.microscopy.voxel_size import (
    TRAINING_VOXEL_SIZE,
    VoxelScaling,
    VoxelSize,
    check_voxel_size,
    format_voxel_size,
)


def test_the_step_is_the_ratio_of_the_sizes_and_exactly_1_where_they_are_close() -> None:
    scale = VoxelScaling.resolve("a.tif", None, (1.01, 0.25, 1.0), TRAINING_VOXEL_SIZE, resample=True)
    assert scale.step == (1.0, 2.0, 0.5)
    assert scale.target_source is not None
    assert scale.target_source.startswith("assumed")


@pytest.mark.parametrize(
    ("file_size", "user_size", "resample", "size", "source"),
    [
        ((1, 1, 1), (2, 1, 1), True, (2, 1, 1), "voxel_size parameter"),
        ((1, 1, 1), None, True, (1, 1, 1), "file metadata"),
        ((1, 1, 1), None, False, (1, 1, 1), "file metadata"),
        (None, None, False, None, "unknown"),
    ],
)
def test_the_users_size_takes_precedence_over_the_files(
    file_size: VoxelSize | None, user_size: VoxelSize | None, resample: bool, size: VoxelSize | None, source: str
) -> None:
    scale = VoxelScaling.resolve("a.tif", file_size, user_size, (2.0, 1.0, 1.0), resample=resample)
    assert (scale.stack_voxel_size, scale.source) == (size, source)
    if resample:
        assert scale.target_source == "target_voxel_size parameter"
    else:
        assert (scale.target_voxel_size, scale.target_source, scale.step) == (None, None, (1.0, 1.0, 1.0))


def test_resampling_needs_a_size() -> None:
    with pytest.raises(FileError, match=r"a\.tif.*`voxel_size`.*`resample=False`"):
        VoxelScaling.resolve("a.tif", None, None, TRAINING_VOXEL_SIZE, resample=True)


@pytest.mark.parametrize("size", [(1, 2), (0, 1, 1), (float("nan"), 1, 1), (1, 1, 1e9), (-1, 1, 1)])
def test_implausible_sizes_are_refused(size: tuple[float, ...]) -> None:
    with pytest.raises(InvalidArgument) as exc_info:
        check_voxel_size("voxel_size", size)
    assert exc_info.value.parameter == "voxel_size"


def test_a_plausible_size_is_returned_and_formatted() -> None:
    assert check_voxel_size("voxel_size", (1, 0.5, 0.5)) == (1.0, 0.5, 0.5)
    assert format_voxel_size((1, 0.5, 0.25)) == "1 x 0.5 x 0.25 micrometers"
    assert format_voxel_size(None) == "unknown"


def test_the_users_size_is_that_of_the_finest_level() -> None:
    """And so it is where it is compared with the file's, which is that of the level that is read."""
    step = (1.0, 2.0, 2.0)
    scale = VoxelScaling.resolve(
        "a.tif", (1, 0.5, 0.5), (1, 0.25, 0.25), TRAINING_VOXEL_SIZE, resample=True, level_step=step
    )
    assert (scale.stack_voxel_size, scale.step, scale.warnings()) == ((1, 0.5, 0.5), (1, 1, 1), [])
    scale = VoxelScaling.resolve(
        "a.tif", (0.25, 0.5, 2), (1, 0.25, 0.25), TRAINING_VOXEL_SIZE, resample=True, level_step=step
    )
    assert "metadata is 0.25 x 0.25 x 1 micrometers" in scale.warnings()[0]
    assert "`voxel_size` is 1 x 0.25 x 0.25 micrometers, the same numbers in another order" in scale.warnings()[0]
