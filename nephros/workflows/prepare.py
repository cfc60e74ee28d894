"""From a 3-D fluorescence stack and a mask of its nuclei to pictures that a model takes: the whole of `data prepare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.console import with_bar
from nephros.data.reference_statistics import outside
from nephros.data.statistics import pixel_statistics
from nephros.environment import versions
from nephros.files import digest
from nephros.microscopy.class_labels import read_classes, splits
from nephros.microscopy.crops import WINDOW
from nephros.microscopy.crops_to_images import doubts, pictures
from nephros.microscopy.intensity import Levels
from nephros.microscopy.nuclei_table import table
from nephros.microscopy.output_files import Outputs
from nephros.microscopy.reader import Stack, open_stack
from nephros.microscopy.segmentation import HOW, mark
from nephros.microscopy.voxel_size import TRAINING, Scale, Voxels


@dataclass(frozen=True)
class Prepared:
    """What `prepare` wrote, and what it has to say about it."""

    images: NDArray[np.uint8]
    """(n, 28, 28), in the order of the table and of the npz file's `images` and `ids`."""
    ids: NDArray[np.int64]
    """(n,) numbers in the mask."""
    paths: tuple[Path, ...]
    """The table, the notes, the mask where it was made here, and last the npz file."""
    about: dict[str, Any]
    """What FILE.json holds."""


def prepare(
    stack: str | Path,
    out: str | Path,
    *,
    labels: str | Path | None = None,
    channel: int | None = None,
    voxel_size: Voxels | None = None,
    training_voxel_size: Voxels = TRAINING,
    resample: bool = True,
    black: float | None = None,
    white: float | None = None,
    percentiles: tuple[float, float] | None = None,
    drop_border: bool = False,
    classes: str | Path | None = None,
    seed: int = 0,
) -> Prepared:
    """Cut every nucleus out of a stack as TissueMNIST's were: 32x32x7 around its centroid, maximum, 28x28, 8 bits.

    Args:
        stack: TIFF, OME-TIFF or .npy of one channel's slices, or of several and `channel` says which.
        out: the .npz file to write; FILE.csv and FILE.json, and FILE.mask.tif without `labels`, come beside it.
        labels: a mask of the same size, whole numbers, 0 outside; None marks nuclei roughly by threshold and watershed.
        voxel_size: micrometres along z, y and x; None takes the file's.
        training_voxel_size: what the crops are resampled to.
        resample: False takes the stack's voxels as they are.
        black: pixel value that becomes 0; None finds it.
        white: pixel value that becomes 255; None finds it.
        percentiles: of the stack's pixels, to become 0 and 255 instead.
        drop_border: leave out nuclei that the stack's edge cuts or whose crop reaches beyond it, which is black there.
        classes: a CSV file of id and class; the npz file then also has train, val and test, split 7:1:2 with `seed`.

    Raises:
        UserError: a file can't be used or written, the voxel size is unknown, or no nucleus is left.
    """
    files = Outputs.at(out, with_mask=labels is None)
    files.check(stack, labels, classes)
    named = None if classes is None else read_classes(classes)
    opened = open_stack(stack, channel)
    scale = Scale.of(opened.path.name, opened.voxel_size, voxel_size, training_voxel_size, resample=resample)
    with files.room() as room:
        if labels is None:
            mark(opened, room / "mask.tif", scale.own or training_voxel_size, progress=with_bar)
        mask = open_stack(room / "mask.tif" if labels is None else labels, mask=True)
        made = pictures(
            opened,
            mask,
            scale,
            room,
            with_bar,
            black=black,
            white=white,
            percentiles=percentiles,
            drop_border=drop_border,
        )
        cells, nuclei, images = made.cells, made.nuclei, made.images
        arrays = {} if named is None else splits(images, nuclei.ids, cells.nuclei.ids, named, seed)
        counts = {
            "marked": len(cells.nuclei),
            "kept": len(nuclei),
            "border": int(cells.border.sum()),
            "dropped": int((~made.kept).sum()),
        }
        about = {
            "stack": _file(opened) | {"channel": opened.channel, "channels": opened.channels},
            "mask": _file(mask, files.mask) | {"made_by": "given" if labels else HOW, "rough": labels is None},
            **scale.about(),
            "window": WINDOW,
            "brightness": _brightness(made.levels, images),
            "nuclei": counts,
            "classes": None
            if named is None
            else {"file": str(classes), "seed": seed, "names": arrays["class_names"].tolist()},
            "warnings": _warnings(opened, scale, images, rough=labels is None),
            "table": files.table.name,
            "npz": files.npz.name,
            "versions": versions() | _libraries(),
        }
        rows = table(nuclei, cells.border[made.kept], scale.own)
        files.write(room, rows, about, mask.path, {"images": images, "ids": nuclei.ids, **arrays})
    return Prepared(images, nuclei.ids, files.paths(), about)


def _file(stack: Stack, later: Path | None = None) -> dict[str, Any]:
    """Describe an input; `later` is where it will lie."""
    path = stack.path if later is None else later
    return {"path": str(path), "sha256": digest(stack.path), "shape": stack.shape, "dtype": str(stack.dtype)}


def _libraries() -> dict[str, str]:
    """Return the versions of what is used here only."""
    from importlib.metadata import version

    return {package: version(package) for package in ("tifffile", "scikit-image", "scipy")}


def _brightness(levels: Levels, images: NDArray[np.uint8]) -> dict[str, Any]:
    mean, std = pixel_statistics(images)
    return {
        "rule": levels.rule,
        "black": levels.black,
        "white": levels.white,
        "black_percentile": levels.black_percentile,
        "white_percentile": levels.white_percentile,
        "pixel_mean": mean,
        "pixel_std": std,
    }


def _warnings(stack: Stack, scale: Scale, images: NDArray[np.uint8], *, rough: bool) -> list[str]:
    found = [*outside(images), *doubts(stack, scale)]
    if rough:
        found.append(f"The mask is a rough one, by {HOW}: look at it.")
    return found
