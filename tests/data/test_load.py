"""`load_dataset`: kinds of sources, where files are searched, and errors for sources that don't exist."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nephros.data.dataset import Dataset
from nephros.data.load import describe, find_local_file, load_dataset
from nephros.data.provenance import Provenance
from nephros.data.split import Split
from nephros.data.synthetic import make_synthetic
from nephros.errors import FileError, IncompatibleError, InvalidArgument, UnknownName
from tests.conftest import square_images

# The package exports the function `load_dataset` under the module's name, so the module is imported by name.
load_module = importlib.import_module("nephros.data.load")


def write_npz(path: Path, pixels: int = 28, n: int = 16) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = np.arange(n * pixels * pixels, dtype=np.int64).reshape(n, pixels, pixels).astype(np.uint8)
    images_by_name = {f"{split}_images": images for split in ("train", "val", "test")}
    labels = {f"{split}_labels": (np.arange(n) % 8)[:, None] for split in ("train", "val", "test")}
    np.savez(path, **images_by_name, **labels)  # type: ignore[arg-type]
    return path


@pytest.fixture(autouse=True)
def isolated_dirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep this machine's data out of the tests: all folders that are searched are empty ones below `tmp_path`."""
    monkeypatch.setenv("NEPHROS_DATA", str(tmp_path / "named"))
    monkeypatch.setenv("NEPHROS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folders_are_searched_in_order(isolated_dirs: Path) -> None:
    assert find_local_file("tissuemnist") is None
    for folder in ("home/.medmnist", "cache", "named"):
        path = write_npz(isolated_dirs / folder / "tissuemnist.npz")
        assert find_local_file("tissuemnist") == path
    assert load_dataset("TissueMNIST").provenance.path == str(isolated_dirs / "named" / "tissuemnist.npz")
    assert load_dataset().provenance.title == "TissueMNIST, own split"


def test_size_selects_the_file(isolated_dirs: Path) -> None:
    write_npz(isolated_dirs / "named" / "tissuemnist.npz")
    path = write_npz(isolated_dirs / "named" / "tissuemnist_64.npz", pixels=64)
    assert find_local_file("tissuemnist", 64) == path
    assert load_dataset("tissuemnist", size=64).image_size == (64, 64)
    assert load_dataset("tissuemnist").image_size == (28, 28)
    with pytest.raises(InvalidArgument) as exc_info:
        load_dataset("tissuemnist", size=32)
    assert (exc_info.value.parameter, exc_info.value.value) == ("size", 32)


def test_a_missing_data_set_names_the_download() -> None:
    with pytest.raises(FileError, match=r"`nephros\.download\('tissuemnist'\)`, .* NEPHROS_DATA .*tissuemnist\.npz"):
        load_dataset("tissuemnist")
    with pytest.raises(FileError, match=r"`nephros\.download\('bloodmnist', size=64\)`"):
        load_dataset("bloodmnist", size=64)


def test_only_a_missing_data_set_is_downloaded(isolated_dirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads: list[tuple[str, int]] = []

    def fake_download(key: str, size: int) -> Path:
        downloads.append((key, size))
        return write_npz(isolated_dirs / "cache" / "bloodmnist_64.npz", pixels=64)

    monkeypatch.setattr(load_module, "download_file", fake_download)
    for _ in range(2):
        assert load_dataset("bloodmnist", size=64, download=True).image_size == (64, 64)
    assert downloads == [("bloodmnist", 64)]


def test_an_array_is_no_source() -> None:
    with pytest.raises(InvalidArgument) as caught:
        load_dataset(np.zeros((8, 28, 28)))  # type: ignore[arg-type]
    assert (caught.value.parameter, caught.value.value) == ("source", "ndarray")


def test_a_multi_label_data_set_is_refused() -> None:
    with pytest.raises(IncompatibleError, match=r"ChestMNIST.*multi-label"):
        load_dataset("chestmnist", download=True)


def test_an_unknown_name_suggests_the_nearest() -> None:
    for name, nearest in (("tissuemist", "tissuemnist"), ("syntetic", "synthetic")):
        with pytest.raises(UnknownName, match=f"'{name}'.* '{nearest}'") as exc_info:
            load_dataset(name)
        assert (exc_info.value.parameter, exc_info.value.value) == ("source", name)


def test_synthetic_cells_follow_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def make_few(*, seed: int) -> Dataset:
        seeds.append(seed)
        return make_synthetic(16, 8, 8, seed=seed)

    monkeypatch.setattr(load_module, "make_synthetic", make_few)
    assert load_dataset("synthetic", seed=5).provenance.split == "synthetic"
    assert load_dataset("synthetic", size=28, subset=8).provenance.detail.endswith(
        "train subset of 8, class-stratified, seed 0"
    )
    assert seeds == [5, 0]
    with pytest.raises(InvalidArgument) as exc_info:
        load_dataset("synthetic", size=64)
    assert (exc_info.value.parameter, exc_info.value.value) == ("size", 64)


def test_a_file_without_a_test_split_is_resized(tmp_path: Path) -> None:
    images, labels = square_images(40, 2, seed=0)
    np.savez(tmp_path / "cells.npz", images=np.pad(images, ((0, 0), (2, 2), (2, 2))), labels=labels)
    dataset = load_dataset(tmp_path / "cells.npz", size=28, draw_test=False)
    assert [split.images.shape for _, split in dataset.splits()] == [(36, 28, 28), (4, 28, 28), (0, 28, 28)]


def test_paths_of_npz_files(isolated_dirs: Path) -> None:
    write_npz(isolated_dirs / "cells.npz")
    assert load_dataset("cells.npz").provenance.path == str(isolated_dirs / "cells.npz")
    assert load_dataset(isolated_dirs / "cells.npz", size=28, subset=8).train.class_counts(8).tolist() == [1] * 8
    resized = load_dataset("cells.npz", size=64)
    assert resized.image_size == (64, 64)
    assert "resized to 64x64" in resized.provenance.detail
    original = load_dataset("cells.npz")
    assert all(
        np.array_equal(split.labels, original.split(name).labels) and len(split.images) == len(split.labels)
        for name, split in resized.splits()
    )
    assert load_dataset("cells.npz", size=28).train.images.tobytes() == original.train.images.tobytes()
    with pytest.raises(InvalidArgument):
        load_dataset("cells.npz", size=0)
    for missing in ("cels.npz", "nowhere/cells"):
        with pytest.raises(FileError, match="does not exist"):
            load_dataset(missing)


def test_a_color_plane_of_a_medmnist_set(isolated_dirs: Path) -> None:
    path = write_npz(isolated_dirs / "named" / "bloodmnist.npz")
    arrays = dict(np.load(path))
    for split in ("train", "val", "test"):
        gray = arrays[f"{split}_images"]
        arrays[f"{split}_images"] = np.stack([gray, 255 - gray, gray // 2], axis=3)
    np.savez(path, **arrays)
    assert load_dataset("bloodmnist").channels == 3
    dataset = load_dataset("bloodmnist", channel=1)
    assert (dataset.channels, dataset.input_conversion.channel) == (1, 1)
    assert np.array_equal(dataset.val.images, arrays["val_images"][..., 1])


def test_a_name_takes_precedence_over_a_folder_and_a_path_does_not(isolated_dirs: Path) -> None:
    for name in ("a", "b"):
        for index in range(3):
            path = isolated_dirs / "tissuemnist" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (6, 6), index).save(path)
    write_npz(isolated_dirs / "named" / "tissuemnist.npz")
    assert load_dataset("tissuemnist").image_size == (28, 28)
    assert load_dataset("./tissuemnist").image_size == (6, 6)
    assert load_dataset("./tissuemnist", size=4).image_size == (4, 4)
    (isolated_dirs / "tissuemnist").rename(isolated_dirs / "mine")
    assert load_dataset("mine", seed=3).provenance.detail.endswith("seed 3")


def test_describe_summarizes_a_data_set(isolated_dirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = load_dataset(write_npz(isolated_dirs / "named" / "tissuemnist.npz"))
    summary = describe(dataset)
    assert json.loads(json.dumps(summary.to_dict()))["class_names"] == list(summary.class_names)
    assert summary.title == "TissueMNIST, own split"
    assert summary.license == "CC BY 4.0"
    assert summary.image_size == (28, 28)
    assert summary.channels == 1
    assert summary.split_sizes == {"train": 16, "val": 16, "test": 16}
    assert summary.class_counts["test"] == [2] * 8
    assert summary.pixel_mean == pytest.approx(dataset.train.images.mean() / 255)
    assert summary.pixel_std == pytest.approx(dataset.train.images.std() / 255)


def test_pixel_statistics_are_exact_over_chunks() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 1500, 1500), dtype=np.uint8)  # a chunk is one image here
    split = Split(images, np.arange(5, dtype=np.int64) % 2)
    summary = describe(Dataset(split, split, split, ("a", "b"), Provenance("big", "own", "", "")))
    assert summary.pixel_mean == pytest.approx(images.mean() / 255)
    assert summary.pixel_std == pytest.approx(images.std() / 255)
    assert summary.license is None
