"""Ways to segment the nuclei of a stack without a mask: our rough one, or cellpose or StarDist where they are installed."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.environment import available_memory
from nephros.errors import FileError, MissingDependency, NephrosError, require_extra
from nephros.microscopy.nuclei import ProgressTracker
from nephros.microscopy.segmentation import METHOD, segment_nuclei
from nephros.microscopy.stack import Slice, Stack
from nephros.microscopy.stitching import stitch
from nephros.microscopy.voxel_size import VoxelSize
from nephros.reading import shorten

METHODS = {
    "rough": METHOD,
    "cellpose": "cellpose, in 3-D (its default model)",
    "stardist": "StarDist's 2D_versatile_fluo, slice by slice, joined where they overlap by at least 0.25",
}
"""Name of a segmenter -> its method, for people."""
_OFFLINE = "it is downloaded once, for which it needs the internet"
_OTHERWISE = "give a `mask`, or choose another `segment`"
_STITCH_THRESHOLD = 0.25
_TILE_PIXELS = 1024
"""Pixels per side from which StarDist takes a slice in tiles."""
_CELLPOSE_BYTES_PER_VOXEL = 80
"""Flows of three views and their sums, in float32, after the volume was enlarged to cubic voxels. Measured: 168 in
all for voxels of 1 x 0.5 x 0.5 micrometers (version 4.2.1)."""


def method_of(name: str | None) -> str:
    """Return the method of a segmenter, for people; None is ``rough``."""
    return METHODS[name or "rough"]


def segment_with(
    name: str | None, stack: Stack, target: Path, voxel_size: VoxelSize, *, progress: ProgressTracker
) -> None:
    """Segment the nuclei of a stack, and write the mask.

    Args:
        name: of the segmenter; None is ``rough``.
        stack: the stack.
        target: path of the mask, a TIFF file.
        voxel_size: of the stack, in micrometers along z, y and x.
        progress: shows the progress.

    Raises:
        FileError: the stack shows no nuclei, or is too large for cellpose, which takes it as a whole.
        MissingDependency: the package isn't installed.
    """
    if name in (None, "rough"):
        segment_nuclei(stack, target, voxel_size, progress=progress)
        return
    slices = _cellpose_slices if name == "cellpose" else _stardist_slices
    largest = _write(target, progress(slices(stack, voxel_size), f"Segmenting with {name}", stack.shape[0]))
    if largest == 0:
        raise FileError(
            stack.path, f"{stack.path}: {name} sees no nucleus; give a `mask`, or choose another `segment`."
        )


def _write(target: Path, slices: Iterable[NDArray[Any]]) -> int:
    """Write the slices of a mask, and return the largest id."""
    import tifffile

    largest = 0
    with tifffile.TiffWriter(target, bigtiff=True) as writer:
        for values in slices:
            largest = max(largest, int(values.max()))
            page = np.ascontiguousarray(values, np.int32)
            writer.write(page, compression="zlib", photometric="minisblack", contiguous=False, metadata=None)
    return largest


def _cellpose_slices(stack: Stack, voxel_size: VoxelSize) -> Iterator[NDArray[Any]]:
    """Yield the mask that cellpose makes of the whole volume, which it holds in memory."""
    with _imports("cellpose"), require_extra("Segmenting with cellpose needs it: pip install cellpose.", "cellpose"):
        from cellpose import models
    anisotropy = voxel_size[0] / voxel_size[2]
    n_bytes = int(int(np.prod(stack.shape, dtype=object)) * _CELLPOSE_BYTES_PER_VOXEL * anisotropy)
    if n_bytes > available_memory():
        raise FileError(
            stack.path,
            f"{stack.path} is too large for cellpose on this machine, which takes about {n_bytes / 1e9:.3g} GB of memory for it; "
            "crop it, or choose another `segment`.",
        )
    volume = np.stack(list(stack.slices()))
    if len(volume) == 1:
        options: dict[str, Any] = {"do_3D": False}
        volume = volume[0]
    else:
        options = {"do_3D": True, "z_axis": 0, "anisotropy": anisotropy}
    with _calls("cellpose", stack, "load its model", _OFFLINE):
        model = models.CellposeModel(gpu=True)  # on the CPU where there is no GPU
    with _calls("cellpose", stack, "segment it", _OTHERWISE):
        masks = np.asarray(model.eval(volume, **options)[0]).reshape(stack.shape)
    yield from masks


def _stardist_slices(stack: Stack, voxel_size: VoxelSize) -> Iterator[Slice]:
    """Yield the slices of the mask that StarDist makes of each, with ids through the stack."""
    message = "Segmenting with StarDist needs it and TensorFlow: pip install stardist tensorflow."
    with _imports("StarDist"), require_extra(message, "stardist", "csbdeep", "tensorflow"):
        from csbdeep.utils import normalize
        from stardist.models import StarDist2D
    with _calls("StarDist", stack, "load its model", _OFFLINE):
        model = StarDist2D.from_pretrained("2D_versatile_fluo")

    def labels() -> Iterator[Slice]:
        tiles = tuple(-(-side // _TILE_PIXELS) for side in stack.shape[1:])
        for values in stack.slices():
            with _calls("StarDist", stack, "segment it", _OTHERWISE):
                result: NDArray[Any] = model.predict_instances(
                    normalize(values, 1, 99.8), n_tiles=tiles, show_tile_progress=False
                )[0]
            yield result.astype(np.int32)

    read: Callable[[], Iterator[Slice]] = labels
    by_slice = Stack(stack.path, stack.shape, np.dtype(np.int32), 0, 1, None, read)
    yield from stitch(by_slice, _STITCH_THRESHOLD).slices()


@contextlib.contextmanager
def _imports(package: str) -> Iterator[None]:
    """Within the block, an installation that can't be imported, such as with another build of torch, is one sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except NephrosError:
        raise
    except Exception as error:
        raise MissingDependency(
            f"{package} is installed and can't be imported ({shorten(str(error))}): install it again with packages that fit, "
            "or choose another `segment`."
        ) from error


@contextlib.contextmanager
def _calls(package: str, stack: Stack, purpose: str, advice: str) -> Iterator[None]:
    """Within the block, whatever a package raises is one sentence, its warnings are left out, and it prints to stderr."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    except MemoryError:
        raise
    except Exception as error:
        raise FileError(
            stack.path, f"{stack.path}: {package} can't {purpose} ({shorten(str(error), 160)}); {advice}."
        ) from error
