"""Which mask belongs to a stack: a file, or a label image in the stack's own Zarr store."""

from __future__ import annotations

from pathlib import Path

from nephros.errors import FileError, InvalidArgument, UnknownName
from nephros.microscopy.location import StackLocation, StackUrl, is_url
from nephros.microscopy.reader import open_stack, open_stack_with
from nephros.microscopy.stack import Stack, StackOptions
from nephros.microscopy.stitching import stitch
from nephros.microscopy.zarr_files import is_zarr_folder, is_zarr_zip


def open_mask(
    location: str | StackLocation,
    shape: tuple[int, int, int],
    stitch_threshold: float | None = None,
    time_point: int | None = None,
) -> Stack:
    """Open the instance mask of a stack of this shape.

    Args:
        location: a path or a URL.
        shape: of the stack.
        stitch_threshold: joins the objects of its slices, as `nephros.microscopy.stitching.stitch` does; None takes its ids.
        time_point: of the stack, as the user chose it; a mask of several time points has the same ones.

    Raises:
        NephrosError: as `nephros.microscopy.reader.open_stack`.
    """
    try:
        mask = open_stack(location, is_mask=True, shape=shape, time_point=time_point)
    except InvalidArgument as error:
        if error.parameter != "time_point":
            raise
        mask = open_stack(location, is_mask=True, shape=shape)  # of the only time point that it has
    return mask if stitch_threshold is None else stitch(mask, stitch_threshold)


def labels_in_store(path: StackLocation, name: str | None, options: StackOptions) -> StackLocation | None:
    """Return the label image of a Zarr store; None where the stack is not a store, or `name` is a file.

    Args:
        path: the stack.
        name: of the label image; None takes the only one.
        options: with which the stack is opened.

    Raises:
        FileError: there are several label images, and `name` is None.
        UnknownName: the store has label images, and none of this name.
    """
    is_store = isinstance(path, StackUrl) or is_zarr_folder(path) or is_zarr_zip(path)
    if not is_store or (name is not None and (is_url(name) or Path(name).expanduser().exists())):
        return None
    keys = {Path(key).name: key for key in open_stack_with(path, options).label_keys}
    if name is None and len(keys) > 1:
        raise FileError(
            path, f"{path.name} has the label images {', '.join(keys)}; set `mask` to the one of the nuclei."
        )
    if name is None or name in keys:
        if not keys:
            return None
        key = keys[name or next(iter(keys))]
        return path.child(key) if isinstance(path, StackUrl) else path / key
    if keys and Path(name).name == name and not Path(name).suffix:
        raise UnknownName("mask", name, keys, kind="label image", hint=f"{path.name} has {', '.join(keys)}.")
    return None


def check_stitching_has_mask(stitch_threshold: float | None, mask: StackLocation | None, stack: StackLocation) -> None:
    """Raise InvalidArgument for a threshold where the nuclei are to be segmented here, to which it would do nothing."""
    if stitch_threshold is not None and mask is None:
        raise InvalidArgument(
            "stitch_threshold", stitch_threshold, "left out, except with a `mask`", hint=f"{stack.name} has none."
        )


def mask_exists(path: Path) -> bool:
    """Return whether there is a file, a folder, or a label image in a zip archive, such as K4.ozx/labels/nuclei."""
    return path.exists() or is_zarr_zip(path)


def store_labels_note(stack: StackLocation, mask: StackLocation) -> str:
    """Return the sentence that says that a label image of the stack's own store is the mask."""
    return f"{stack.name}: its label image {mask.name} is the mask."
