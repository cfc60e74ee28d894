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

from nephros.data.dataset import SPLITS, Dataset, Provenance, Split, absent
from nephros.data.download import cache_folder
from nephros.data.in_memory_file import Held
from nephros.data.medmnist import CATALOGUE, CatalogueEntry
from nephros.errors import UserError, did_you_mean
from nephros.files import atomic, digest
from nephros.memory import free_host_memory

LAYOUT = "a MedMNIST file holds train_, val_ and test_ images and labels"
# Whatever zipfile, its decompressors and numpy's header reader raise when bytes are lost or changed.
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, KeyError, RuntimeError)


def open_npz(path: str | Path, *, memory_limit: int | None = None) -> Dataset:
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
    limit = free_host_memory() if memory_limit is None else memory_limit
    with opened(path) as archive:
        arrays = _headers(path, archive)
        _check_shapes(path, archive, arrays)
        labels = {split: _labels(path, archive, arrays[f"{split}_labels"]) for split in SPLITS}
        entry, official = _identify(path, arrays["train_images"], max(int(item.max()) for item in labels.values()))
        names = _class_names(path, archive, arrays.get("class_names"), entry, labels)
        warnings = _check_labels(path, names, labels)
        sha256 = digest(path)
        images = {split: _images(path, archive, arrays[f"{split}_images"], sha256, limit) for split in SPLITS}
    detail = "" if official or entry is None else "not the published file: its MD5 differs"
    split: Literal["official", "own"] = "official" if official else "own"
    name = entry.name if entry else path.stem
    task = entry.task if entry else ("binary-class" if len(names) == 2 else "multi-class")
    provenance = Provenance(name, split, str(path), sha256, entry.key if entry else None, detail)
    train, val, test = (Split(images[part], labels[part]) for part in SPLITS)
    return Dataset(train, val, test, names, provenance, task, warnings)


@dataclass(frozen=True)
class _Array:
    """One array of the file, known from its header alone."""

    name: str
    member: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@contextlib.contextmanager
def opened(path: Path | Held) -> Iterator[zipfile.ZipFile]:
    """Open the zip archive, or say what the path is instead."""
    start = path.data[:6] if isinstance(path, Held) else _start(path)
    if not start:
        raise UserError(f"{path} is empty (0 bytes); download or copy it again.")
    if start == b"\x93NUMPY":
        raise UserError(f"{path} is a single .npy array, not an .npz file; {LAYOUT}.")
    if not start.startswith(b"PK"):
        raise UserError(f"{path} is not an .npz file; {LAYOUT}.")
    with undamaged(path):
        archive = zipfile.ZipFile(path.open() if isinstance(path, Held) else path)
    with archive:
        yield archive


def _start(path: Path) -> bytes:
    """Return a file's first bytes, or say what the path is instead."""
    try:
        with path.open("rb") as file:
            return file.read(6)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path} does not exist; give the path of an .npz file or of a folder.{_near(path)}") from error
    except OSError as error:
        if os.path.isdir(path):
            raise UserError(f"{path} is a folder, not an .npz file; give the path of the file in it.") from error
        raise UserError(f"{path} can't be read ({error.strerror}); check its permissions.") from error


def _near(path: Path) -> str:
    try:
        return did_you_mean(path.name, os.listdir(path.parent))
    except OSError:
        return ""


@contextlib.contextmanager
def undamaged(path: Path | Held, part: str = "") -> Iterator[None]:
    """Turn what decoding raises on lost or changed bytes into one sentence."""
    try:
        yield
    except UserError:
        raise
    except _DAMAGE as error:
        where = f" ({part} can't be read)" if part else ""
        raise UserError(f"{path} is damaged or cut short{where}; download or copy it again.") from error


def _headers(path: Path, archive: zipfile.ZipFile) -> dict[str, _Array]:
    """Read the shape and dtype of every array that matters, decompressing only the headers."""
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    wanted = [f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")]
    missing = [name for name in wanted if name not in members]
    if missing:
        raise UserError(f"{path} has no {', '.join(missing)}; {LAYOUT}.")
    return {name: _header(path, archive, name, members[name]) for name in [*wanted, "class_names"] if name in members}


def _header(path: Path, archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> _Array:
    return _Array(name, member, *header_of(path, archive, name, member))


def header_of(
    path: Path | Held, archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return an array's shape and dtype; UserError when they are not those of numbers that fill the member exactly."""
    with undamaged(path, name), archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        size = file.tell() + dtype.itemsize * int(np.prod(shape, dtype=object))
        if dtype.hasobject:
            raise UserError(f"{path}: {name} holds pickled Python objects, which are never opened; save it as numbers.")
        if size != member.file_size:
            raise EOFError(f"{member.file_size} bytes, not {size}")
    return shape, dtype


def _check_shapes(path: Path, archive: zipfile.ZipFile, arrays: dict[str, _Array]) -> None:
    """Check everything that headers tell: dtypes, shapes, lengths, and that the splits agree."""
    train = arrays["train_images"]
    for split in SPLITS:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if images.dtype != np.uint8:
            raise UserError(
                f"{path}: {images.name} is {images.dtype}{_nan(path, archive, images)}; convert it to uint8."
            )
        if len(images.shape) not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)) or 0 in images.shape[1:]:
            raise UserError(f"{path}: {images.name} has shape {images.shape}; it must be (n, h, w) or (n, h, w, 3).")
        if images.shape[0] == 0:
            raise UserError(f"{path}: {split} has no images; every split needs some.")
        if labels.dtype.kind not in "iu":
            nan = _nan(path, archive, labels)
            raise UserError(f"{path}: {labels.name} is {labels.dtype}{nan}; labels must be integers from 0.")
        if len(labels.shape) == 2 and labels.shape[1] > 1:
            raise UserError(
                f"{path}: {labels.name} has {labels.shape[1]} labels an image; multi-label sets are not supported."
            )
        if labels.shape not in ((len_ := images.shape[0],), (len_, 1)):
            raise UserError(
                f"{path}: {labels.name} has shape {labels.shape} for {len_} images; give one label an image."
            )
        if images.shape[1:3] != train.shape[1:3]:
            raise UserError(
                f"{path}: {images.name} is {_pixels(images)} and train_images {_pixels(train)}; make them one size."
            )
        if _channels(images) != _channels(train):
            raise UserError(
                f"{path}: {images.name} has {_channels(images)} channels and train_images {_channels(train)}; "
                "make all grey or all colour."
            )


def _pixels(images: _Array) -> str:
    return f"{images.shape[1]}x{images.shape[2]} pixels"


def _channels(images: _Array) -> int:
    return images.shape[3] if len(images.shape) == 4 else 1


def _nan(path: Path, archive: zipfile.ZipFile, array: _Array) -> str:
    """Say that a float array has NaN in it, where it does."""
    return " and contains NaN" if array.dtype.kind == "f" and np.isnan(_read(path, archive, array)).any() else ""


def _read(path: Path, archive: zipfile.ZipFile, array: _Array) -> NDArray[Any]:
    with undamaged(path, array.name), archive.open(array.member) as file:
        values: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return values


def _labels(path: Path, archive: zipfile.ZipFile, array: _Array) -> NDArray[np.int64]:
    labels = _read(path, archive, array).reshape(-1)
    if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise UserError(f"{path}: {array.name} has the label {wrong}; labels must count classes from 0.")
    return labels.astype(np.int64)


def _identify(path: Path, train: _Array, highest: int) -> tuple[CatalogueEntry | None, bool]:
    """Return the catalogue's entry that the file is of, and whether it is the published file itself."""
    entry = CATALOGUE.get(re.sub(r"_\d+$", "", path.stem).lower())
    if entry is None or entry.channels != _channels(train) or highest >= len(entry.class_names):
        return None, False
    published = entry.md5.get(train.shape[1]) if train.shape[1] == train.shape[2] else None
    return entry, published is not None and digest(path, "md5") == published


def _class_names(
    path: Path,
    archive: zipfile.ZipFile,
    given: _Array | None,
    entry: CatalogueEntry | None,
    labels: dict[str, NDArray[np.int64]],
) -> tuple[str, ...]:
    """Return the catalogue's names, else the file's, else made-up ones for the highest label of all splits."""
    if entry:
        return tuple(entry.class_names)
    if given is None:
        return tuple(f"class {index}" for index in range(1 + _highest(path, labels)))
    if given.dtype.kind not in "US" or len(given.shape) != 1:
        raise UserError(f"{path}: class_names is {given.dtype} {given.shape}; it must be a list of strings.")
    with undamaged(path, "class_names"):
        return tuple(str(name) for name in _read(path, archive, given).astype(np.str_))


def _highest(path: Path, labels: dict[str, NDArray[np.int64]]) -> int:
    """Return the highest label, checked against train's so that one stray label can't make a million classes."""
    highest = max(int(values.max()) for values in labels.values())
    present = np.unique(labels["train"])
    if len(present) <= highest:
        absent = int(np.flatnonzero(np.append(present, -1) != np.arange(len(present) + 1))[0])
        raise UserError(
            f"{path}: the labels go up to {highest}, but class {absent} is missing from train; "
            "every class needs training images."
        )
    return highest


def _check_labels(path: Path, names: tuple[str, ...], labels: dict[str, NDArray[np.int64]]) -> tuple[str, ...]:
    """Raise on labels that can't be learned; return a sentence for each class that val or test lacks."""
    warnings: list[str] = []
    if len(names) < 2:
        raise UserError(f"{path} has one class only; a classifier needs at least two.")
    for split, values in labels.items():
        if values.max() >= len(names):
            raise UserError(
                f"{path}: {split}_labels has the label {values.max()}, but there are {len(names)} classes, "
                f"0 to {len(names) - 1}; correct the labels or class_names."
            )
        lacking = [names[index] for index in np.flatnonzero(np.bincount(values, minlength=len(names)) == 0)]
        if lacking and split == "train":
            raise UserError(f"{path}: {', '.join(lacking)} is missing from train; every class needs training images.")
        warnings += absent(split, values, names)
    return tuple(warnings)


def _images(path: Path, archive: zipfile.ZipFile, array: _Array, sha256: str, limit: int) -> NDArray[np.uint8]:
    """Return the images, memory-mapped from an unpacked copy where they would fill over half of the free memory."""
    if array.member.file_size <= limit // 2:
        images = _read(path, archive, array)
    else:
        unpacked = cache_folder() / "mapped" / f"{sha256}-{array.name}.npy"
        if not unpacked.exists() or unpacked.stat().st_size != array.member.file_size:
            _unpack(path, archive, array, unpacked)
        images = np.load(unpacked, mmap_mode="r", allow_pickle=False)
    return images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images


def _unpack(path: Path, archive: zipfile.ZipFile, array: _Array, target: Path) -> None:
    with undamaged(path, array.name), archive.open(array.member) as packed:
        try:
            with atomic(target) as file:
                shutil.copyfileobj(packed, file, 1 << 20)
        except OSError as error:
            raise UserError(
                f"{path}: {array.name} is larger than half of the free memory, and {target.parent} can't hold its "
                f"{array.member.file_size} bytes ({error.strerror}); free some space there."
            ) from error
