"""Files in MedMNIST's layout: what opens, under which name, and what is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nephros.data.load import load_dataset
from nephros.data.medmnist import MEDMNIST
from nephros.data.npz import opening as npz
from nephros.data.npz.archive import open_archive
from nephros.data.npz.arrays import NpzArray, open_array, read_array
from nephros.data.npz.opening import open_npz
from nephros.environment import available_memory
from nephros.errors import FileError
from nephros.files import file_digest

SPLITS = {"train": 24, "val": 8, "test": 16}
Arrays = dict[str, Any]


def make_arrays(n_classes: int = 8, color: bool = False, pixels: int = 28) -> Arrays:
    """Return random arrays in MedMNIST's layout, with each class in every split."""
    generator = np.random.default_rng(0)
    result: Arrays = {}
    for split, n in SPLITS.items():
        shape = (n, pixels, pixels, 3) if color else (n, pixels, pixels)
        result[f"{split}_images"] = generator.integers(0, 256, shape, dtype=np.uint8)
        result[f"{split}_labels"] = (np.arange(n, dtype=np.uint8) % n_classes)[:, None]
    return result


def write_npz(path: Path, arrays: Arrays, *, compressed: bool = True) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def assert_rejected(path: Path, *expected_texts: str) -> str:
    """Check that `path` is refused with a one-line message that names it and contains `expected_texts`."""
    with pytest.raises(FileError) as exc_info:
        open_npz(path)
    message = str(exc_info.value)
    assert str(path) in message
    assert "\n" not in message
    for text in expected_texts:
        assert text in message
    return message


def test_arrays_are_read_as_written(tmp_path: Path) -> None:
    expected = make_arrays()
    dataset = open_npz(write_npz(tmp_path / "cells.npz", expected))
    for name, split in dataset.splits():
        assert np.array_equal(split.images, expected[f"{name}_images"])
        assert np.array_equal(split.labels, expected[f"{name}_labels"][:, 0])
        assert split.labels.dtype == np.int64
    assert dataset.class_names == tuple(f"class {index}" for index in range(8))
    assert dataset.provenance.title == "cells"
    assert dataset.provenance.sha256 == file_digest(tmp_path / "cells.npz")
    assert dataset.provenance.key is None
    assert dataset.warnings == ()


def test_a_channel_axis_of_one_is_squeezed_and_color_is_kept(tmp_path: Path) -> None:
    rgb = make_arrays(color=True)
    assert open_npz(write_npz(tmp_path / "color.npz", rgb)).channels == 3
    grayscale = {name: value[..., :1] if "images" in name else value for name, value in rgb.items()}
    dataset = open_npz(write_npz(tmp_path / "gray.npz", grayscale))
    assert dataset.train.images.shape == (24, 28, 28)
    assert dataset.channels == 1


def test_flat_labels_of_any_integer_type_are_read(tmp_path: Path) -> None:
    flat = {name: value.ravel().astype(">i4") if "labels" in name else value for name, value in make_arrays().items()}
    assert open_npz(write_npz(tmp_path / "flat.npz", flat)).test.labels.tolist() == [*range(8), *range(8)]


def test_a_medmnist_name_applies_only_where_the_arrays_match(tmp_path: Path) -> None:
    fits = open_npz(write_npz(tmp_path / "tissuemnist_64.npz", make_arrays(pixels=64)))
    assert fits.class_names == MEDMNIST["tissuemnist"].class_names
    assert fits.provenance.title == "TissueMNIST, own split"
    assert fits.provenance.key == "tissuemnist"
    assert "MD5 differs" in fits.provenance.detail
    for name, contents in {
        "nine": make_arrays(n_classes=8) | {"val_labels": np.arange(8)},
        "rgb": make_arrays(color=True),
    }.items():
        if name == "nine":
            contents["train_labels"] = np.arange(24) % 9
        folder = tmp_path / name
        folder.mkdir()
        dataset = open_npz(write_npz(folder / "tissuemnist.npz", contents))
        assert dataset.provenance.title == "tissuemnist"
        assert dataset.class_names[0] == "class 0"
        assert dataset.provenance.key is None


def test_the_official_split_needs_the_published_md5_of_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_npz(tmp_path / "tissuemnist.npz", make_arrays())
    for size, split in ((28, "official"), (64, "own")):
        published = dataclasses.replace(MEDMNIST["tissuemnist"], md5={size: file_digest(path, "md5")})
        monkeypatch.setitem(MEDMNIST, "tissuemnist", published)
        assert open_npz(path).provenance.split == split


def test_class_names_are_read_from_the_file(tmp_path: Path) -> None:
    contents = make_arrays(n_classes=3) | {"class_names": np.array(["podocyte", "leukocyte", "tubule"])}
    dataset = open_npz(write_npz(tmp_path / "named.npz", contents))
    assert dataset.class_names == ("podocyte", "leukocyte", "tubule")


def test_names_in_a_file_win_over_medmnist_s(tmp_path: Path) -> None:
    published = MEDMNIST["tissuemnist"].class_names
    same, others = published[::-1], tuple(f"cell type {index}" for index in range(8))
    for names, key in ((same, "tissuemnist"), (others, None), (others[:7] + published[:1], None)):
        dataset = open_npz(write_npz(tmp_path / "tissuemnist.npz", make_arrays() | {"class_names": np.array(names)}))
        assert dataset.class_names == names
        assert dataset.provenance.key == key


@pytest.mark.parametrize("names", [("ring", "disc", "ring"), ("ring", "", "bar")])
def test_repeated_and_empty_class_names_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    contents = make_arrays(n_classes=3) | {"class_names": np.array(names)}
    assert_rejected(write_npz(tmp_path / "named.npz", contents), "class_names")


def test_arrays_of_images_that_are_not_read_are_named(tmp_path: Path) -> None:
    contents = make_arrays() | {"test2_images": np.zeros(3), "extra_labels": np.zeros(3), "ids": np.zeros(3)}
    (warning,) = open_npz(write_npz(tmp_path / "more.npz", contents)).warnings
    assert "extra_labels, test2_images (2 in all)" in warning


def test_classes_are_counted_over_all_splits(tmp_path: Path) -> None:
    contents = make_arrays(n_classes=5)
    contents["test_labels"] = np.arange(16) % 4
    dataset = open_npz(write_npz(tmp_path / "lacking.npz", contents))
    assert dataset.n_classes == 5
    assert len(dataset.warnings) == 1
    assert "test has no image of class 4" in dataset.warnings[0]
    assert open_npz(write_npz(tmp_path / "two.npz", make_arrays(n_classes=2))).task == "binary-class"


def test_headers_are_parsed_one_at_a_time_since_python_s_parser_is_not_for_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse_header = np.lib.format.read_array_header_1_0
    parsing = threading.Lock()
    threads: set[int] = set()

    def parse_alone(file: Any) -> Any:
        assert parsing.acquire(blocking=False)
        time.sleep(0.01)
        threads.add(threading.get_ident())
        parsing.release()
        return parse_header(file)

    monkeypatch.setattr(np.lib.format, "read_array_header_1_0", parse_alone)
    open_npz(write_npz(tmp_path / "cells.npz", make_arrays()))
    assert len(threads) > 1


@pytest.mark.parametrize("dtype", ["<U7", "S5", ">f4", "bool", "<f2"])
def test_arrays_in_either_order_come_back_as_they_were_stored(tmp_path: Path, dtype: str) -> None:
    rows = (np.arange(24).reshape(2, 3, 4) % 3).astype(dtype)
    path = write_npz(
        tmp_path / "a.npz", {"c": rows, "f": np.asfortranarray(rows), "none": rows[:0], "one": rows[0, 0, 0]}
    )
    with open_archive(path) as archive, np.load(path) as expected:
        for name in expected:
            values = read_array(path, archive, open_array(path, archive, name))
            assert values.dtype == expected[name].dtype
            assert np.array_equal(values, expected[name])
            assert values.flags.writeable


def test_images_larger_than_half_of_the_memory_are_unpacked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEPHROS_CACHE", str(tmp_path / "cache"))
    contents = make_arrays()
    path = write_npz(tmp_path / "cells.npz", contents)
    limit = 2 * contents["test_images"].nbytes + 1000  # test fits into half of it, train does not
    dataset = open_npz(path, max_memory=limit)
    unpacked = tmp_path / "cache" / "mapped" / f"{file_digest(path)}-train_images.npy"
    assert [file.name for file in unpacked.parent.iterdir()] == [unpacked.name]
    assert isinstance(dataset.train.images, np.memmap)
    assert not isinstance(dataset.test.images, np.memmap)
    assert np.array_equal(dataset.train.images, contents["train_images"])

    modified = unpacked.stat().st_mtime_ns
    open_npz(path, max_memory=limit)
    assert unpacked.stat().st_mtime_ns == modified
    unpacked.write_bytes(b"cut short")
    assert np.array_equal(open_npz(path, max_memory=limit).train.images, contents["train_images"])


def test_a_cache_that_can_not_be_written_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("NEPHROS_CACHE", str(tmp_path / "file"))
    with pytest.raises(FileError, match="free some space"):
        open_npz(write_npz(tmp_path / "cells.npz", make_arrays()), max_memory=0)


def test_free_memory_is_the_default_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_memory() > 1 << 20
    monkeypatch.setenv("NEPHROS_CACHE", str(tmp_path))
    monkeypatch.setattr(npz, "available_memory", lambda: 0)
    assert isinstance(open_npz(write_npz(tmp_path / "cells.npz", make_arrays())).train.images, np.memmap)


def test_a_missing_file_suggests_its_neighbor(tmp_path: Path) -> None:
    write_npz(tmp_path / "tissuemnist.npz", make_arrays())
    assert_rejected(tmp_path / "tissuemist.npz", "does not exist", "Did you mean 'tissuemnist.npz'?")
    assert_rejected(tmp_path / "nowhere" / "x.npz", "does not exist")


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    assert_rejected(tmp_path, "is a folder")
    for name, content, expected_text in (
        ("empty.npz", b"", "empty (0 bytes)"),
        ("text.npz", b"train,val,test\n", "not an .npz file"),
        ("stack.tif", b"II*\0" + bytes(60), "nephros.finetune(STACK"),
    ):
        (tmp_path / name).write_bytes(content)
        assert_rejected(tmp_path / name, expected_text)
    np.save(tmp_path / "bare.npy", np.zeros(3))
    assert_rejected(tmp_path / "bare.npy", "single .npy array")


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_npz(tmp_path / "secret.npz", make_arrays())

    def deny(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return original_open(self, *args, **kwargs)

    original_open = Path.open
    monkeypatch.setattr(Path, "open", deny)  # the tests may run as a user to whom permissions don't apply
    assert_rejected(path, "Permission denied", "check its permissions")


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, fraction: float) -> None:
    path = write_npz(tmp_path / "cut.npz", make_arrays())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    assert_rejected(path, "damaged or cut short", "download or copy it again")


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("memory_limit", [None, 0])
def test_changed_bytes_are_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool, memory_limit: int | None
) -> None:
    monkeypatch.setenv("NEPHROS_CACHE", str(tmp_path))
    path = write_npz(tmp_path / "flipped.npz", make_arrays(), compressed=compressed)
    data = bytearray(path.read_bytes())
    data[5000:5008] = bytes(8)  # in train_images, far from any header
    path.write_bytes(data)
    with pytest.raises(FileError, match=r"damaged or cut short \(train_images can't be read\)"):
        open_npz(path, max_memory=memory_limit)
    assert not list(tmp_path.glob("mapped/*"))


def test_a_header_that_promises_too_much_is_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "promise.npz", make_arrays())
    with zipfile.ZipFile(path, "r") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    promised = members["train_images.npy"].replace(b"(24, 28, 28)", b"(24, 28, 99999999)")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {**members, "train_images.npy": promised}.items():
            archive.writestr(name, content)
    assert_rejected(path, "train_images", "damaged")


def test_pickled_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    for name in ("train_images", "val_labels", "class_names"):
        contents = make_arrays() | {name: np.array([Trap()], dtype=object)}
        assert_rejected(write_npz(tmp_path / "trap.npz", contents), name, "pickled", "never opened")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["train_images", "val_labels", "test_images"])
def test_a_missing_array_is_named(tmp_path: Path, name: str) -> None:
    contents = make_arrays()
    del contents[name]
    assert_rejected(write_npz(tmp_path / "part.npz", contents), f"has no {name};", "train_, val_ and test_")


BAD: dict[str, tuple[Arrays, list[str]]] = {
    "float images": (
        {"train_images": np.zeros((24, 28, 28), np.float32)},
        ["train_images is float32", "val_images is uint8", "same type"],
    ),
    "16-bit images": ({"val_images": np.zeros((8, 28, 28), np.uint16)}, ["val_images is uint16", "same type"]),
    "flat images": ({"val_images": np.zeros((8, 784), np.uint8)}, ["val_images has shape (8, 784)", "(n, h, w)"]),
    "two channels": ({"val_images": np.zeros((8, 28, 28, 2), np.uint8)}, ["shape (8, 28, 28, 2)"]),
    "no pixels": ({"val_images": np.zeros((8, 0, 28), np.uint8)}, ["shape (8, 0, 28)"]),
    "empty split": ({"test_images": np.zeros((0, 28, 28), np.uint8)}, ["test has no images"]),
    "lengths": ({"test_labels": np.zeros(15, np.uint8)}, ["test_labels has shape (15,) for 16 images"]),
    "sizes": ({"val_images": np.zeros((8, 32, 28), np.uint8)}, ["32x28 pixels", "28x28 pixels", "the same size"]),
    "channels": ({"val_images": np.zeros((8, 28, 28, 3), np.uint8)}, ["val_images has 3 channels", "1;"]),
    "float labels": ({"val_labels": np.arange(8) + 0.5}, ["val_labels is float64", "0.5", "whole numbers"]),
    "NaN labels": ({"val_labels": np.full(8, np.nan)}, ["val_labels is float64 and contains NaN"]),
    "multi-label": ({"val_labels": np.zeros((8, 14), np.uint8)}, ["14 columns", "8 of 8 rows", "not supported"]),
    "negative": ({"val_labels": np.array([-1, *range(7)])}, ["val_labels has the label -1"]),
    "huge label": ({"val_labels": np.full(8, 2**62)}, [f"the label {2**62}"]),
    "stray label": ({"val_labels": np.full(8, 10**9)}, ["go up to 1000000000", "class 8 is missing from train"]),
    "no class 0": ({"train_labels": 1 + np.arange(24) % 7}, ["class 0 is missing from train"]),
    "only one class": ({f"{s}_labels": np.zeros(n, np.uint8) for s, n in SPLITS.items()}, ["one class only"]),
    "beyond names": ({"class_names": np.array(["a", "b", "c"])}, ["label 7", "3 classes, 0 to 2"]),
    "unseen name": ({"class_names": np.array([*"abcdefghi"])}, ["i is missing from train"]),
    "numbers as names": ({"class_names": np.arange(8)}, ["class_names", "list of strings"]),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_arrays_are_refused(tmp_path: Path, case: str) -> None:
    changed, expected_texts = BAD[case]
    message = assert_rejected(write_npz(tmp_path / "bad.npz", make_arrays() | changed), *expected_texts)
    assert ("NaN" in message) == ("NaN" in case)


def test_train_without_one_of_medmnists_classes_is_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "tissuemnist.npz", make_arrays() | {"train_labels": np.arange(24) % 7})
    assert_rejected(path, "Thick Ascending Limb is missing from train")


def test_any_changed_byte_gives_data_or_a_file_error(tmp_path: Path) -> None:
    """No damage to the zip archive's own tables may raise anything else."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{k: v[:, :2, :2] if "images" in k else v for k, v in make_arrays().items()})
    valid_bytes, path = buffer.getvalue(), tmp_path / "fuzzed.npz"
    generator, refusals = np.random.default_rng(0), 0
    for _ in range(300):
        changed = bytearray(valid_bytes)
        changed[generator.integers(2, len(valid_bytes))] = generator.integers(256)
        path.write_bytes(changed)
        with contextlib.suppress(FileError):
            open_npz(path)
            continue
        refusals += 1
    assert 100 < refusals < 300


def test_opening_data_needs_no_torch() -> None:
    code = "import sys, nephros.data.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


@pytest.mark.slow
@pytest.mark.usefixtures("real_data")
def test_tissuemnist_has_the_sizes_of_its_split() -> None:
    dataset = load_dataset("tissuemnist")
    assert dataset.image_size == (28, 28)
    assert dataset.n_classes == 8
    if dataset.provenance.split == "own":
        assert dataset.provenance.title == "TissueMNIST, own split"
        assert [len(split) for _, split in dataset.splits()] == [165380, 23640, 37280]
    else:
        assert [len(split) for _, split in dataset.splits()] == [165466, 23640, 47280]


def test_images_that_are_read_at_once_have_archives_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.12 and 3.13 mix up the places of threads that share one, and the data seems to be damaged."""
    archives = {}

    def read_and_note(path: Path, archive: zipfile.ZipFile, array: NpzArray) -> NDArray[Any]:
        archives[array.name] = archive
        return read_array(path, archive, array)

    monkeypatch.setattr("nephros.data.npz.opening.read_array", read_and_note)
    arrays = make_arrays()
    np.savez_compressed(tmp_path / "cells.npz", **arrays)
    dataset = open_npz(tmp_path / "cells.npz")
    for split in SPLITS:
        np.testing.assert_array_equal(dataset.split(split).images, arrays[f"{split}_images"])
    assert len({id(archives[f"{split}_images"]) for split in SPLITS}) == len(SPLITS)
