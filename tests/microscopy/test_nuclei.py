"""Measuring and cropping nuclei slice by slice, compared with numpy and scikit-image on the whole volume."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage.transform import resize

from nephros.errors import FileError, NephrosError
from nephros.microscopy import measurements
from nephros.microscopy.crops import CROP_SHAPE, filter_taps
from nephros.microscopy.nuclei import SegmentedStack, extract_nuclei
from nephros.microscopy.reader import open_stack
from nephros.microscopy.synthetic import SyntheticStack
from nephros.microscopy.voxel_size import VoxelSize


def _synthetic_volume(
    shape: tuple[int, int, int], size: VoxelSize = (1.0, 0.5, 0.5)
) -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    pixels, mask = zip(*SyntheticStack(shape, size).slices(), strict=True)
    return np.stack(pixels), np.stack(mask)


def _crops(cells: SegmentedStack) -> NDArray[np.float32]:
    return np.concatenate(list(cells.crops.projections.iter_batches(np.ones(len(cells.nuclei), np.bool_), 7)))


def _extract(
    folder: Path, pixels: NDArray[np.generic], mask: NDArray[np.generic], step: VoxelSize = (1.0, 1.0, 1.0)
) -> SegmentedStack:
    np.save(folder / "stack.npy", pixels)
    np.save(folder / "mask.npy", mask)
    return extract_nuclei(
        open_stack(folder / "stack.npy"),
        open_stack(folder / "mask.npy", is_mask=True),
        step,
        Path(tempfile.mkdtemp(dir=folder)),
    )


@pytest.fixture(scope="module")
def tissue() -> tuple[NDArray[np.uint16], NDArray[np.int32]]:
    return _synthetic_volume((24, 150, 130))


def test_properties_match_those_of_the_whole_volume(
    tissue: tuple[NDArray[np.uint16], NDArray[np.int32]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements, "BLOCK_PIXELS", 1000)  # many bands per slice
    pixels, mask = tissue
    mask = np.where(mask == 3, 4_000_000_000, mask.astype(np.uint32)).astype(np.uint32)  # ids need not be dense
    cells = _extract(tmp_path, pixels, mask)
    ids = np.unique(mask)[1:]
    assert cells.nuclei.ids.tolist() == ids.tolist()
    assert cells.nuclei.ids[-1] == 4_000_000_000
    for row, nucleus_id in enumerate(ids):
        voxels = np.argwhere(mask == nucleus_id)
        assert cells.nuclei.voxels[row] == len(voxels)
        assert np.allclose(cells.nuclei.centroids[row], voxels.mean(axis=0))
        assert np.isclose(cells.nuclei.mean_intensity[row], pixels[mask == nucleus_id].mean())
        assert cells.nuclei.touches_edge[row, 0] == bool(np.isin(voxels[:, 0], (0, 23)).any())
        assert cells.nuclei.touches_edge[row, 1] == bool(
            np.isin(voxels[:, 1], (0, 149)).any() or np.isin(voxels[:, 2], (0, 129)).any()
        )
    assert cells.intensity_range == (pixels.min(), pixels.max())
    assert cells.crops.histogram.sum() == pixels.size
    values = np.linspace(*cells.intensity_range, len(cells.crops.histogram))
    assert np.isclose(cells.crops.histogram @ values / pixels.size, pixels.mean(), atol=0.5)


def test_crops_at_the_training_voxel_size_are_the_stacks_own_pixels(
    tissue: tuple[NDArray[np.uint16], NDArray[np.int32]], tmp_path: Path
) -> None:
    pixels, mask = tissue
    cells = _extract(tmp_path, pixels, mask)
    min_intensity = int(pixels.min())
    padded = np.pad(pixels, 40, constant_values=min_intensity)
    n_inside = 0
    for centroid, crop, border in zip(cells.nuclei.centroids, _crops(cells), cells.at_border, strict=True):
        z, y, x = (round(c - (side - 1) / 2) + 40 for c, side in zip(centroid, CROP_SHAPE, strict=True))
        window = padded[z : z + 7, y : y + 32, x : x + 32]
        assert np.array_equal(crop, window.max(axis=0))
        assert np.all(np.abs(centroid + 40 - (np.array([z, y, x]) + (np.array(CROP_SHAPE) - 1) / 2)) <= 0.5)
        n_inside += not border
    assert 0 < n_inside < len(cells.at_border)
    is_clipped = [
        any(round(c - (side - 1) / 2) < 0 or round(c - (side - 1) / 2) + side > length
            for c, side, length in zip(centroid, CROP_SHAPE, pixels.shape, strict=True))
        for centroid in cells.nuclei.centroids
    ]  # fmt: skip
    assert cells.at_border.tolist() == (np.array(is_clipped) | cells.nuclei.touches_edge.any(axis=1)).tolist()


def test_a_finer_stack_gives_nearly_the_same_crops(tmp_path: Path) -> None:
    """The same tissue at two voxel sizes: its crops agree far better with resampling than without."""
    coarse, coarse_mask = _synthetic_volume((20, 96, 96))
    fine, fine_mask = _synthetic_volume((40, 192, 240), (0.5, 0.25, 0.2))
    step = (2.0, 2.0, 2.5)
    from_coarse = _extract(tmp_path, coarse, coarse_mask)
    from_fine = _extract(tmp_path, fine, fine_mask, step)
    assert np.array_equal(from_coarse.nuclei.ids, from_fine.nuclei.ids)
    unresampled = _extract(tmp_path, fine, fine_mask)
    errors, unresampled_errors = [], []
    crops, resampled, unscaled = _crops(from_coarse), _crops(from_fine), _crops(unresampled)
    for row in np.flatnonzero(~from_coarse.at_border & ~from_fine.at_border):
        errors.append(np.abs(crops[row] - resampled[row]).mean())
        unresampled_errors.append(np.abs(crops[row] - unscaled[row]).mean())
    assert len(errors) >= 4
    assert np.mean(errors) < 0.35 * np.mean(unresampled_errors)


@pytest.mark.parametrize("step", [2.0, 3.0, 0.5])
def test_resampling_agrees_with_scikit_image(step: float) -> None:
    """Smooth content, for which all good interpolations agree."""
    length = 200
    line = ndimage.gaussian_filter1d(np.random.default_rng(0).random(length), 8.0)
    center = 100.0
    kernel = filter_taps(center, length, step, 32)
    actual = kernel.weights @ line[kernel.start : kernel.stop]
    positions = center + (np.arange(32) - 15.5) * step
    expected = np.interp(positions, np.arange(length), line)
    assert np.allclose(actual, expected, atol=0.004)
    if step == 2.0:  # the same blocks as scikit-image's antialiased downsampling of the window
        window = line[int(positions[0] - 0.5) : int(positions[-1] + 1.5)]
        assert np.allclose(actual, resize(window, (32,), order=1, anti_aliasing=True), atol=0.01)


def test_downsampling_does_not_alias() -> None:
    stripes = np.tile([0.0, 1.0], 200)
    kernel = filter_taps(200.0, 400, 4.0, 32)
    assert np.allclose(kernel.weights @ stripes[kernel.start : kernel.stop], 0.5, atol=0.02)
    assert np.allclose(kernel.weights.sum(axis=1), 1)


def test_a_thin_stack_has_no_border_along_z(tmp_path: Path) -> None:
    pixels, mask = _synthetic_volume((12, 120, 120))
    thin = _extract(tmp_path, pixels[4:7], mask[4:7])
    assert not thin.at_border.all()
    assert np.array_equal(thin.at_border, (thin.nuclei.touches_edge | thin.crops.padded)[:, 1])
    single_slice = _extract(tmp_path, pixels[5:6], mask[5:6])
    inner = np.flatnonzero(~single_slice.at_border)[0]
    y, x = (round(c - 15.5) for c in single_slice.nuclei.centroids[inner, 1:])
    assert np.array_equal(_crops(single_slice)[inner], pixels[5, y : y + 32, x : x + 32])


def test_negative_float_intensities_are_kept(tmp_path: Path) -> None:
    pixels, mask = _synthetic_volume((12, 120, 120))
    original = _extract(tmp_path, pixels, mask)
    shifted = _extract(tmp_path, pixels.astype(np.float32) / 100 - 50, mask)
    assert np.allclose(_crops(shifted), _crops(original) / 100 - 50, atol=0.01)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda mask: mask[:-1], "must be the same size"),
        (lambda mask: mask / np.float32(2), "has the value .*; a mask holds whole numbers"),
        (lambda mask: np.where(mask == 1, np.nan, mask), "has the value nan in slice"),
        (lambda mask: mask * 1e30, "has the value .*e[+]30"),
        (lambda mask: mask > 0, "only true and false"),
        (np.zeros_like, "no nucleus"),
        (np.negative, "has the value -"),
        (lambda mask: (mask > 0).astype(np.uint8) * 255, "one object only, with the id 255"),
        (lambda mask: (np.arange(mask.size) > mask.size / 2).reshape(mask.shape) + 1, "objects of .* voxels"),
    ],
    ids=["shape", "fractions", "nan", "huge", "bool", "empty", "negative", "binary", "halves"],
)
def test_invalid_masks_are_refused(
    change: Callable[[NDArray[np.int32]], NDArray[np.generic]],
    expected: str,
    tissue: tuple[NDArray[np.uint16], NDArray[np.int32]],
    tmp_path: Path,
) -> None:
    pixels, mask = tissue
    with pytest.raises(NephrosError, match=rf"mask\.npy .*{expected}") as exc_info:
        _extract(tmp_path, pixels, change(mask))
    assert "\n" not in str(exc_info.value)


@pytest.mark.parametrize(
    ("intensity", "expected"), [(np.nan, "not numbers .* in slice 3"), (1e38, "absurdly large in slice 3")]
)
def test_intensities_that_are_no_numbers_are_refused(
    intensity: float, expected: str, tissue: tuple[NDArray[np.uint16], NDArray[np.int32]], tmp_path: Path
) -> None:
    pixels, mask = tissue[0].astype(np.float32), tissue[1]
    pixels[3, 4, 5] = intensity
    with pytest.raises(FileError, match=expected):
        _extract(tmp_path, pixels, mask)


def test_a_stack_of_one_intensity_is_refused(
    tissue: tuple[NDArray[np.uint16], NDArray[np.int32]], tmp_path: Path
) -> None:
    with pytest.raises(FileError, match="every voxel is 0"):
        _extract(tmp_path, np.zeros_like(tissue[0]), tissue[1])
