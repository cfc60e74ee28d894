"""Data sets as npz files: MedMNIST's layout, and images and labels under other usual names. Nothing in it is ever unpickled."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nephros.data.assembly import assemble
from nephros.data.class_names import class_name_fault
from nephros.data.dataset import Dataset
from nephros.data.images.input_conversion import CONVERSION_ARRAY, DEFAULT_CONVERSION, InputConversion
from nephros.data.medmnist import MedMNISTInfo, is_cube, medmnist_of_file
from nephros.data.npz.archive import open_archive, translate_read_errors
from nephros.data.npz.arrays import MAX_NAMES_BYTES, ImageLoader, NpzArray, open_array, read_array, read_small_array
from nephros.data.npz.image_names import read_image_names
from nephros.data.npz.images import PixelConversion, image_shape, pixel_conversion, take_channel
from nephros.data.npz.labels import decode_labels, decode_text, find_labeled
from nephros.data.npz.layout import NpzLayout, find_layout, holds_volumes
from nephros.data.npz.splits import assign_arrays, read_groups
from nephros.data.provenance import Provenance
from nephros.data.split import SPLITS, Split
from nephros.data.splitting import SplitAssignment
from nephros.environment import available_memory
from nephros.errors import FileError
from nephros.files import checked_sha256, file_digest
from nephros.reading import decode, parse_json
from nephros.text_tables import pluralize


def open_npz(
    path: str | Path,
    *,
    seed: int = 0,
    groups: str = "auto",
    conversion: InputConversion = DEFAULT_CONVERSION,
    max_memory: int | None = None,
    draw_test: bool = True,
) -> Dataset:
    """Open an npz file.

    Args:
        path: holds images and labels of train, val and test in arrays called ``train_images``, ``train_labels`` and so on, as
            MedMNIST's files do, or similarly, such as ``x_train`` and ``y_train``; val, test or all splits may be missing and
            are drawn here. Images are (n, h, w), (n, h, w, c) or (n, c, h, w) with one or three channels, uint8 or other
            numbers that are not negative. Volumes are (n, d, h, w) in arrays called ``volumes``, ``train_volumes`` and so on,
            or in a file of a MedMNIST set of volumes. Labels are numbers from 0, names, or one-hot rows. Optionally
            ``class_names``, an array of text, which wins over MedMNIST's names, and ``groups``, or ``train_groups`` and so on.
        seed: of splits that are drawn here.
        groups: ``auto`` keeps the images of a group in one split, where the file has groups; ``none`` doesn't. Or the name of
            the array that holds them, such as ``stack`` or ``patient`` in a file of `nephros.prepare`.
        conversion: its white level becomes 255 in images that are not uint8. Without one it is that of
            `nephros.data.images.input_conversion.default_white_level`: 1 for floats up to 1, 255 for other numbers up to 255
            that may be 8-bit ones, else the file's brightest pixel. Its channel is the plane to take from color images.
        max_memory: free host memory in bytes; None asks the system. Images larger than half of it are unpacked once to the
            cache folder and memory-mapped.
        draw_test: False draws no test split where the file has none, and draws the others 9:1.

    Returns:
        The three splits; grayscale images are (n, h, w), volumes (n, h, w, d). The split is ``official`` only where the file's
        MD5 is the published one.

    Raises:
        FileError: the file is missing or damaged, its arrays can't be told apart, or its labels and images don't fit together.
        InvalidArgument: the file has no array `groups`, or its images have no such channel.
    """
    path = Path(path).expanduser().absolute()
    max_bytes = available_memory() if max_memory is None else max_memory
    with open_archive(path) as archive:
        contents = _read_contents(path, archive, max_bytes, groups)
        class_names, info = contents.class_names, contents.info
        image_groups = read_groups(path, archive, contents.layout, contents.is_labeled, max_bytes)
        assignment = assign_arrays(
            path,
            archive,
            contents.layout,
            contents.labels,
            contents.is_labeled,
            image_groups,
            class_names,
            seed,
            max_bytes,
            falls_back=groups == "auto" and f"{CONVERSION_ARRAY}.npy" in archive.namelist(),
            draw_test=draw_test,
        )
        with ThreadPoolExecutor(min(len(contents.images), os.cpu_count() or 1)) as threads:
            # What goes to disk does so one by one, so that nothing is written after an error. All else begins at once, with the
            # array that takes longest.
            fits_memory = all(array.member.file_size <= max_bytes // 2 for array in contents.images.values())
            in_memory = contents.images if fits_memory else {}
            loads = {split: threads.submit(_read_alone, path, array) for split, array in in_memory.items()}
            sha256 = threads.submit(checked_sha256, path)
            matches_md5 = threads.submit(_has_published_md5, path, info, contents)
            loader = ImageLoader(path, archive, sha256.result(), max_bytes)
            stored = {
                split: loads[split].result() if fits_memory else loader.load(array)
                for split, array in contents.images.items()
            }
            is_official = matches_md5.result()
        plane_notes: tuple[str, ...] = ()
        if conversion.channel is not None and not contents.is_volumetric:
            stored, plane_notes = take_channel(path, stored, conversion.channel)
        arrays = {array.name: stored[split] for split, array in contents.images.items()}
        if conversion == DEFAULT_CONVERSION:
            conversion = _stored_conversion(path, archive, max_bytes)
        pixels = pixel_conversion(path, arrays, conversion, is_volumetric=contents.is_volumetric)
        image_names = read_image_names(path, archive, max_bytes)
        splits = _make_splits(loader, contents, stored, assignment, pixels, image_names)
        unlabeled = _unlabeled_images(loader, contents, stored, pixels)
        unlabeled_groups = _unlabeled_groups(contents, image_groups)
    notes = [] if contents.layout.is_complete else [assignment.rule]
    notes += [*contents.notes, *plane_notes, *pixels.details]
    notes += [] if is_official or info is None else ["not the published file: its MD5 differs"]
    split: Literal["official", "own"] = "official" if is_official else "own"
    name, key = (info.name, info.key) if info else (path.stem, None)
    provenance = Provenance(name, split, str(path), loader.sha256, key, "; ".join(notes), n_groups=assignment.n_groups)
    warnings = [*_unread_warnings(path, contents.layout), *assignment.warnings]
    dataset = assemble(
        splits, class_names, provenance, pixels.conversion, warnings, info, is_volumetric=contents.is_volumetric
    )
    return replace(dataset, unlabeled=unlabeled, unlabeled_groups=unlabeled_groups)


def _read_alone(path: Path, array: NpzArray) -> NDArray[Any]:
    """Return an array, read through its own archive: from Python 3.12 on, threads that share one mix up their read positions."""
    with open_archive(path) as archive:
        return read_array(path, archive, array)


def _stored_conversion(path: Path, archive: zipfile.ZipFile, max_bytes: int) -> InputConversion:
    """Return how the images were made, as `nephros.prepare` writes it into its file."""
    if f"{CONVERSION_ARRAY}.npy" not in archive.namelist():
        return DEFAULT_CONVERSION
    array = open_array(path, archive, CONVERSION_ARRAY)
    with translate_read_errors(path, CONVERSION_ARRAY):
        values = parse_json(str(read_small_array(path, archive, array, max_bytes)))
        return InputConversion.from_dict(asdict(decode(InputConversion, values)))


@dataclass(frozen=True)
class _Contents:
    """What a file holds, before its images are read. Images and labels are by split; "" stands for no split."""

    layout: NpzLayout
    images: dict[str, NpzArray]
    labels: dict[str, NDArray[np.int64]]
    """Of the labeled images."""
    is_labeled: dict[str, NDArray[np.bool_]]
    """(n,) for all images: a label that is text may be missing, "" or NA."""
    class_names: tuple[str, ...]
    info: MedMNISTInfo | None
    """The MedMNIST data set that this is, if it is one."""
    notes: tuple[str, ...]
    is_volumetric: bool
    """Whether the images are volumes, (n, d, h, w)."""


def _read_contents(path: Path, archive: zipfile.ZipFile, max_bytes: int, groups: str) -> _Contents:
    """Read and check everything but the images and groups."""
    names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
    if names and not any(info.filename.endswith(".npy") for info in archive.infolist()):
        raise FileError(
            path, f"{path} is a zip archive of other files, such as {names[0][:100]}; unpack it and give the folder."
        )
    layout = find_layout(path, names, lambda name: open_array(path, archive, name).shape, groups)
    images = {split: open_array(path, archive, name) for split, name in layout.images.items()}
    label_arrays = {split: open_array(path, archive, name) for split, name in layout.labels.items()}
    info = _named_medmnist(path, next(iter(images.values())))
    is_volumetric = (info is not None and info.is_volumetric) or any(map(holds_volumes, layout.images.values()))
    _check_shapes(path, images, label_arrays, is_volumetric)
    own_names = _own_class_names(path, archive, layout.class_names)
    stored = {array.name: read_small_array(path, archive, array, max_bytes) for array in label_arrays.values()}
    is_labeled = find_labeled(stored, own_names)
    n_unlabeled = sum(int((~selected).sum()) for selected in is_labeled.values())
    stored = {name: values[is_labeled[name]] for name, values in stored.items()}
    if not all(map(len, stored.values())):
        raise FileError(path, f"{path} has images without any label; give some of them a class.")
    decoded = decode_labels(path, stored, own_names, len(own_names or (info.class_names if info else ())))
    if fault := class_name_fault(decoded.class_names):
        raise FileError(path, f"{path}: {fault} among the labels; give each class a name of its own.")
    labels = {split: decoded.labels[array.name] for split, array in label_arrays.items()}
    if info and not _fits(info, own_names or decoded.class_names, labels):
        info = None
    class_names = own_names or decoded.class_names or _default_class_names(path, info, labels)
    _check_labels(path, class_names, labels)
    notes = layout.notes + decoded.notes
    notes += (f"{pluralize(n_unlabeled, 'image')} without a label left out",) if n_unlabeled else ()
    by_split = {split: is_labeled[array.name] for split, array in label_arrays.items()}
    return _Contents(layout, images, labels, by_split, class_names, info, notes, is_volumetric)


def _check_shapes(
    path: Path, images: Mapping[str, NpzArray], labels: Mapping[str, NpzArray], is_volumetric: bool
) -> None:
    """Check what the headers reveal: shapes and lengths, and that the splits agree."""
    first: tuple[NpzArray, tuple[int, int, int]] | None = None
    for split, array in images.items():
        n_labels = labels[split].shape[0] if labels[split].shape else 0
        shape = image_shape(path, array.name, array.shape, n_labels, is_volumetric=is_volumetric)
        if array.shape[0] == 0:
            raise FileError(path, f"{path}: {split or 'it'} has no images; every split needs some.")
        if n_labels != array.shape[0]:
            raise FileError(
                path,
                f"{path}: {labels[split].name} has shape {labels[split].shape} for {array.shape[0]} images; give one label per "
                "image.",
            )
        first = first or (array, shape)
        if shape[:2] != first[1][:2]:
            sizes = [f"{name.name} is {height}x{width} pixels" for name, (height, width, _) in ((array, shape), first)]
            raise FileError(path, f"{path}: {' and '.join(sizes)}; make them the same size.")
        if shape[2] != first[1][2] and is_volumetric:
            raise FileError(
                path,
                f"{path}: {array.name} has {shape[2]} slices and {first[0].name} {first[1][2]}; make all volumes the same size.",
            )
        if shape[2] != first[1][2]:
            raise FileError(
                path,
                f"{path}: {array.name} has {shape[2]} channels and {first[0].name} {first[1][2]}; make all images grayscale or "
                "all of them color.",
            )


def _own_class_names(path: Path, archive: zipfile.ZipFile, name: str) -> tuple[str, ...]:
    """Return the class names that the file holds; none where it has no array of them."""
    if not name:
        return ()
    array = open_array(path, archive, name)
    if array.dtype.kind not in "US" or max(array.shape, default=0) != np.prod(array.shape):
        raise FileError(path, f"{path}: {name} is {array.dtype} {array.shape}; it must be a list of strings.")
    if array.member.file_size > MAX_NAMES_BYTES:
        raise FileError(path, f"{path}: {name} has {array.member.file_size / 1e6:,.0f} MB; shorten the names.")
    names = tuple(str(text) for text in decode_text(read_array(path, archive, array).reshape(-1)))
    if fault := class_name_fault(names):
        raise FileError(path, f"{path}: {fault} in {name}; give each class a name of its own.")
    return names


def _named_medmnist(path: Path, images: NpzArray) -> MedMNISTInfo | None:
    """Return the MedMNIST data set that the file is named for, if its images have as many channels, or are volumes too."""
    info = medmnist_of_file(path.name)
    if info is None or holds_volumes(images.name):
        return None
    if info.is_volumetric:
        return info if is_cube(images.shape) else None
    channels = image_shape(path, images.name, images.shape, images.shape[0])[2]
    return info if info.channels == channels else None


def _fits(info: MedMNISTInfo, names: tuple[str, ...], labels: Mapping[str, NDArray[np.int64]]) -> bool:
    """Return whether the labels, and the class names if the file has some, can be those of a MedMNIST data set."""
    max_label = max(int(values.max()) for values in labels.values())
    return max_label < len(info.class_names) and (not names or set(names) == set(info.class_names))


def _has_published_md5(path: Path, info: MedMNISTInfo | None, contents: _Contents) -> bool:
    if info is None:
        return False
    shape = next(iter(contents.images.values())).shape
    published_md5 = info.md5.get(shape[1]) if shape[1] == shape[2] else None
    return published_md5 is not None and file_digest(path, "md5") == published_md5


def _default_class_names(
    path: Path, info: MedMNISTInfo | None, labels: Mapping[str, NDArray[np.int64]]
) -> tuple[str, ...]:
    """Return MedMNIST's class names, else "class 0" up to the highest label of all splits."""
    if info:
        return tuple(info.class_names)
    return tuple(f"class {index}" for index in range(1 + _max_label(path, labels)))


def _max_label(path: Path, labels: Mapping[str, NDArray[np.int64]]) -> int:
    """Return the highest label of all splits; train must have every class, so that one stray label can't add a million."""
    max_label = max(int(values.max()) for values in labels.values())
    present = np.unique(next(iter(labels.values())))
    if len(present) <= max_label:
        missing_label = int(np.flatnonzero(np.append(present, -1) != np.arange(len(present) + 1))[0])
        raise FileError(
            path,
            f"{path}: the labels go up to {max_label}, but class {missing_label} is missing from train; "
            "every class needs training images.",
        )
    return max_label


def _check_labels(path: Path, class_names: tuple[str, ...], labels: Mapping[str, NDArray[np.int64]]) -> None:
    """Raise FileError for labels that can't be learned; the first are train's, or all."""
    if len(class_names) < 2:
        raise FileError(path, f"{path} has one class only; a classifier needs at least two.")
    for split, values in labels.items():
        if values.max() >= len(class_names):
            raise FileError(
                path,
                f"{path}: {split}{'_' * bool(split)}labels has the label {values.max()}, but there are {len(class_names)} "
                f"classes, 0 to {len(class_names) - 1}; correct the labels or class_names.",
            )
    counts = np.bincount(next(iter(labels.values())), minlength=len(class_names))
    if missing_names := ", ".join(name for name, count in zip(class_names, counts, strict=True) if not count):
        raise FileError(path, f"{path}: {missing_names} is missing from train; every class needs training images.")


def _unread_warnings(path: Path, layout: NpzLayout) -> tuple[str, ...]:
    """Return a warning that names arrays that seem to hold images or labels, but are not read."""
    if not layout.unread:
        return ()
    return (f"{path} has arrays that are not read: {', '.join(layout.unread[:8])} ({len(layout.unread):,} in all).",)


def _make_splits(
    loader: ImageLoader,
    contents: _Contents,
    stored: Mapping[str, NDArray[Any]],
    assignment: SplitAssignment,
    pixels: PixelConversion,
    image_names: NDArray[np.str_] | None,
) -> dict[str, Split]:
    """Return the three splits.

    Images that stay as they are stored are not copied, and need no names where the array is called for its split.
    """
    splits, start = {}, 0
    for source, array in contents.images.items():
        labels = contents.labels[source]
        labeled_rows = np.flatnonzero(contents.is_labeled[source])
        index = assignment.index[start : start + len(labels)]
        for number in np.unique(index).tolist():
            rows = np.flatnonzero(index == number)
            places, names = labeled_rows[rows], None
            is_whole = len(rows) == len(stored[source])
            is_plane = stored[source].shape != array.shape  # copied, so that the other colors need no memory
            if is_whole and not is_plane and stored[source].dtype == np.uint8:
                images = pixels.apply(stored[source])
            else:
                images = loader.convert(array, stored[source], places, pixels.apply, repr(pixels))
            if image_names is not None and len(image_names) == len(stored[source]):
                names = image_names[places]
            elif not is_whole or array.name != f"{SPLITS[number]}_images":
                names = np.array([f"{array.name}[{place}]" for place in places])
            splits[SPLITS[number]] = Split(images, labels[rows], assignment.groups_at(start + rows), names)
        start += len(labels)
    return {name: splits.get(name, splits["train"][:0]) for name in SPLITS}


def _unlabeled_images(
    loader: ImageLoader, contents: _Contents, stored: Mapping[str, NDArray[Any]], pixels: PixelConversion
) -> NDArray[np.uint8] | None:
    """Return the images without a label, where they are in one array with the others; None where there are none."""
    rows = np.flatnonzero(~contents.is_labeled.get("", np.ones(0, np.bool_)))
    if not len(rows):
        return None
    return loader.convert(contents.images[""], stored[""], rows, pixels.apply, repr(pixels))


def _unlabeled_groups(contents: _Contents, groups: Mapping[str, Sequence[str]]) -> NDArray[np.str_] | None:
    """Return the groups of the images that `_unlabeled_images` returns; None where none are, or their groups are unknown."""
    is_labeled = contents.is_labeled.get("")
    if is_labeled is None or is_labeled.all() or "" not in contents.layout.groups:
        return None
    return np.array(groups[""])[~is_labeled]
