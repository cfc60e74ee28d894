"""Automatic segmentation finds synthetic nuclei, and its tiles leave no seams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.errors import FileError
from nephros.microscopy import segmentation
from nephros.microscopy.reader import open_stack
from nephros.microscopy.segmentation import segment_nuclei
from nephros.microscopy.synthetic import SyntheticStack
from nephros.microscopy.voxel_size import VoxelSize


def _segment(folder: Path, tissue: SyntheticStack) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return the true mask, the segmented one, and the number of nuclei that is returned with it."""
    pixels, mask_slices = zip(*tissue.slices(), strict=True)
    np.save(folder / "stack.npy", np.stack(pixels))
    n = segment_nuclei(open_stack(folder / "stack.npy"), folder / "mask.tif", tissue.voxel_size)
    mask = np.stack(list(open_stack(folder / "mask.tif").slices()))
    return np.stack(mask_slices).astype(np.int64), mask.astype(np.int64), n


def _matched_fraction(true: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Return the fraction of true nuclei that a segmented one overlaps with an IoU of at least 0.5."""
    pairs, counts = np.unique(np.stack([true.ravel(), predicted.ravel()]), axis=1, return_counts=True)
    sizes, predicted_sizes = np.bincount(true.ravel()), np.bincount(predicted.ravel())
    matched = set()
    for (a, b), overlap in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        if a and b and overlap / (sizes[a] + predicted_sizes[b] - overlap) >= 0.5:
            matched.add(a)
    return len(matched) / int((sizes[1:] > 0).sum())


@pytest.mark.parametrize(
    ("shape", "size"),
    [((24, 120, 120), (1.0, 0.5, 0.5)), pytest.param((24, 240, 240), (1.0, 0.2, 0.2), marks=pytest.mark.slow)],
)
def test_synthetic_nuclei_are_found(shape: tuple[int, int, int], size: VoxelSize, tmp_path: Path) -> None:
    true, predicted, n = _segment(tmp_path, SyntheticStack(shape, size))
    assert sorted(np.unique(predicted).tolist()) == list(range(n + 1))
    assert n == pytest.approx(len(np.unique(true)) - 1, rel=0.1)
    assert _matched_fraction(true, predicted) > 0.85


@pytest.mark.slow
def test_tiles_leave_no_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tissue = SyntheticStack((30, 160, 160))
    _, untiled, n = _segment(tmp_path, tissue)
    monkeypatch.setattr(segmentation, "TILE_SHAPE", (11, 50, 60))
    _, tiled, m = _segment(tmp_path, tissue)
    assert m == pytest.approx(n, abs=max(2, 0.02 * n))
    assert _matched_fraction(untiled, tiled) > 0.97


_RAMP = np.broadcast_to(np.arange(400, dtype=np.uint16)[:, None], (30, 400, 400))
_WITH_INFINITY = _RAMP[:, :50, :50].astype(np.float32)
_WITH_INFINITY[2, 3, 4] = np.inf


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        (np.full((5, 40, 40), 7, np.uint16), "every voxel is 7"),
        (_RAMP, "no nucleus stands out"),
        (_WITH_INFINITY, "not numbers"),
    ],
    ids=["flat", "ramp", "infinite"],
)
def test_a_stack_without_nuclei_is_refused(volume: NDArray[np.generic], expected: str, tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", volume)
    with pytest.raises(FileError, match=f"stack.npy.*{expected}"):
        segment_nuclei(open_stack(tmp_path / "stack.npy"), tmp_path / "mask.tif", (1.0, 0.5, 0.5))
    assert not (tmp_path / "mask.tif").exists()
