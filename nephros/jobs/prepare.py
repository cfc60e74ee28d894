"""From a 3-D fluorescence stack and a mask of its nuclei to pictures that a model takes: the whole of `data prepare`."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.data.prepare import resize
from nephros.data.stack.brightness import Levels, Pixels
from nephros.data.stack.classes import read_classes, splits
from nephros.data.stack.crops import WINDOW, Cut, cut
from nephros.data.stack.measure import Nuclei, check_pair, measure
from nephros.data.stack.read import Stack, open_stack
from nephros.data.stack.segment import HOW, mark
from nephros.data.stack.table import table
from nephros.data.stack.voxels import ASSUMED, TRAINING, Voxels, steps
from nephros.data.training_range import outside
from nephros.errors import UserError
from nephros.files import atomic, digest, write_json, write_text
from nephros.jobs.progress import shown
from nephros.versions import versions

SIZE = 28


@dataclass(frozen=True)
class Prepared:
    """What `prepare` wrote, and what it has to say about it."""

    images: NDArray[np.uint8]
    """(n, 28, 28), in the order of the table and of the npz file's `images` and `ids`."""
    ids: NDArray[np.int64]
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
    files = _Files.at(out)
    files.check(stack, labels, classes)
    named = None if classes is None else read_classes(classes)
    opened = open_stack(stack, channel)
    own, source = _voxel_size(opened, voxel_size, resample)
    step: Voxels = (1.0, 1.0, 1.0) if own is None or not resample else steps(own, training_voxel_size)
    if labels is None:
        mark(opened, files.mask, own or training_voxel_size, progress=shown)
    mask = open_stack(files.mask if labels is None else labels)
    check_pair(opened, mask)
    pairs = zip(opened.slices(), mask.slices(), strict=True)
    every, bounds = measure(opened, mask, shown(pairs, "Measuring nuclei", opened.shape[0]))
    _check_sizes(mask, every, step)
    pieces = cut(every, opened.shape, step, bounds, shown(opened.slices(), "Cutting crops", opened.shape[0]))
    border = _border(every, pieces, opened.shape, step)
    levels = Pixels(pieces, bounds, ~border if not border.all() else border).levels(black, white, percentiles)
    kept = ~border if drop_border else np.ones(len(every), dtype=np.bool_)
    if not kept.any():
        raise UserError(f"All {len(every)} nuclei of {mask.path.name} lie at the border; leave --drop-border out.")
    nuclei = every.keep(kept)
    images = resize(levels.apply(pieces.projections[kept]), SIZE)
    arrays = {} if named is None else splits(images, nuclei.ids, every.ids, named, seed)
    about = {
        "stack": _file(opened) | {"channel": opened.channel, "channels": opened.channels},
        "mask": _file(mask) | {"made_by": HOW if labels is None else "given", "rough": labels is None},
        "voxel_size_um": own,
        "voxel_size_from": source,
        "training_voxel_size_um": training_voxel_size if resample else None,
        "training_voxel_size_from": ASSUMED if training_voxel_size == TRAINING else "given with --training-voxel-size",
        "stack_voxels_a_training_voxel": step,
        "window": WINDOW,
        "brightness": _brightness(levels, images),
        "nuclei": {"marked": len(every), "kept": len(nuclei), "border": int(border.sum()), "dropped": int((~kept).sum())},
        "classes": None if named is None else {"file": str(classes), "seed": seed, "names": arrays["class_names"].tolist()},
        "warnings": _warnings(opened, own, step, images) + ([f"The mask is a rough one: {HOW}."] if labels is None else []),
        "table": files.table.name,
        "npz": files.npz.name,
        "versions": versions(),
    }  # fmt: skip
    files.write(table(nuclei, border[kept], own), about, {"images": images, "ids": nuclei.ids, **arrays})
    made = (files.table, files.notes, *([files.mask] if labels is None else []), files.npz)
    return Prepared(images, nuclei.ids, made, about)


@dataclass(frozen=True)
class _Files:
    """Where the results go."""

    npz: Path
    table: Path
    notes: Path
    mask: Path

    @classmethod
    def at(cls, out: str | Path) -> _Files:
        npz = Path(out).expanduser().absolute()
        if npz.suffix.lower() != ".npz":
            raise UserError(f"--out is {out}, but it must end in .npz.")
        return cls(npz, npz.with_suffix(".csv"), npz.with_suffix(".json"), npz.with_suffix(".mask.tif"))

    def check(self, *inputs: str | Path | None) -> None:
        """Raise UserError, before the long work, where results can't be written or would replace an input."""
        given = {Path(path).expanduser().absolute() for path in inputs if path is not None}
        for path in (self.npz, self.table, self.notes, *([] if inputs[1] else [self.mask])):
            if path in given:
                raise UserError(f"{path} is an input and would be overwritten; choose another name for --out.")
            if path.is_dir():
                raise UserError(f"{path} is a folder; choose another name for --out.")
        try:
            self.npz.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.npz.parent):
                pass
        except OSError as error:
            raise UserError(
                f"--out: {self.npz.parent} can't be written ({error.strerror}); name another place."
            ) from error

    def write(self, rows: str, about: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        """Write everything, the npz file last, so that where it is, all is."""
        write_text(self.table, rows)
        write_json(self.notes, about)
        with atomic(self.npz) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _voxel_size(stack: Stack, given: Voxels | None, resample: bool) -> tuple[Voxels | None, str]:
    if given is not None:
        return given, "given with --voxel-size"
    if stack.voxel_size is not None:
        return stack.voxel_size, "the file's metadata"
    if resample:
        raise UserError(
            f"{stack.path.name} doesn't say how large its voxels are: give --voxel-size Z,Y,X in micrometres, "
            "or --no-resample to take its voxels as they are."
        )
    return None, "unknown"


def _check_sizes(mask: Stack, nuclei: Nuclei, step: Voxels) -> None:
    """Raise UserError where the mask's pieces are too large to be nuclei."""
    window = float(np.prod(WINDOW) * np.prod(step))
    if len(nuclei) == 1 and nuclei.voxels[0] > window / 2:
        raise UserError(
            f"{mask.path} has one number only, {nuclei.ids[0]}, on {nuclei.voxels[0]:,} voxels: "
            "give each nucleus its own number, such as with skimage.measure.label."
        )
    if np.median(nuclei.voxels) > window:
        raise UserError(
            f"{mask.path} marks pieces of {np.median(nuclei.voxels):,.0f} voxels (median), more than a whole crop has "
            f"({window:,.0f}): check the mask and --voxel-size."
        )


def _border(nuclei: Nuclei, pieces: Cut, shape: tuple[int, int, int], step: Voxels) -> NDArray[np.bool_]:
    """Return which nuclei the stack's edge touches or whose crop reaches beyond it; along z only in a stack deep enough."""
    out = nuclei.at_edge | pieces.padded
    deep = shape[0] >= WINDOW[0] * step[0]
    border: NDArray[np.bool_] = out[:, 1] | (out[:, 0] & deep)
    return border


def _file(stack: Stack) -> dict[str, Any]:
    return {"path": str(stack.path), "sha256": digest(stack.path), "shape": stack.shape, "dtype": str(stack.dtype)}


def _brightness(levels: Levels, images: NDArray[np.uint8]) -> dict[str, Any]:
    return {
        "rule": levels.rule,
        "black": levels.black,
        "white": levels.white,
        "black_percentile": levels.black_percentile,
        "white_percentile": levels.white_percentile,
        "pixel_mean": float(images.mean() / 255),
        "pixel_std": float(images.std() / 255),
    }


def _warnings(stack: Stack, own: Voxels | None, step: Voxels, images: NDArray[np.uint8]) -> list[str]:
    found = outside(images)
    if stack.shape[0] == 1:
        found.append("One slice only: it stands for the maximum over seven, so nuclei look dimmer and smaller.")
    elif stack.shape[0] < WINDOW[0] * step[0]:
        found.append(f"The stack's {stack.shape[0]} slices are fewer than a crop's; the rest of it is black.")
    if own is None:
        found.append(
            "The voxel size is unknown and nothing was resampled: answers hold only if it is the training data's."
        )
    elif min(step) < 0.5:
        found.append("The stack is over twice as coarse as the training data: its nuclei lack detail.")
    return found
