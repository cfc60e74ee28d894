"""TissueMNIST's images, laid out as a 16-bit stack, come back nearly unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nephros.data.images.transforms import resize_images
from nephros.data.load import load_dataset
from nephros.workflows.prepare import prepare

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("real_data")
def test_training_images_survive_preparation(tmp_path: Path) -> None:
    side = 60
    images = load_dataset("tissuemnist").train.images[:: 165_000 // side**2][: side**2]
    tiles = resize_images(images, 32).reshape(side, side, 32, 32).transpose(0, 2, 1, 3).reshape(32 * side, 32 * side)
    ids = np.kron(np.arange(1, side**2 + 1).reshape(side, side), np.ones((32, 32), np.int64))
    y, x = np.mgrid[: 32 * side, : 32 * side] % 32
    mask = np.where(np.hypot(y - 15.5, x - 15.5) < 7, ids, 0).astype(np.uint16)
    depth = 7
    np.save(tmp_path / "stack.npy", np.broadcast_to((tiles * 37.0 + 500).astype(np.uint16), (depth, *tiles.shape)))
    np.save(tmp_path / "mask.npy", np.broadcast_to(mask, (depth, *mask.shape)))
    result = prepare(tmp_path / "stack.npy", tmp_path / "a.npz", mask=tmp_path / "mask.npy", voxel_size=(1.0, 0.5, 0.5))
    contrast = result.metadata.contrast_limits
    assert result.metadata.warnings == ()
    assert contrast.pixel_mean == pytest.approx(0.102, abs=0.003)
    assert contrast.pixel_std == pytest.approx(0.100, abs=0.006)
    assert (contrast.black_level - 500) / 37 == pytest.approx(0, abs=3)
    assert (contrast.white_level - 500) / 37 == pytest.approx(255, rel=0.08)
    error = np.abs(result.images.astype(np.int64) - resize_images(resize_images(images, 32)).astype(np.int64))
    assert error.mean() < 2.5
