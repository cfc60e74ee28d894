"""One call that opens any source of cells: a catalogue name, an npz file, a folder of images, or made-up cells."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nephros.data.dataset import Dataset
from nephros.data.download import cache_dir, download
from nephros.data.image_folder import open_folder
from nephros.data.medmnist import MEDMNIST, get_info
from nephros.data.npz import open_npz
from nephros.data.resplit import resplit_train_val
from nephros.data.statistics import pixel_statistics
from nephros.data.subset import subset_train
from nephros.data.synthetic import IMAGE_SIZE, make_synthetic
from nephros.errors import NephrosError, did_you_mean

SYNTHETIC = "synthetic"


def load(
    source: str | Path = "tissuemnist",
    *,
    size: int | None = None,
    seed: int = 0,
    subset: int | None = None,
    resplit: Sequence[int] | None = None,
    download_if_missing: bool = False,
) -> Dataset:
    """Open a data set.

    Args:
        source: ``synthetic``, a catalogue name such as ``tissuemnist``, the path of an npz file, or of a folder with
            one sub-folder a class. A bare word that is a name means the name, even where a folder is called so too:
            write ``./tissuemnist`` for the folder.
        size: pixels a side; picks the file of a catalogue name, resizes a folder's images, and must be that of an npz.
        seed: of the folder's split, the synthetic cells, the subset and the resplit.
        subset: keep this many training images, class-stratified; None keeps all.
        resplit: draw train and validation anew, so many images each, from the two together; before any subset.
        download_if_missing: download a catalogue set that is nowhere on this machine.

    Raises:
        UserError: the source can't be found, opened or used.
    """
    if seed < 0:
        raise NephrosError(f"--data-seed is {seed}, but it must be a whole number of at least 0.")
    dataset = _open_source(str(source), size, seed, download_if_missing)
    if size is not None and dataset.image_size != (size, size):
        height, width = dataset.image_size
        raise NephrosError(f"{source} has images of {height}x{width} pixels, not {size}x{size}; leave --size out.")
    dataset = dataset if resplit is None else resplit_train_val(dataset, resplit, seed)
    return dataset if subset is None else subset_train(dataset, subset, seed)


def data_request(
    source: str | Path,
    size: int | None = None,
    seed: int = 0,
    subset: int | None = None,
    resplit: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return what a run writes down so that `load` opens the same data again; an empty source is data given in Python."""
    is_builtin = str(source).lower() in (*MEDMNIST, SYNTHETIC, "")
    location = str(source) if is_builtin else str(Path(source).expanduser().absolute())
    resplit_sizes = None if resplit is None else list(resplit)
    return {"source": location, "size": size, "subset": subset, "seed": seed, "resplit": resplit_sizes}


def find_local_file(name: str, size: int | None = None) -> Path | None:
    """Return where a catalogue set's file lies (`size` pixels a side, 28 when None), or None where it isn't.

    Looked for in the folder that the variable NEPHROS_DATA names, then the cache folder, then ``~/.medmnist``.
    """
    filename = get_info(name).filename(size or 28)
    data_dir = os.environ.get("NEPHROS_DATA")
    folders = [*([Path(data_dir).expanduser()] if data_dir else []), cache_dir(), Path.home() / ".medmnist"]
    return next((folder / filename for folder in folders if (folder / filename).is_file()), None)


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return what `nephros data info` prints, as plain JSON values; pixel mean and std are of 1, of the train split."""
    provenance = dataset.provenance
    mean, std = pixel_statistics(dataset.train.images)
    return {
        "title": provenance.title,
        "path": provenance.path,
        "sha256": provenance.sha256,
        "detail": provenance.detail,
        "task": dataset.task,
        "image_size": list(dataset.image_size),
        "channels": dataset.channels,
        "class_names": list(dataset.class_names),
        "split_sizes": {name: len(split) for name, split in dataset.splits()},
        "class_counts": {name: split.class_counts(dataset.n_classes).tolist() for name, split in dataset.splits()},
        "pixel_mean": mean,
        "pixel_std": std,
        "license": MEDMNIST[provenance.key].license if provenance.key else None,
        "warnings": list(dataset.warnings),
    }


def _open_source(source: str, size: int | None, seed: int, download_if_missing: bool) -> Dataset:
    name = source.lower()
    if name == SYNTHETIC:
        if size not in (None, IMAGE_SIZE):
            raise NephrosError(
                f"synthetic cells are {IMAGE_SIZE}x{IMAGE_SIZE} pixels, not {size}x{size}; leave --size out."
            )
        return make_synthetic(seed=seed)
    if name in MEDMNIST:
        return open_npz(_medmnist_path(name, size, download_if_missing))
    path = Path(source).expanduser()
    if path.is_dir():
        return open_folder(path, size=size, seed=seed)
    if path.exists() or path.suffix or path.name != source:
        return open_npz(path)
    suggestion = did_you_mean(name, [*MEDMNIST, SYNTHETIC])
    raise NephrosError(
        f"'{source}' is neither a data set's name nor the path of an .npz file or of a folder of images.{suggestion}"
    )


def _medmnist_path(name: str, size: int | None, download_if_missing: bool) -> Path:
    """Return the path of a catalogue set's file, downloaded where that is asked for."""
    info = MEDMNIST[name]
    if not info.supported:
        raise NephrosError(
            f"{info.name} is not supported: it is a {info.task} set, and cells here have one label each."
        )
    path = find_local_file(name, size)
    if path is None and download_if_missing:
        path = download(name, size or 28)
    if path is None:
        raise NephrosError(
            f"{info.name} is not on this machine; run `nephros data get {name}` "
            f"or set NEPHROS_DATA to the folder that has {info.filename(size or 28)}."
        )
    return path
