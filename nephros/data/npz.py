"""Open a file in MedMNIST's layout: an npz with {train,val,test}_{images,labels}, nothing in it ever unpickled."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nephros.data.dataset import SPLITS, Dataset, Provenance, Split, missing_class_warnings
from nephros.data.download import cache_dir
from nephros.data.in_memory_file import InMemoryFile
from nephros.data.medmnist import MEDMNIST, MedMNISTInfo
from nephros.errors import NephrosError, did_you_mean
from nephros.files import atomic_write, file_digest
from nephros.memory import available_memory

_EXPECTED_LAYOUT = "a MedMNIST file holds train_, val_ and test_ images and labels"
# Whatever zipfile, its decompressors and numpy's header reader raise when bytes are lost or changed.
_READ_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, KeyError, RuntimeError)


def open_npz(path: str | Path, *, max_memory: int | None = None) -> Dataset:
    """Open a MedMNIST-layout npz file.

    Args:
        path: images uint8 (n, h, w), (n, h, w, 1) or (n, h, w, 3); labels integer (n,) or (n, 1); optionally
            ``class_names``, an array of strings.
        memory_limit: bytes of host memory taken as free; None asks the system. Images larger than half of it are
            unpacked once into the cache folder and memory-mapped.

    Returns:
        The three splits, (n, h, w) where grey. The split is ``official`` only when the file's MD5 is the published one.

    Raises:
        UserError: the file is missing, damaged or not in this layout, or its labels and images don't fit each other.
    """
    path = Path(path).expanduser().absolute()
    max_bytes = available_memory() if max_memory is None else max_memory
    with open_archive(path) as archive:
        arrays = _read_headers(path, archive)
        _check_shapes(path, archive, arrays)
        labels = {split: _read_labels(path, archive, arrays[f"{split}_labels"]) for split in SPLITS}
        info, is_official = _identify_medmnist(
            path, arrays["train_images"], max(int(item.max()) for item in labels.values())
        )
        class_names = _class_names(path, archive, arrays.get("class_names"), info, labels)
        warnings = _check_labels(path, class_names, labels)
        sha256 = file_digest(path)
        images = {split: _load_images(path, archive, arrays[f"{split}_images"], sha256, max_bytes) for split in SPLITS}
    detail = "" if is_official or info is None else "not the published file: its MD5 differs"
    split: Literal["official", "own"] = "official" if is_official else "own"
    name = info.name if info else path.stem
    task = info.task if info else ("binary-class" if len(class_names) == 2 else "multi-class")
    provenance = Provenance(name, split, str(path), sha256, info.key if info else None, detail)
    train, val, test = (Split(images[split_name], labels[split_name]) for split_name in SPLITS)
    return Dataset(train, val, test, class_names, provenance, task, warnings)


@dataclass(frozen=True)
class _ArrayHeader:
    """One array of the file, known from its header alone."""

    name: str
    member: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@contextlib.contextmanager
def open_archive(path: Path | InMemoryFile) -> Iterator[zipfile.ZipFile]:
    """Open the zip archive, or say what the path is instead."""
    magic = path.data[:6] if isinstance(path, InMemoryFile) else _read_magic(path)
    if not magic:
        raise NephrosError(f"{path} is empty (0 bytes); download or copy it again.")
    if magic == b"\x93NUMPY":
        raise NephrosError(f"{path} is a single .npy array, not an .npz file; {_EXPECTED_LAYOUT}.")
    if not magic.startswith(b"PK"):
        raise NephrosError(f"{path} is not an .npz file; {_EXPECTED_LAYOUT}.")
    with translate_read_errors(path):
        archive = zipfile.ZipFile(path.open() if isinstance(path, InMemoryFile) else path)
    with archive:
        yield archive


def _read_magic(path: Path) -> bytes:
    """Return a file's first bytes, or say what the path is instead."""
    try:
        with path.open("rb") as file:
            return file.read(6)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NephrosError(
            f"{path} does not exist; give the path of an .npz file or of a folder.{_suggest_filename(path)}"
        ) from error
    except OSError as error:
        if os.path.isdir(path):
            raise NephrosError(f"{path} is a folder, not an .npz file; give the path of the file in it.") from error
        raise NephrosError(f"{path} can't be read ({error.strerror}); check its permissions.") from error


def _suggest_filename(path: Path) -> str:
    try:
        return did_you_mean(path.name, os.listdir(path.parent))
    except OSError:
        return ""


@contextlib.contextmanager
def translate_read_errors(path: Path | InMemoryFile, array_name: str = "") -> Iterator[None]:
    """Turn what decoding raises on lost or changed bytes into one sentence."""
    try:
        yield
    except NephrosError:
        raise
    except _READ_ERRORS as error:
        location = f" ({array_name} can't be read)" if array_name else ""
        raise NephrosError(f"{path} is damaged or cut short{location}; download or copy it again.") from error


def _read_headers(path: Path, archive: zipfile.ZipFile) -> dict[str, _ArrayHeader]:
    """Read the shape and dtype of every array that matters, decompressing only the headers."""
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    required = [f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")]
    missing = [name for name in required if name not in members]
    if missing:
        raise NephrosError(f"{path} has no {', '.join(missing)}; {_EXPECTED_LAYOUT}.")
    return {
        name: _read_array_header(path, archive, name, members[name])
        for name in [*required, "class_names"]
        if name in members
    }


def _read_array_header(path: Path, archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> _ArrayHeader:
    return _ArrayHeader(name, member, *read_npy_header(path, archive, name, member))


def read_npy_header(
    path: Path | InMemoryFile, archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return an array's shape and dtype; UserError when they are not those of numbers that fill the member exactly."""
    with translate_read_errors(path, name), archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        size = file.tell() + dtype.itemsize * int(np.prod(shape, dtype=object))
        if dtype.hasobject:
            raise NephrosError(
                f"{path}: {name} holds pickled Python objects, which are never opened; save it as numbers."
            )
        if size != member.file_size:
            raise EOFError(f"{member.file_size} bytes, not {size}")
    return shape, dtype


def _check_shapes(path: Path, archive: zipfile.ZipFile, arrays: dict[str, _ArrayHeader]) -> None:
    """Check everything that headers tell: dtypes, shapes, lengths, and that the splits agree."""
    train = arrays["train_images"]
    for split in SPLITS:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if images.dtype != np.uint8:
            raise NephrosError(
                f"{path}: {images.name} is {images.dtype}{_nan_note(path, archive, images)}; convert it to uint8."
            )
        if len(images.shape) not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)) or 0 in images.shape[1:]:
            raise NephrosError(f"{path}: {images.name} has shape {images.shape}; it must be (n, h, w) or (n, h, w, 3).")
        if images.shape[0] == 0:
            raise NephrosError(f"{path}: {split} has no images; every split needs some.")
        if labels.dtype.kind not in "iu":
            nan_note = _nan_note(path, archive, labels)
            raise NephrosError(f"{path}: {labels.name} is {labels.dtype}{nan_note}; labels must be integers from 0.")
        if len(labels.shape) == 2 and labels.shape[1] > 1:
            raise NephrosError(
                f"{path}: {labels.name} has {labels.shape[1]} labels an image; multi-label sets are not supported."
            )
        if labels.shape not in ((n_images := images.shape[0],), (n_images, 1)):
            raise NephrosError(
                f"{path}: {labels.name} has shape {labels.shape} for {n_images} images; give one label an image."
            )
        if images.shape[1:3] != train.shape[1:3]:
            raise NephrosError(
                f"{path}: {images.name} is {_size_text(images)} and train_images {_size_text(train)}; make them one size."
            )
        if _n_channels(images) != _n_channels(train):
            raise NephrosError(
                f"{path}: {images.name} has {_n_channels(images)} channels and train_images {_n_channels(train)}; "
                "make all grey or all colour."
            )


def _size_text(images: _ArrayHeader) -> str:
    return f"{images.shape[1]}x{images.shape[2]} pixels"


def _n_channels(images: _ArrayHeader) -> int:
    return images.shape[3] if len(images.shape) == 4 else 1


def _nan_note(path: Path, archive: zipfile.ZipFile, array: _ArrayHeader) -> str:
    """Say that a float array has NaN in it, where it does."""
    return " and contains NaN" if array.dtype.kind == "f" and np.isnan(_read_array(path, archive, array)).any() else ""


def _read_array(path: Path, archive: zipfile.ZipFile, array: _ArrayHeader) -> NDArray[Any]:
    with translate_read_errors(path, array.name), archive.open(array.member) as file:
        values: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return values


def _read_labels(path: Path, archive: zipfile.ZipFile, array: _ArrayHeader) -> NDArray[np.int64]:
    labels = _read_array(path, archive, array).reshape(-1)
    if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        bad_label = labels.min() if labels.min() < 0 else labels.max()
        raise NephrosError(f"{path}: {array.name} has the label {bad_label}; labels must count classes from 0.")
    return labels.astype(np.int64)


def _identify_medmnist(path: Path, train: _ArrayHeader, max_label: int) -> tuple[MedMNISTInfo | None, bool]:
    """Return the catalogue's entry that the file is of, and whether it is the published file itself."""
    info = MEDMNIST.get(re.sub(r"_\d+$", "", path.stem).lower())
    if info is None or info.channels != _n_channels(train) or max_label >= len(info.class_names):
        return None, False
    published_md5 = info.md5.get(train.shape[1]) if train.shape[1] == train.shape[2] else None
    return info, published_md5 is not None and file_digest(path, "md5") == published_md5


def _class_names(
    path: Path,
    archive: zipfile.ZipFile,
    names_array: _ArrayHeader | None,
    info: MedMNISTInfo | None,
    labels: dict[str, NDArray[np.int64]],
) -> tuple[str, ...]:
    """Return the catalogue's names, else the file's, else made-up ones for the highest label of all splits."""
    if info:
        return tuple(info.class_names)
    if names_array is None:
        return tuple(f"class {index}" for index in range(1 + _max_label(path, labels)))
    if names_array.dtype.kind not in "US" or len(names_array.shape) != 1:
        raise NephrosError(
            f"{path}: class_names is {names_array.dtype} {names_array.shape}; it must be a list of strings."
        )
    with translate_read_errors(path, "class_names"):
        return tuple(str(name) for name in _read_array(path, archive, names_array).astype(np.str_))


def _max_label(path: Path, labels: dict[str, NDArray[np.int64]]) -> int:
    """Return the highest label, checked against train's so that one stray label can't make a million classes."""
    max_label = max(int(values.max()) for values in labels.values())
    present = np.unique(labels["train"])
    if len(present) <= max_label:
        missing_label = int(np.flatnonzero(np.append(present, -1) != np.arange(len(present) + 1))[0])
        raise NephrosError(
            f"{path}: the labels go up to {max_label}, but class {missing_label} is missing from train; "
            "every class needs training images."
        )
    return max_label


def _check_labels(path: Path, class_names: tuple[str, ...], labels: dict[str, NDArray[np.int64]]) -> tuple[str, ...]:
    """Raise on labels that can't be learned; return a sentence for each class that val or test lacks."""
    warnings: list[str] = []
    if len(class_names) < 2:
        raise NephrosError(f"{path} has one class only; a classifier needs at least two.")
    for split, values in labels.items():
        if values.max() >= len(class_names):
            raise NephrosError(
                f"{path}: {split}_labels has the label {values.max()}, but there are {len(class_names)} classes, "
                f"0 to {len(class_names) - 1}; correct the labels or class_names."
            )
        missing_names = [
            class_names[index] for index in np.flatnonzero(np.bincount(values, minlength=len(class_names)) == 0)
        ]
        if missing_names and split == "train":
            raise NephrosError(
                f"{path}: {', '.join(missing_names)} is missing from train; every class needs training images."
            )
        warnings += missing_class_warnings(split, values, class_names)
    return tuple(warnings)


def _load_images(
    path: Path, archive: zipfile.ZipFile, array: _ArrayHeader, sha256: str, max_bytes: int
) -> NDArray[np.uint8]:
    """Return the images, memory-mapped from an unpacked copy where they would fill over half of the free memory."""
    if array.member.file_size <= max_bytes // 2:
        images = _read_array(path, archive, array)
    else:
        unpacked = cache_dir() / "mapped" / f"{sha256}-{array.name}.npy"
        if not unpacked.exists() or unpacked.stat().st_size != array.member.file_size:
            _unpack(path, archive, array, unpacked)
        images = np.load(unpacked, mmap_mode="r", allow_pickle=False)
    return images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images


def _unpack(path: Path, archive: zipfile.ZipFile, array: _ArrayHeader, target: Path) -> None:
    with translate_read_errors(path, array.name), archive.open(array.member) as compressed:
        try:
            with atomic_write(target) as file:
                shutil.copyfileobj(compressed, file, 1 << 20)
        except OSError as error:
            raise NephrosError(
                f"{path}: {array.name} is larger than half of the free memory, and {target.parent} can't hold its "
                f"{array.member.file_size} bytes ({error.strerror}); free some space there."
            ) from error
