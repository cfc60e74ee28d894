"""Masks in which several nuclei share a number, written by tifffile: named or refused, while sound masks pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label

import nephros
from nephros.errors import FileError
from nephros.microscopy.synthetic import SyntheticStack
from nephros.workflows.prepare import PreparedStacks

Mask = NDArray[Any]
Volume = tuple[NDArray[np.uint16], NDArray[np.int32]]


@pytest.fixture(scope="module")
def tissue() -> Volume:
    pixels, mask = zip(*SyntheticStack((24, 160, 140)).slices(), strict=True)
    return np.stack(pixels), np.stack(mask)


def _prepare(folder: Path, tissue: Volume, mask: Mask, **kwargs: Any) -> PreparedStacks:
    tifffile.imwrite(folder / "stack.tif", tissue[0], photometric="minisblack", metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "mask.tif", mask, photometric="minisblack", metadata={"axes": "ZYX"})
    kwargs = {"voxel_size": (1.0, 0.5, 0.5)} | kwargs
    return nephros.prepare(folder / "stack.tif", folder / "cells.npz", mask=folder / "mask.tif", **kwargs)


def _restart_in_slices(mask: Mask) -> Mask:
    return np.stack([label(plane > 0) for plane in mask]).astype(np.uint16)


def _restart_in_tiles(mask: Mask) -> Mask:
    tiles = [
        np.unique(tile, return_inverse=True)[1].reshape(tile.shape) for tile in np.split(np.asarray(mask), 4, axis=1)
    ]
    return np.concatenate(tiles, axis=1).astype(np.uint16)


def _share_numbers(mask: Mask) -> Mask:
    half = int(mask.max()) // 2
    return np.where(mask > half, mask - half, mask).astype(np.uint16)


def _wrap_at_eight(mask: Mask) -> Mask:
    return np.where(mask > 0, (mask - 1) % 8 + 1, 0).astype(np.uint8)


@pytest.mark.parametrize("change", [_restart_in_slices, _restart_in_tiles, _share_numbers, _wrap_at_eight])
def test_a_mask_whose_numbers_are_used_twice_is_refused(
    change: Callable[[Mask], Mask], tissue: Volume, tmp_path: Path
) -> None:
    with pytest.raises(FileError, match=r"mask\.tif: .* not one compact piece .*% far away") as exc_info:
        _prepare(tmp_path, tissue, change(tissue[1]))
    assert Path(exc_info.value.path).name == "mask.tif"
    assert "\n" not in str(exc_info.value)
    assert not (tmp_path / "cells.npz").exists()


def _most_distant_pair(mask: Mask) -> tuple[int, int]:
    centers = np.array(ndimage.center_of_mass(mask > 0, mask, range(1, int(mask.max()) + 1)))
    distances = np.linalg.norm(centers[:, None] - centers[None], axis=-1)
    first, second = np.unravel_index(distances.argmax(), distances.shape)
    return int(first) + 1, int(second) + 1


def test_one_shared_number_is_named_and_cropped_around_its_largest_piece(tissue: Volume, tmp_path: Path) -> None:
    pair = _most_distant_pair(tissue[1])
    sizes = np.bincount(tissue[1].ravel())
    larger, smaller = sorted(pair, key=lambda number: -sizes[number])
    result = _prepare(tmp_path, tissue, np.where(tissue[1] == smaller, larger, tissue[1]).astype(np.uint16))
    share = sizes[smaller] / (sizes[smaller] + sizes[larger])
    assert any(f"{larger} ({share:.0%} far away)" in warning for warning in result.metadata.warnings)
    sound = _prepare(tmp_path, tissue, tissue[1])
    image, sound_image = (run.images[run.ids == larger][0].astype(int) for run in (result, sound))
    assert np.abs(image - sound_image).mean() < 12  # moved by one pixel at most


@pytest.mark.parametrize(
    "change",
    [
        np.copy,
        lambda mask: mask.astype(np.float32),
        lambda mask: mask.astype(np.float64),
        lambda mask: np.where(np.arange(24)[:, None, None] == 9, 0, mask),
        lambda mask: np.where((np.arange(140) % 9 == 0) & (mask % 2 == 0), 0, mask),
    ],
    ids=["sound", "float32", "float64", "a slice missing", "lines missing"],
)
def test_a_sound_mask_is_used_without_a_warning(change: Callable[[Mask], Mask], tissue: Volume, tmp_path: Path) -> None:
    result = _prepare(tmp_path, tissue, change(tissue[1]))
    assert not [warning for warning in result.metadata.warnings if "compact" in warning]
    assert result.ids.tolist() == np.unique(tissue[1])[1:].tolist()


def test_stray_pixels_are_tolerated_and_move_no_crop(tissue: Volume, tmp_path: Path) -> None:
    mask = tissue[1].copy()
    background = np.argwhere(mask == 0)
    generator = np.random.default_rng(0)
    for number in np.unique(mask)[1:]:
        for z, y, x in generator.choice(background, 2):
            mask[z, y, x] = number
    stray, sound = _prepare(tmp_path, tissue, mask), _prepare(tmp_path, tissue, tissue[1])
    assert not [warning for warning in stray.metadata.warnings if "compact" in warning]
    assert np.abs(stray.images.astype(int) - sound.images).mean() < 2


def test_anisotropic_voxels_and_long_nuclei_are_compact(tmp_path: Path) -> None:
    pixels, mask = zip(*SyntheticStack((8, 300, 260), (3.0, 0.25, 0.25)).slices(), strict=True)
    volume = np.stack(pixels), np.stack(mask)
    volume[1][3:5, 100:108, 20:100] = volume[1].max() + 1  # 20 micrometers long
    result = _prepare(tmp_path, volume, volume[1], voxel_size=(3.0, 0.25, 0.25))
    assert not [warning for warning in result.metadata.warnings if "compact" in warning]
