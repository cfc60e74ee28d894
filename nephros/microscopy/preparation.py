"""One stack prepared: its nuclei as images, with what is known of their making."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.microscopy.masks import open_mask
from nephros.microscopy.nuclei import NucleusImages, ProgressTracker, make_nucleus_images
from nephros.microscopy.reader import open_stack_with
from nephros.microscopy.segmenters import segment_with
from nephros.microscopy.stack import Stack, StackOptions
from nephros.microscopy.stack_files import StackFiles
from nephros.microscopy.voxel_size import TRAINING_VOXEL_SIZE, VoxelScaling, VoxelSize, format_voxel_size
from nephros.text_tables import join_words


@dataclass(frozen=True)
class PrepareOptions:
    """How nuclei are cropped; `nephros.prepare` explains each."""

    channel: int | str | None = None
    image: int | str | None = None
    axes: str | None = None
    level: int | str | None = None
    time_point: int | None = None
    voxel_size: VoxelSize | None = None
    target_voxel_size: VoxelSize = TRAINING_VOXEL_SIZE
    resample: bool = True
    black_level: float | None = None
    white_level: float | None = None
    percentiles: tuple[float, float] | None = None
    drop_border: bool = False
    min_volume: float | None = None
    volumes: bool = False
    stitch_threshold: float | None = None
    segment: str | None = None

    @property
    def stack_options(self) -> StackOptions:
        """With which the stacks are opened."""
        return StackOptions(
            self.channel, self.image, self.voxel_size, self.axes, level=self.level, time_point=self.time_point
        )  # fmt: skip

    @property
    def gives_levels(self) -> bool:
        """Whether the user, and not a fit to the training data, sets what becomes 0 and 255."""
        return self.black_level is not None or self.white_level is not None or self.percentiles is not None


@dataclass(frozen=True)
class NucleiOfStack:
    """The nuclei of one stack."""

    files: StackFiles
    stack: Stack
    mask: Stack
    scale: VoxelScaling
    result: NucleusImages

    @property
    def images(self) -> NDArray[np.uint8]:
        """(n, 28, 28), or volumes (n, 7, 32, 32)."""
        return self.result.images

    @property
    def ids(self) -> NDArray[np.int64]:
        """(n,) ids in the mask."""
        return self.result.nuclei.ids


def prepare_nuclei(
    files: StackFiles, options: PrepareOptions, new_mask: Path, scratch_dir: Path, progress: ProgressTracker
) -> NucleiOfStack:
    """Crop every nucleus of a stack.

    Args:
        files: of the stack; without a mask the nuclei are segmented, and their mask is written to `new_mask`.
        options: how.
        new_mask: a TIFF file to write.
        scratch_dir: folder for temporary files.
        progress: shows the progress.

    Raises:
        NephrosError: a file can't be used, the voxel size is unknown, or no nucleus is left.
    """
    stack = open_stack_with(files.path, options.stack_options)
    scale = VoxelScaling.resolve(
        stack.path.name, stack.voxel_size, options.voxel_size, options.target_voxel_size, resample=options.resample,
        level_step=stack.level_step, implausible_size=stack.implausible_size,
    )  # fmt: skip
    if files.mask is None:
        voxel_size = scale.stack_voxel_size or options.target_voxel_size
        segment_with(options.segment, stack, new_mask, voxel_size, progress=progress)
        mask = open_mask(new_mask, stack.shape)
    else:
        mask = open_mask(files.mask, stack.shape, options.stitch_threshold, options.time_point)
    result = make_nucleus_images(
        stack,
        mask,
        scale,
        scratch_dir,
        progress,
        black_level=options.black_level,
        white_level=options.white_level,
        percentiles=options.percentiles,
        drop_border=options.drop_border,
        min_volume=options.min_volume,
        volumes=options.volumes,
    )
    return NucleiOfStack(files, stack, mask, scale, result)


def difference_warnings(prepared: Sequence[NucleiOfStack]) -> list[str]:
    """Return a sentence for each property in which several stacks differ, and which their images may show."""
    warnings = []
    channels = _by_value(prepared, [str(nuclei.stack.n_channels) for nuclei in prepared])
    if len(channels) > 1:
        warnings.append(
            f"The stacks have different numbers of channels ({_text(channels)}), of which channel {prepared[0].stack.channel} is "
            "read in each; check that it shows the nuclei everywhere."
        )
    sizes = _by_value(prepared, [format_voxel_size(nuclei.stack.voxel_size) for nuclei in prepared])
    if len(sizes) > 1:
        rule = (
            "`voxel_size` is taken for all of them"
            if prepared[0].scale.source == "voxel_size parameter"
            else "each is resampled from its own"
            if all(nuclei.scale.target_voxel_size for nuclei in prepared)
            else "nothing is resampled, so that their nuclei differ in size"
        )
        warnings.append(f"The stacks' files state different voxel sizes ({_text(sizes)}); {rule}.")
    types = _by_value(prepared, [str(nuclei.stack.dtype) for nuclei in prepared])
    if len(types) > 1:
        warnings.append(f"The stacks have different types of pixels ({_text(types)}), and levels of their own.")
    return warnings


def _by_value(prepared: Sequence[NucleiOfStack], values: Sequence[str]) -> dict[str, list[str]]:
    """Return value -> the names of the stacks that have it."""
    names: dict[str, list[str]] = {}
    for nuclei, value in zip(prepared, values, strict=True):
        names.setdefault(value, []).append(nuclei.files.name)
    return names


def _text(names_by_value: dict[str, list[str]]) -> str:
    parts = []
    for value, names in names_by_value.items():
        more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
        parts.append(f"{join_words(names[:3]) if not more else ', '.join(names[:3])}{more}: {value}")
    return "; ".join(parts)
