"""One call that opens any source of cells: a catalogue name, an npz file, a folder of images, or made-up cells."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nephros.data.dataset import Dataset
from nephros.data.download import cache_folder, download
from nephros.data.image_folder import open_folder
from nephros.data.medmnist import CATALOGUE, find
from nephros.data.npz import open_npz
from nephros.data.resplit import resplit as draw_again
from nephros.data.statistics import pixel_statistics
from nephros.data.subset import subset as take_subset
from nephros.data.synthetic import SIZE, make
from nephros.errors import UserError, did_you_mean

SYNTHETIC = "synthetic"


def load(
    source: str | Path = "tissuemnist",
    *,
    size: int | None = None,
    seed: int = 0,
    subset: int | None = None,
    resplit: Sequence[int] | None = None,
    fetch: bool = False,
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
        fetch: download a catalogue set that is nowhere on this machine.

    Raises:
        UserError: the source can't be found, opened or used.
    """
    if seed < 0:
        raise UserError(f"--data-seed is {seed}, but it must be a whole number of at least 0.")
    dataset = _open(str(source), size, seed, fetch)
    if size is not None and dataset.size != (size, size):
        height, width = dataset.size
        raise UserError(f"{source} has images of {height}x{width} pixels, not {size}x{size}; leave --size out.")
    dataset = dataset if resplit is None else draw_again(dataset, resplit, seed)
    return dataset if subset is None else take_subset(dataset, subset, seed)


def request_of(
    source: str | Path,
    size: int | None = None,
    seed: int = 0,
    subset: int | None = None,
    resplit: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return what a run writes down so that `load` opens the same data again; an empty source is data given in Python."""
    named = str(source).lower() in (*CATALOGUE, SYNTHETIC, "")
    where = str(source) if named else str(Path(source).expanduser().absolute())
    split = None if resplit is None else list(resplit)
    return {"source": where, "size": size, "subset": subset, "seed": seed, "resplit": split}


def locate(key: str, size: int | None = None) -> Path | None:
    """Return where a catalogue set's file lies (`size` pixels a side, 28 when None), or None where it isn't.

    Looked for in the folder that the variable NEPHROS_DATA names, then the cache folder, then ``~/.medmnist``.
    """
    name = find(key).filename(size or 28)
    named = os.environ.get("NEPHROS_DATA")
    folders = [*([Path(named).expanduser()] if named else []), cache_folder(), Path.home() / ".medmnist"]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


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
        "size": list(dataset.size),
        "channels": dataset.channels,
        "classes": list(dataset.class_names),
        "images": {name: len(split) for name, split in dataset.splits()},
        "counts": {name: split.counts(dataset.classes).tolist() for name, split in dataset.splits()},
        "pixel_mean": mean,
        "pixel_std": std,
        "licence": CATALOGUE[provenance.key].licence if provenance.key else None,
        "warnings": list(dataset.warnings),
    }


def _open(source: str, size: int | None, seed: int, fetch: bool) -> Dataset:
    name = source.lower()
    if name == SYNTHETIC:
        if size not in (None, SIZE):
            raise UserError(f"synthetic cells are {SIZE}x{SIZE} pixels, not {size}x{size}; leave --size out.")
        return make(seed=seed)
    if name in CATALOGUE:
        return open_npz(_named(name, size, fetch))
    path = Path(source).expanduser()
    if path.is_dir():
        return open_folder(path, size=size, seed=seed)
    if path.exists() or path.suffix or path.name != source:
        return open_npz(path)
    near = did_you_mean(name, [*CATALOGUE, SYNTHETIC])
    raise UserError(
        f"'{source}' is neither a data set's name nor the path of an .npz file or of a folder of images.{near}"
    )


def _named(key: str, size: int | None, fetch: bool) -> Path:
    """Return the path of a catalogue set's file, downloaded where that is asked for."""
    entry = CATALOGUE[key]
    if not entry.supported:
        raise UserError(f"{entry.name} is not supported: it is a {entry.task} set, and cells here have one label each.")
    path = locate(key, size)
    if path is None and fetch:
        path = download(key, size or 28)
    if path is None:
        raise UserError(
            f"{entry.name} is not on this machine; run `nephros data get {key}` "
            f"or set NEPHROS_DATA to the folder that has {entry.filename(size or 28)}."
        )
    return path
