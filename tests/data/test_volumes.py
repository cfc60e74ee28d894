"""Volumes as data: told from images by a name and never by their shape, kept as stored, and displayed as slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import nephros
from nephros.data.augment import apply_augmentations, sample_augmentations
from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.data.load import describe, load_dataset
from nephros.data.medmnist import MEDMNIST
from nephros.data.npz.opening import open_npz
from nephros.data.npz.stream import ImageArray, open_image_arrays
from nephros.data.subset import resplit_train_val
from nephros.data.volumes import read_volumes, slices_tile, tile_heatmap
from nephros.errors import FileError, InvalidArgument
from nephros.recipe import AugmentConfig
from tests.depth_pairs import SHAPE, depth_pairs

VOLUMES, LABELS = depth_pairs(60)


def write(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_the_name_of_an_array_makes_it_volumes(tmp_path: Path) -> None:
    dataset = open_npz(write(tmp_path / "a.npz", volumes=VOLUMES, labels=LABELS))
    assert dataset.is_volumetric
    assert (dataset.depth, dataset.image_size, dataset.channels) == (6, (16, 16), 1)
    assert describe(dataset).depth == 6
    image, label = dataset.train[0]
    assert (image.shape, image.dtype, label) == (SHAPE, np.dtype(np.uint8), int(dataset.train.labels[0]))
    assert any(np.array_equal(image, volume) for volume in VOLUMES)
    in_splits: dict[str, object] = {f"{split}_volumes": VOLUMES[:20] for split in ("train", "val", "test")}
    in_splits |= {f"{split}_labels": LABELS[:20] for split in ("train", "val", "test")}
    assert np.array_equal(open_npz(write(tmp_path / "b.npz", **in_splits)).test[3][0], VOLUMES[3])
    assert not open_npz(write(tmp_path / "c.npz", images=VOLUMES[:, :3], labels=LABELS)).is_volumetric
    assert open_npz(write(tmp_path / "d.npz", volumes=VOLUMES[:, :3], labels=LABELS)).depth == 3


@pytest.mark.parametrize("shape", [(60, 16, 16), (60, 1, 16, 16), (60, 2, 3, 16, 16), (60, 6, 0, 16)])
def test_other_shapes_are_no_volumes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write(tmp_path / "a.npz", volumes=np.zeros(shape, np.uint8), labels=LABELS)
    with pytest.raises(FileError) as exc_info:
        open_npz(path)
    assert str(exc_info.value.path) == str(path)
    with pytest.raises(InvalidArgument) as refused:
        Dataset.from_arrays(np.zeros(shape, np.uint8), LABELS, volumes=True)
    assert refused.value.parameter == "images"


def test_a_volume_of_other_depth_than_trains_is_refused(tmp_path: Path) -> None:
    arrays: dict[str, object] = {"train_volumes": VOLUMES[:20], "val_volumes": VOLUMES[:20]}
    arrays["test_volumes"] = VOLUMES[:20, :4]
    arrays |= {f"{split}_labels": LABELS[:20] for split in ("train", "val", "test")}
    with pytest.raises(FileError, match="4 slices"):
        open_npz(write(tmp_path / "a.npz", **arrays))


def test_large_volumes_are_memory_mapped_and_batches_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = write(tmp_path / "a.npz", volumes=VOLUMES, labels=LABELS)
    mapped, in_memory = open_npz(path, max_memory=100_000), open_npz(path)
    assert isinstance(mapped.train.images.base, np.memmap) or isinstance(mapped.train.images, np.memmap)
    order = torch.randperm(len(mapped.train), generator=torch.Generator().manual_seed(0))
    loaders = [
        BatchLoader(mapped.train, torch.device("cpu"), max_resident_bytes=4000, channels_last=False),
        BatchLoader(in_memory.train, torch.device("cpu"), channels_last=False),
    ]
    assert [loader.resident for loader in loaders] == [False, True]
    for (_, images, labels), (_, other, other_labels) in zip(
        *(loader.iter_batches(9, order) for loader in loaders), strict=True
    ):
        assert images.shape[1:] == SHAPE
        assert torch.equal(images, other)
        assert torch.equal(labels, other_labels)


def test_numbers_of_more_bits_are_scaled_alike(tmp_path: Path) -> None:
    deep = VOLUMES.astype(np.uint16) * 16
    as_uint16 = open_npz(write(tmp_path / "a.npz", volumes=deep, labels=LABELS))
    as_float = Dataset.from_arrays(deep / deep.max(), LABELS, volumes=True)
    expected = np.rint(VOLUMES * (255 / VOLUMES.max())).astype(np.uint8)
    assert as_uint16.train.images.shape == as_float.train.images.shape == (len(as_uint16.train), 16, 16, 6)
    assert np.array_equal(read_volumes(deep, "images"), np.moveaxis(expected, 1, 3))
    assert int(as_uint16.train.images.max()) <= 255
    assert np.array_equal(read_volumes(VOLUMES > 99, "images"), np.moveaxis((VOLUMES > 99) * np.uint8(255), 1, 3))
    black = read_volumes(deep, "images", 4000, 400)
    assert np.array_equal(black, np.rint(np.clip((np.moveaxis(deep, 1, 3) - 400.0) / 3600 * 255, 0, 255)))
    for wrong in (deep.astype(np.int32) - 9999, np.where(deep > 99, np.nan, 0.0)):
        with pytest.raises(InvalidArgument):
            read_volumes(wrong, "images")


@pytest.mark.parametrize("key", [key for key, info in MEDMNIST.items() if info.is_volumetric])
def test_medmnists_volumes_open_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("NEPHROS_DATA", str(tmp_path))
    n, rng = 3 * len(MEDMNIST[key].class_names), np.random.default_rng(0)
    arrays: dict[str, object] = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 28, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(n)[:, None] % len(MEDMNIST[key].class_names)
    path = write(tmp_path / f"{key}.npz", **arrays)
    dataset = load_dataset(key)
    assert (dataset.depth, dataset.class_names) == (28, MEDMNIST[key].class_names)
    assert dataset.provenance.key == key
    assert dataset.provenance.split == "own"  # the MD5 is not the published one
    assert np.array_equal(dataset.test[1][0], np.asarray(arrays["test_images"])[1])
    (array, *_) = open_image_arrays(path)
    assert isinstance(array, ImageArray)
    assert array.is_volumetric
    (batch, *_) = array.iter_batches()
    assert np.array_equal(batch[0], np.moveaxis(np.asarray(arrays["train_images"])[0], 0, 2))
    with pytest.raises(InvalidArgument) as exc_info:
        load_dataset(key, size=128)
    assert exc_info.value.parameter == "size"


def test_a_cube_without_a_name_is_refused_with_the_next_step(tmp_path: Path) -> None:
    path = write(tmp_path / "cubes.npz", images=np.zeros((6, 28, 28, 28), np.uint8), labels=np.arange(6) % 2)
    with pytest.raises(FileError, match="under the name volumes"):
        open_npz(path)


def test_splits_drawn_again_stay_volumes() -> None:
    dataset = Dataset.from_arrays(VOLUMES, LABELS, volumes=True)
    again = resplit_train_val(dataset, (20, 20), 0)
    assert (again.depth, len(again.train), again.train.images.shape[1:]) == (6, 20, (16, 16, 6))
    assert "volumes" not in repr(nephros.Dataset.from_arrays(VOLUMES.max(axis=1), LABELS))


def test_flips_and_shifts_move_all_slices_alike() -> None:
    volumes = torch.from_numpy(VOLUMES)
    for flips in ("dihedral", "dihedral-depth"):
        settings = AugmentConfig(flips=flips, shift=1)
        params = sample_augmentations(len(volumes), settings, torch.Generator().manual_seed(0))
        changed = apply_augmentations(volumes, params, settings)
        projected = apply_augmentations(volumes.amax(1, keepdim=True), params, settings)
        assert torch.equal(changed.amax(1, keepdim=True), projected)
        is_reversed = (params.dihedral & 8).bool()
        assert bool(is_reversed.any()) == (flips == "dihedral-depth")
        planes = [
            apply_augmentations(volumes[:, z : z + 1], params, AugmentConfig(flips="dihedral", shift=1))
            for z in range(6)
        ]
        upright = torch.cat(planes, 1)
        expected = torch.where(is_reversed.view(-1, 1, 1, 1), upright.flip(1), upright)
        assert torch.equal(changed, expected)


@pytest.mark.parametrize("depth", [2, 7, 8, 28])
def test_a_tile_shows_slices_and_their_maximum(depth: int) -> None:
    volume = np.random.default_rng(depth).integers(0, 256, (5, 4, depth), dtype=np.uint8)
    tile = slices_tile(volume)
    assert tile.shape == (17, 14)
    assert np.array_equal(tile[:5, :4], volume[..., 0])
    assert np.array_equal(tile[12:, 10:], volume.max(axis=2))
    n_slices = min(depth, 8)
    row, column = divmod(n_slices - 1, 3)
    assert np.array_equal(tile[row * 6 : row * 6 + 5, column * 5 : column * 5 + 4], volume[..., -1])
    assert tile_heatmap(np.ones((5, 4), np.float32)).shape == (15, 12)
