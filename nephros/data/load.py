"""One function that opens every kind of data set: MedMNIST's by name, npz files, folders of images, and synthetic cells."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from nephros.data.array_dataset import resize_dataset
from nephros.data.dataset import Dataset
from nephros.data.download import cache_dir
from nephros.data.download import download as download_file
from nephros.data.folders.label_table import TABLE_SUFFIXES
from nephros.data.folders.opening import open_folder
from nephros.data.folders.voxel_table import is_voxel_table, open_voxel_table
from nephros.data.images.input_conversion import DEFAULT_CONVERSION, CellShape, InputConversion
from nephros.data.medmnist import MEDMNIST, get_info
from nephros.data.npz.opening import open_npz
from nephros.data.pixel_statistics import pixel_statistics
from nephros.data.splitting import UNGROUPED, check_group_rule
from nephros.data.subset import resplit_train_val, subset_train
from nephros.data.synthetic import IMAGE_SIZE, make_synthetic
from nephros.errors import FileError, IncompatibleError, InvalidArgument, UnknownName

SYNTHETIC = "synthetic"


def load_dataset(
    source: str | Path = "tissuemnist",
    *,
    size: int | None = None,
    seed: int = 0,
    subset: int | None = None,
    resplit: Sequence[int] | None = None,
    white_level: float | None = None,
    channel: int | None = None,
    groups: str = "auto",
    download: bool = False,
    conversion: InputConversion = DEFAULT_CONVERSION,
    shape: CellShape | None = None,
    draw_test: bool = True,
) -> Dataset:
    """Open a data set.

    Args:
        source: the name of a MedMNIST data set such as ``tissuemnist``, ``synthetic``, or the path of an npz file, of a
            folder with one subfolder per class, or of a table (CSV, TSV) with the columns file and label. A name takes
            precedence over a folder of the same name; write ``./tissuemnist`` for the folder.
        size: pixels per side. Selects the file of a MedMNIST data set; the images of folders and npz files are resized to it,
            padded with black to keep the aspect ratio. Volumes must have this size already.
        seed: for splits that are drawn here, synthetic cells, `subset` and `resplit`.
        subset: number of training images to keep, class-stratified; None keeps all.
        resplit: number of images in train and in validation, drawn again from the two together, before any subset; of images in
            groups, whole groups are drawn, of about these numbers.
        white_level: pixel value that becomes 255 in a folder's images of more than 8 bits; None takes the folder's brightest.
        channel: color plane, or sample, to take from images of several, from 0; None takes them as they are.
        groups: which images belong to one patient, slide or the like, so that a split that is drawn here keeps them
            together. ``auto``: as a table's or an npz file's groups say, else the subfolders of class folders, else the
            folders around class folders where these are named like patients (P01, slide 3). ``none``: split by image.
            ``subfolders``: CLASS/GROUP/IMAGE. ``folders``: GROUP/CLASS/IMAGE. ``names``: the patient in the name of each file,
            such as P01_cell2.png. Else the name of a table's column or of an npz file's array, such as ``stack`` or ``patient``.
        download: whether to download a MedMNIST data set that is not on this machine (`nephros.download`), to the cache folder.
        conversion: how a model's training images were converted (`Dataset.input_conversion`), to convert these likewise;
            `white_level` and `channel` win over its own.
        shape: channels, height and width of a model's cells, to which a folder's images are converted, whatever `size` is, and
            an npz file's images are resized.
        draw_test: where the source has no splits, train, val and test are drawn 7:1:2. False draws no test split: train and val
            are drawn 9:1, and test is empty where the source has none.

    Raises:
        NephrosError: the data set can't be found, opened or divided in this way.
    """
    _check_source(source, "source")
    if seed < 0:
        # Commands and workflows call it `data_seed`, since their `seed` is the recipe's.
        raise InvalidArgument("data_seed", seed, "a whole number of at least 0")
    if size is not None and size < 1:
        raise InvalidArgument("size", size, "at least 1 pixel")
    conversion = conversion.override(white_level, channel)
    dataset = _open_source(str(source), size, seed, groups, download, conversion, shape, draw_test)
    if channel is not None and dataset.is_volumetric:
        raise InvalidArgument("channel", channel, "left out for volumes, which are taken as they are")
    target = shape[1:] if shape else None if size is None else (size, size)
    if target is not None and not is_builtin(source) and not dataset.is_volumetric:
        dataset = resize_dataset(dataset, target)
    if size is not None and shape is None and dataset.image_size != (size, size):
        height, width = dataset.image_size
        raise IncompatibleError(f"{source} has images of {height}x{width} pixels, not {size}x{size}; leave out `size`.")
    return redraw(dataset, subset, resplit, seed)


def redraw(dataset: Dataset, subset: int | None, resplit: Sequence[int] | None, seed: int) -> Dataset:
    """Draw train and validation again, and then a subset of train, as `load_dataset` does; None leaves either as it is."""
    dataset = dataset if resplit is None else resplit_train_val(dataset, resplit, seed)
    return dataset if subset is None else subset_train(dataset, subset, seed)


def _check_source(source: object, parameter: str) -> None:
    """Raise InvalidArgument for what is neither a name nor a path, such as an array."""
    if not isinstance(source, str | Path):
        hint = "`nephros.Dataset.from_arrays` makes a Dataset of images in memory."
        raise InvalidArgument(parameter, type(source).__name__, "a name or a path", hint=hint)


def is_builtin(source: str | Path) -> bool:
    """Return whether a source is a name and not a path; an empty one stands for data that was given in Python."""
    return str(source).lower() in (*MEDMNIST, SYNTHETIC, "")


class DataRequest(TypedDict):
    """The arguments with which `load_request` opens the same data again; absent ones are those of earlier versions."""

    source: str
    """A name or an absolute path; empty for data that was passed in Python."""
    size: int | None
    seed: int
    subset: NotRequired[int | None]
    resplit: NotRequired[list[int] | None]
    white_level: NotRequired[float | None]
    channel: NotRequired[int | None]
    groups: NotRequired[str]
    resize: NotRequired[Literal["letterbox", "stretch"]]
    draw_test: NotRequired[bool]


def data_request(
    source: str | Path,
    size: int | None = None,
    seed: int = 0,
    subset: int | None = None,
    resplit: Sequence[int] | None = None,
    white_level: float | None = None,
    channel: int | None = None,
    groups: str = "auto",
    draw_test: bool = True,
) -> DataRequest:
    """Return the arguments with which `load_request` opens the same data again, as plain JSON values for a run's record.

    An empty source stands for a data set that was passed in Python.
    """
    _check_source(source, "data")  # as commands and workflows call it
    location = str(source) if is_builtin(source) else str(Path(source).expanduser().absolute())
    resplit_sizes = None if resplit is None else list(resplit)
    return {
        "source": location,
        "size": size,
        "subset": subset,
        "seed": seed,
        "resplit": resplit_sizes,
        "white_level": white_level,
        "channel": channel,
        "groups": groups,
        "resize": "letterbox",
        "draw_test": draw_test,
    }


def load_request(request: DataRequest) -> Dataset:
    """Open the data of a request from `data_request`.

    One of earlier versions has no ``resize`` and no ``groups``: they stretched images, and split them one by one.
    """
    return load_dataset(
        request["source"],
        size=request["size"],
        subset=request.get("subset"),
        seed=request["seed"],
        resplit=request.get("resplit"),
        white_level=request.get("white_level"),
        channel=request.get("channel"),
        groups=request.get("groups", UNGROUPED),
        conversion=InputConversion(resize=request.get("resize", "stretch")),
        draw_test=request.get("draw_test", True),
    )


def find_local_file(name: str, size: int | None = None) -> Path | None:
    """Return the path of a MedMNIST data set's file on this machine, or None where there is none.

    `size` is in pixels per side, 28 when None. The folder that the variable NEPHROS_DATA names is searched first, then the
    cache folder, then ``~/.medmnist``.
    """
    filename = get_info(name).filename(size or 28)
    data_dir = os.environ.get("NEPHROS_DATA")
    folders = [*([Path(data_dir).expanduser()] if data_dir else []), cache_dir(), Path.home() / ".medmnist"]
    return next((folder / filename for folder in folders if (folder / filename).is_file()), None)


@dataclass(frozen=True)
class DatasetSummary:
    """What a data set contains and where it comes from."""

    title: str
    """Name and split, such as ``TissueMNIST, official split``."""
    path: str
    sha256: str
    detail: str
    """How the split was drawn and how the images were changed, where that is known."""
    task: str
    image_size: tuple[int, int]
    """Height and width in pixels."""
    channels: int
    depth: int | None
    """Slices of a volume; None for images."""
    class_names: tuple[str, ...]
    split_sizes: dict[str, int]
    """Split -> number of images."""
    class_counts: dict[str, list[int]]
    """Split -> number of images per class, in label order."""
    pixel_mean: float
    """Mean of the training pixels, from 0 to 1."""
    pixel_std: float
    """Standard deviation of the training pixels, on the same scale."""
    license: str | None
    """License of the images, where it is known."""
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that `json.dumps` takes."""
        return asdict(self)


def describe(dataset: Dataset) -> DatasetSummary:
    """Summarize a data set: sizes, classes, pixel statistics, provenance and license."""
    provenance = dataset.provenance
    mean, std = pixel_statistics(dataset.train.images)
    return DatasetSummary(
        title=provenance.title,
        path=provenance.path,
        sha256=provenance.sha256,
        detail=provenance.detail,
        task=dataset.task,
        image_size=dataset.image_size,
        channels=dataset.channels,
        depth=dataset.depth,
        class_names=dataset.class_names,
        split_sizes={name: len(split) for name, split in dataset.splits()},
        class_counts={name: split.class_counts(dataset.n_classes).tolist() for name, split in dataset.splits()},
        pixel_mean=mean,
        pixel_std=std,
        license=MEDMNIST[provenance.key].license if provenance.key else None,
        warnings=dataset.warnings,
    )


def _open_source(
    source: str,
    size: int | None,
    seed: int,
    groups: str,
    download: bool,
    conversion: InputConversion,
    shape: CellShape | None,
    draw_test: bool,
) -> Dataset:
    name = source.lower()
    if name == SYNTHETIC:
        check_group_rule(groups)
        if size not in (None, IMAGE_SIZE):
            raise InvalidArgument("size", size, f"{IMAGE_SIZE} or left out for synthetic cells")
        return make_synthetic(seed=seed)
    if name in MEDMNIST:
        check_group_rule(groups)
        return open_npz(_medmnist_path(name, size, download), conversion=conversion)
    path = Path(source).expanduser()
    if is_voxel_table(path):
        check_group_rule(groups)
        return open_voxel_table(path, size=size, seed=seed, conversion=conversion, shape=shape, draw_test=draw_test)
    if path.is_dir() or path.suffix.lower() in TABLE_SUFFIXES:
        return open_folder(
            path, size=size, seed=seed, groups=groups, conversion=conversion, shape=shape, draw_test=draw_test
        )
    if path.exists() or path.suffix or path.name != source:
        return open_npz(path, seed=seed, groups=groups, conversion=conversion, draw_test=draw_test)
    raise UnknownName(
        "source",
        source,
        [*MEDMNIST, SYNTHETIC],
        kind="data set or file",
        hint="Give a data set's name, or the path of an .npz file or of a folder of images.",
    )


def _medmnist_path(name: str, size: int | None, download: bool) -> Path:
    """Return the path of a MedMNIST data set's file, downloading it if need be and allowed."""
    info = MEDMNIST[name]
    if not info.supported:
        raise IncompatibleError(
            f"{info.name} is not supported: its task is {info.task}, and nephros trains classifiers with one label per image."
        )
    path = find_local_file(name, size)
    if path is None and download:
        path = download_file(name, size or 28)
    if path is None:
        filename = info.filename(size or 28)
        size_argument = f", size={size}" if size not in (None, 28) else ""
        raise FileError(
            filename,
            f"{info.name} is not on this machine; run `nephros.download('{name}'{size_argument})`, "
            f"or set NEPHROS_DATA to the folder that contains {filename}.",
        )
    return path
