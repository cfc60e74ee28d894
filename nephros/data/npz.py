"""Data sets in MedMNIST's layout: one npz file with {train,val,test}_{images,labels}. Nothing in it is ever unpickled."""

from __future__ import annotations

import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nephros.data.dataset import SPLITS, Dataset, Provenance, Split, class_name_fault, missing_class_warnings
from nephros.data.download import cache_dir
from nephros.data.medmnist import MEDMNIST, MedMNISTInfo
from nephros.data.npz_archive import EXPECTED_LAYOUT, open_archive, read_member_header, translate_read_errors
from nephros.environment import available_memory
from nephros.errors import FileError
from nephros.files import atomic_write, file_digest

_MAX_CLASS_NAMES_BYTES = 64 << 20


def open_npz(path: str | Path, *, max_memory: int | None = None) -> Dataset:
    """Open an npz file in MedMNIST's layout.

    Args:
        path: holds uint8 images, (n, h, w), (n, h, w, 1) or (n, h, w, 3), and integer labels, (n,) or (n, 1), of each split;
            optionally ``class_names``, an array of strings, which wins over MedMNIST's names.
        max_memory: free host memory in bytes; None asks the system. Images larger than half of it are unpacked once to the
            cache folder and memory-mapped.

    Returns:
        The three splits; grayscale images are (n, h, w). The split is ``official`` only where the file's MD5 is the
        published one.

    Raises:
        FileError: the file is missing or damaged, is not in this layout, or its labels and images don't fit together.
    """
    path = Path(path).expanduser().absolute()
    max_bytes = available_memory() if max_memory is None else max_memory
    with open_archive(path) as archive:
        arrays = _read_headers(path, archive)
        _check_headers(path, archive, arrays)
        labels = {split: _read_labels(path, archive, arrays[f"{split}_labels"]) for split in SPLITS}
        max_label = max(int(values.max()) for values in labels.values())
        info, is_official = _identify_medmnist(path, arrays["train_images"], max_label)
        own_names = _own_class_names(path, archive, arrays.get("class_names"))
        if info and own_names and set(own_names) != set(info.class_names):
            info, is_official = None, False  # the file's name is MedMNIST's, but its classes are others
        class_names = own_names or _default_class_names(path, info, labels)
        warnings = _check_labels(path, class_names, labels) + _unread_warnings(path, archive)
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
class _Array:
    """An array in the archive whose header has been read."""

    name: str
    member: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size_text(self) -> str:
        """The size of its images, for messages."""
        return f"{self.shape[1]}x{self.shape[2]} pixels"

    @property
    def channels(self) -> int:
        """The number of channels of its images."""
        return self.shape[3] if len(self.shape) == 4 else 1


def _read_headers(path: Path, archive: zipfile.ZipFile) -> dict[str, _Array]:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    required = [f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")]
    missing = [name for name in required if name not in members]
    if missing:
        raise FileError(path, f"{path} has no {', '.join(missing)}; {EXPECTED_LAYOUT}.")
    return {
        name: _Array(name, members[name], *read_member_header(path, archive, name, members[name]))
        for name in [*required, "class_names"]
        if name in members
    }


def _check_headers(path: Path, archive: zipfile.ZipFile, arrays: dict[str, _Array]) -> None:
    """Check what the headers reveal: dtypes, shapes and lengths, and that the splits agree."""
    for split in SPLITS:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        _check_images_header(path, archive, images, arrays["train_images"])
        if images.shape[0] == 0:
            raise FileError(path, f"{path}: {split} has no images; every split needs some.")
        if labels.dtype.kind not in "iu":
            nan_note = _nan_note(path, archive, labels)
            raise FileError(path, f"{path}: {labels.name} is {labels.dtype}{nan_note}; labels must be integers from 0.")
        if len(labels.shape) == 2 and labels.shape[1] > 1:
            raise FileError(
                path,
                f"{path}: {labels.name} has {labels.shape[1]} labels per image; multi-label data sets are not supported.",
            )
        if labels.shape not in ((n_images := images.shape[0],), (n_images, 1)):
            raise FileError(
                path,
                f"{path}: {labels.name} has shape {labels.shape} for {n_images} images; give one label per image.",
            )


def _check_images_header(path: Path, archive: zipfile.ZipFile, images: _Array, train: _Array) -> None:
    if images.dtype != np.uint8:
        raise FileError(
            path, f"{path}: {images.name} is {images.dtype}{_nan_note(path, archive, images)}; convert it to uint8."
        )
    if len(images.shape) not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)) or 0 in images.shape[1:]:
        raise FileError(path, f"{path}: {images.name} has shape {images.shape}; it must be (n, h, w) or (n, h, w, 3).")
    if images.shape[1:3] != train.shape[1:3]:
        raise FileError(
            path,
            f"{path}: {images.name} is {images.size_text} and train_images {train.size_text}; make them the same size.",
        )
    if images.channels != train.channels:
        raise FileError(
            path,
            f"{path}: {images.name} has {images.channels} channels and train_images {train.channels}; "
            "make all images grayscale or all of them color.",
        )


def _nan_note(path: Path, archive: zipfile.ZipFile, array: _Array) -> str:
    """Return a remark for a float array that contains NaN, else an empty string."""
    return " and contains NaN" if array.dtype.kind == "f" and np.isnan(_read_array(path, archive, array)).any() else ""


def _read_array(path: Path, archive: zipfile.ZipFile, array: _Array) -> NDArray[Any]:
    with translate_read_errors(path, array.name), archive.open(array.member) as file:
        values: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return values


def _read_labels(path: Path, archive: zipfile.ZipFile, array: _Array) -> NDArray[np.int64]:
    labels = _read_array(path, archive, array).reshape(-1)
    if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        bad_label = labels.min() if labels.min() < 0 else labels.max()
        raise FileError(path, f"{path}: {array.name} has the label {bad_label}; labels must number the classes from 0.")
    return labels.astype(np.int64)


def _identify_medmnist(path: Path, train: _Array, max_label: int) -> tuple[MedMNISTInfo | None, bool]:
    """Return the MedMNIST data set that the file's name and arrays match, and whether this is the published file."""
    info = MEDMNIST.get(re.sub(r"_\d+$", "", path.stem).lower())
    if info is None or info.channels != train.channels or max_label >= len(info.class_names):
        return None, False
    published_md5 = info.md5.get(train.shape[1]) if train.shape[1] == train.shape[2] else None
    return info, published_md5 is not None and file_digest(path, "md5") == published_md5


def _own_class_names(path: Path, archive: zipfile.ZipFile, array: _Array | None) -> tuple[str, ...]:
    """Return the class names that the file holds; none where it has no array of them."""
    if array is None:
        return ()
    if array.dtype.kind not in "US" or len(array.shape) != 1:
        raise FileError(path, f"{path}: class_names is {array.dtype} {array.shape}; it must be a list of strings.")
    if array.member.file_size > _MAX_CLASS_NAMES_BYTES:
        raise FileError(path, f"{path}: class_names has {array.member.file_size / 1e6:,.0f} MB; shorten the names.")
    with translate_read_errors(path, "class_names"):
        names = tuple(str(name) for name in _read_array(path, archive, array).astype(np.str_))
    if fault := class_name_fault(names):
        raise FileError(path, f"{path}: {fault} in class_names; give each class a name of its own.")
    return names


def _default_class_names(
    path: Path, info: MedMNISTInfo | None, labels: dict[str, NDArray[np.int64]]
) -> tuple[str, ...]:
    """Return MedMNIST's class names, else "class 0" up to the highest label of all splits."""
    if info:
        return tuple(info.class_names)
    return tuple(f"class {index}" for index in range(1 + _max_label(path, labels)))


def _max_label(path: Path, labels: dict[str, NDArray[np.int64]]) -> int:
    """Return the highest label of all splits; train must have every class, so that one stray label can't add a million."""
    max_label = max(int(values.max()) for values in labels.values())
    present = np.unique(labels["train"])
    if len(present) <= max_label:
        missing_label = int(np.flatnonzero(np.append(present, -1) != np.arange(len(present) + 1))[0])
        raise FileError(
            path,
            f"{path}: the labels go up to {max_label}, but class {missing_label} is missing from train; "
            "every class needs training images.",
        )
    return max_label


def _check_labels(path: Path, class_names: tuple[str, ...], labels: dict[str, NDArray[np.int64]]) -> tuple[str, ...]:
    """Refuse labels that can't be learned; return a warning for each class that val or test lacks."""
    warnings: list[str] = []
    if len(class_names) < 2:
        raise FileError(path, f"{path} has one class only; a classifier needs at least two.")
    for split, values in labels.items():
        if values.max() >= len(class_names):
            raise FileError(
                path,
                f"{path}: {split}_labels has the label {values.max()}, but there are {len(class_names)} classes, "
                f"0 to {len(class_names) - 1}; correct the labels or class_names.",
            )
        missing_labels = np.flatnonzero(np.bincount(values, minlength=len(class_names)) == 0)
        if len(missing_labels) and split == "train":
            missing_names = ", ".join(class_names[label] for label in missing_labels)
            raise FileError(path, f"{path}: {missing_names} is missing from train; every class needs training images.")
        warnings += missing_class_warnings(split, values, class_names)
    return tuple(warnings)


def _unread_warnings(path: Path, archive: zipfile.ZipFile) -> tuple[str, ...]:
    """Return a warning that names arrays of images or labels beside those of the three splits, which are not read."""
    names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
    used = {f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")}
    unread = sorted(name for name in set(names) - used if name.endswith(("images", "labels")))
    return (
        (f"{path} has arrays that are not read: {', '.join(unread[:8])} ({len(unread):,} in all).",) if unread else ()
    )


def _load_images(path: Path, archive: zipfile.ZipFile, array: _Array, sha256: str, max_bytes: int) -> NDArray[np.uint8]:
    """Return the images, memory-mapped from an unpacked copy where they would fill more than half of the free memory."""
    if array.member.file_size <= max_bytes // 2:
        images = _read_array(path, archive, array)
    else:
        unpacked = cache_dir() / "mapped" / f"{sha256}-{array.name}.npy"
        if not unpacked.exists() or unpacked.stat().st_size != array.member.file_size:
            _unpack(path, archive, array, unpacked)
        images = np.load(unpacked, mmap_mode="r", allow_pickle=False)
    return images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images


def _unpack(path: Path, archive: zipfile.ZipFile, array: _Array, target: Path) -> None:
    with translate_read_errors(path, array.name), archive.open(array.member) as compressed:
        try:
            with atomic_write(target) as file:
                shutil.copyfileobj(compressed, file, 1 << 20)
        except OSError as error:
            raise FileError(
                target,
                f"{path}: {array.name} is larger than half of the free memory, and {target.parent} can't hold its "
                f"{array.member.file_size} bytes ({error.strerror}); free some space there.",
            ) from error
