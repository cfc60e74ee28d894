"""Folders of images: layouts, pixel formats, the split, and folders that are refused."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nephros.data.folders import images as folder_images
from nephros.data.folders.opening import open_folder
from nephros.data.images.decoded_image import DecodedImage
from nephros.data.images.input_conversion import DEFAULT_CONVERSION, to_cell
from nephros.errors import FileError, InvalidArgument


def save_image(path: Path, mode: str = "L", size: tuple[int, int] = (6, 6), value: int = 9) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0])
    if mode == "I;16":
        Image.fromarray(np.full(shape, value, dtype=np.uint16)).save(path)
    elif mode == "I":
        Image.fromarray(np.full(shape, value, dtype=np.int32)).save(path)
    elif mode == "F":
        Image.fromarray(np.full(shape, value, dtype=np.float32)).save(path)
    else:
        Image.fromarray(np.full(shape, value, dtype=np.uint8)).convert(mode).save(path)
    return path


def fill_folder(root: Path, counts: dict[str, int], mode: str = "L", suffix: str = ".png") -> Path:
    """Write `counts[name]` images per class, each with a unique gray value."""
    value = 0
    for name, count in counts.items():
        for index in range(count):
            value += 1
            save_image(root / name / f"{index:03}{suffix}", mode, value=value)
    return root


def assert_rejected(root: Path, *expected_texts: str, size: int | None = None) -> None:
    with pytest.raises(FileError) as exc_info:
        open_folder(root, size=size)
    message = str(exc_info.value)
    assert str(root) in message
    assert "\n" not in message
    for text in expected_texts:
        assert text in message


def test_classes_are_the_sorted_folders_and_every_image_is_used_once(tmp_path: Path) -> None:
    dataset = open_folder(fill_folder(tmp_path / "cells", {"b": 20, "a": 10}))
    assert dataset.class_names == ("a", "b")
    assert [split.class_counts(2).tolist() for _, split in dataset.splits()] == [[7, 14], [1, 2], [2, 4]]
    values = np.concatenate([split.images[:, 0, 0] for _, split in dataset.splits()])
    assert sorted(values) == list(range(1, 31))
    for _, split in dataset.splits():
        assert ((split.images[:, 0, 0] <= 20) == (split.labels == 1)).all()  # "b" was written first
    assert dataset.provenance.title == "cells"
    assert dataset.provenance.detail == "split 7:1:2 by class with seed 0"
    assert dataset.train.images.dtype == np.uint8
    assert dataset.task == "binary-class"


def test_the_split_depends_only_on_the_seed(tmp_path: Path) -> None:
    root = fill_folder(tmp_path / "cells", {"a": 20, "b": 20})
    first, again, other = open_folder(root), open_folder(root), open_folder(root, seed=1)
    assert np.array_equal(first.test.images, again.test.images)
    assert not np.array_equal(first.test.images, other.test.images)
    assert other.provenance.detail.endswith("seed 1")


def test_the_hash_covers_names_and_bytes(tmp_path: Path) -> None:
    root = fill_folder(tmp_path / "cells", {"a": 3, "b": 3})
    hashes = [open_folder(root).provenance.sha256]
    (root / "a" / "000.png").rename(root / "a" / "renamed.png")
    hashes.append(open_folder(root).provenance.sha256)
    save_image(root / "a" / "renamed.png", value=77)
    hashes.append(open_folder(root).provenance.sha256)
    assert len(set(hashes)) == 3
    assert open_folder(root).provenance.sha256 == hashes[-1]


@pytest.mark.parametrize("suffix", [".PNG", ".tif", ".TIFF", ".jpg", ".JPEG"])
def test_suffixes_match_in_any_case(tmp_path: Path, suffix: str) -> None:
    dataset = open_folder(fill_folder(tmp_path, {"a": 3, "b": 3}, suffix=suffix))
    assert len(dataset.train) == 2


@pytest.mark.parametrize(
    ("mode", "suffix", "channels"),
    [
        ("1", ".png", 1),
        ("LA", ".png", 1),
        ("RGB", ".png", 3),
        ("RGBA", ".png", 3),
        ("P", ".png", 1),  # a palette of gray
        ("CMYK", ".tif", 3),
    ],
)
def test_pixel_formats_determine_the_channels(tmp_path: Path, mode: str, suffix: str, channels: int) -> None:
    assert open_folder(fill_folder(tmp_path, {"a": 3, "b": 3}, mode, suffix)).channels == channels


def test_alpha_is_dropped_and_not_blended(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 3}, "RGB")
    transparent = Image.new("RGBA", (6, 6), (10, 20, 30, 0))
    palette = transparent.convert("RGB").quantize(2)
    for index in range(3):
        transparent.save(tmp_path / "a" / f"00{index}.png")
        palette.save(tmp_path / "b" / f"00{index}.png", transparency=bytes([0, 0]))
    dataset = open_folder(tmp_path)
    assert dataset.train.images[:, 0, 0].tolist() == [[10, 20, 30], [10, 20, 30]]


def test_one_color_image_gives_all_images_three_channels(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 3})
    save_image(tmp_path / "b" / "color.png", "RGB")
    dataset = open_folder(tmp_path)
    assert dataset.channels == 3
    assert (dataset.train.images[0, 0, 0] == dataset.train.images[0, 0, 0, 0]).all()


@pytest.mark.parametrize(("mode", "white"), [("L", 255), ("I;16", 80)])
def test_large_images_are_not_held_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, white: int
) -> None:
    monkeypatch.setattr(folder_images, "MAX_KEPT_BYTES", 1 << 20)
    for value in range(1, 81):
        save_image(tmp_path / "ab"[value % 2] / f"{value}.png", mode, (500, 500), value)
    tracemalloc.start()
    try:
        dataset = open_folder(tmp_path, size=16)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 15_000_000  # 80 images have 20 MB, or 40
    cells = sorted(int(cell[0, 0]) for _, split in dataset.splits() for cell in split.images)
    assert cells == np.rint(np.arange(1, 81) * (255 / white)).astype(int).tolist()


def test_gray_images_beside_color_ones_become_the_cells_of_prediction(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 3}, "RGB")
    gradient = np.add.outer(np.arange(9) * 20, np.arange(7) * 10).astype(np.uint8)
    Image.fromarray(gradient).save(tmp_path / "a" / "gray.png")
    dataset = open_folder(tmp_path, size=6)
    expected, _ = to_cell("gray.png", DecodedImage(gradient, "gray"), (3, 6, 6), DEFAULT_CONVERSION)
    assert any(np.array_equal(cell, expected) for _, split in dataset.splits() for cell in split.images)
    assert any("grayscale repeated in all three channels (1 of 7 images)" in text for text in dataset.warnings)


@pytest.mark.parametrize(("mode", "suffix"), [("I;16", ".png"), ("I;16", ".tif"), ("I", ".tif")])
def test_16_bit_images_are_scaled_by_one_factor(tmp_path: Path, mode: str, suffix: str) -> None:
    for name, values in {"a": (0, 1024, 2048), "b": (3072, 4096, 512)}.items():
        for value in values:
            save_image(tmp_path / name / f"{value}{suffix}", mode, value=value)
    dataset = open_folder(tmp_path)
    pixels = sorted(int(v) for _, split in dataset.splits() for v in split.images[:, 0, 0])
    assert pixels == [0, 32, 64, 128, 191, 255]
    assert "the maximum, 4096, becomes 255" in dataset.provenance.detail


def test_mixed_or_negative_bit_depths_are_refused(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 3})
    save_image(tmp_path / "b" / "16_bit.png", "I;16")
    assert_rejected(tmp_path, "mixes 8-bit and 16-bit")
    for file in tmp_path.glob("*/*"):
        file.unlink()
    fill_folder(tmp_path, {"a": 3, "b": 3}, "I", ".tif")
    save_image(tmp_path / "b" / "negative.tif", "I", value=-1)
    assert_rejected(tmp_path, "negative pixels")
    (tmp_path / "b" / "negative.tif").unlink()
    save_image(tmp_path / "a" / "000.tif", "F")
    assert_rejected(tmp_path, "mixes floating-point and 16-bit", "`white_level`")


def test_images_of_different_sizes_need_size(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 3})
    save_image(tmp_path / "b" / "wide.png", size=(8, 6), value=50)
    assert_rejected(tmp_path, "wide.png is 6x8 pixels", "000.png 6x6 pixels", "`size`")
    dataset = open_folder(tmp_path, size=4)
    assert dataset.image_size == (4, 4)
    assert dataset.provenance.detail.endswith(
        "resized to 4x4 pixels (bicubic), padded with black to keep the aspect ratio"
    )
    with pytest.raises(InvalidArgument) as exc_info:
        open_folder(tmp_path, size=0)
    assert (exc_info.value.parameter, exc_info.value.value) == ("size", 0)


def test_multi_page_and_animated_images_are_refused(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 3})
    pages = [Image.new("L", (6, 6), value) for value in (1, 2, 3)]
    for name in ("stack.tif", "moving.png"):
        pages[0].save(tmp_path / "a" / name, save_all=True, append_images=pages[1:])
        assert_rejected(tmp_path, name, "3 pages or frames", "maximum projection")
        (tmp_path / "a" / name).unlink()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("n_bytes", [0, 12, -30])
def test_damaged_images_are_refused(tmp_path: Path, suffix: str, n_bytes: int) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 3})
    path = tmp_path / "b" / f"cut{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (6, 6), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:n_bytes])
    assert_rejected(tmp_path, path.name, "damaged or not an image")


def test_links_are_followed_and_broken_ones_are_refused(tmp_path: Path) -> None:
    real = fill_folder(tmp_path / "real", {"a": 3, "b": 3})
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("a", "b"):
        (linked / name).symlink_to(real / name, target_is_directory=True)
    assert len(open_folder(linked).train) == 2
    (real / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert_rejected(linked, "gone.png", "can't be read")


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 3})
    for limit in (30, 10):  # above the limit Pillow warns, above twice the limit it raises
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert_rejected(tmp_path, "000.png", "far too large")


def test_progress_is_shown_on_a_terminal_for_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 3})
    enabled: list[bool] = []

    def tracked(files: list[object], *_: object, disable: bool, **__: object) -> list[object]:
        enabled.append(not disable)
        return files

    monkeypatch.setattr("nephros.console.track", tracked)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes this for a terminal
    open_folder(tmp_path)
    assert not enabled
    monkeypatch.setattr(folder_images, "_MIN_FILES_FOR_PROGRESS", 5)
    open_folder(tmp_path)
    monkeypatch.delenv("FORCE_COLOR")
    open_folder(tmp_path)
    assert enabled == [True, False]
