"""Images that are in train and in test, or in two classes, are counted in warnings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from nephros.data.folders.opening import open_folder
from nephros.data.npz.opening import open_npz
from nephros.data.repeated_images import repeated_image_warnings
from nephros.data.split import Split

NAMES = ("disc", "ring")
IMAGES = np.random.default_rng(0).integers(0, 255, (12, 8, 8), dtype=np.uint8)


def splits(train: list[int], test: list[int], test_label: int = 0) -> dict[str, Split]:
    return {
        name: Split(IMAGES[rows], np.full(len(rows), label, np.int64))
        for name, rows, label in (("train", train, 0), ("val", [11], 0), ("test", test, test_label))
    }


def test_images_of_train_in_test_are_counted() -> None:
    assert not repeated_image_warnings(splits([0, 1, 1], [2, 2]), NAMES)
    (warning,) = repeated_image_warnings(splits([0, 1, 2], [2, 3, 0]), NAMES)
    assert "2 of 3 images of test" in warning


def test_images_in_two_classes_are_counted() -> None:
    _, warning = repeated_image_warnings(splits([0, 1, 2], [2, 3], test_label=1), NAMES)
    assert "1 image " in warning
    assert "'disc' and 'ring'" in warning


def test_blank_images_do_not_count() -> None:
    blank = Split(np.zeros((3, 8, 8, 3), np.uint8), np.arange(3) % 2)
    assert not repeated_image_warnings({"train": blank, "val": blank, "test": blank}, NAMES)


def test_folders_and_arrays_are_looked_through(tmp_path: Path) -> None:
    for split, rows in (("train", range(4)), ("val", range(4, 6)), ("test", (3, 6))):
        for row, name in ((row, name) for name in NAMES for row in rows):
            path = tmp_path / "folder" / split / name / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(IMAGES[row] + np.uint8(name == "ring")).save(path)
    (warning,) = open_folder(tmp_path / "folder").warnings
    assert "2 of 4 images of test" in warning
    labels = np.arange(12) % 2
    np.savez(
        tmp_path / "a.npz", train_images=IMAGES, train_labels=labels, test_images=IMAGES[:2], test_labels=labels[:2]
    )
    assert any("2 of 2 images of test" in warning for warning in open_npz(tmp_path / "a.npz").warnings)


def test_images_smaller_than_eight_bytes_are_counted() -> None:
    images = np.arange(6, dtype=np.uint8).reshape(3, 1, 2)
    train, val = (Split(images[rows], np.zeros(len(rows), np.int64)) for rows in ([0, 1], [1, 2, 1]))
    (warning,) = repeated_image_warnings({"train": train, "val": val, "test": val[np.array([1])]}, NAMES)
    assert "2 of 3 images of val" in warning
