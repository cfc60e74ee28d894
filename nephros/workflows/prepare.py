"""Prepare a 3-D fluorescence stack: from the stack and a mask of its nuclei to images that a model classifies."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.console import progress_bar
from nephros.data.class_names import similar_name_warnings
from nephros.data.dataset import pixel_statistics
from nephros.data.images.input_conversion import CONVERSION_ARRAY, InputConversion
from nephros.data.reference_statistics import shift_warnings
from nephros.environment import package_versions
from nephros.errors import InvalidArgument
from nephros.microscopy.class_labels import labeled_splits, read_class_labels
from nephros.microscopy.crops import CROP_SHAPE
from nephros.microscopy.intensity import check_contrast_options
from nephros.microscopy.metadata import (
    ClassLabelInfo,
    ContrastInfo,
    MaskInfo,
    NucleusCounts,
    PreparationMetadata,
    StackInfo,
)
from nephros.microscopy.nuclei import (
    NucleusImages,
    make_nucleus_images,
    mask_warnings,
    quality_warnings,
    volume_unit,
)
from nephros.microscopy.output_files import OutputFiles, nuclei_csv
from nephros.microscopy.reader import open_stack
from nephros.microscopy.segmentation import METHOD, segment_nuclei
from nephros.microscopy.sequence_stack import stack_digest
from nephros.microscopy.stack import Stack, StackOptions
from nephros.microscopy.voxel_size import TRAINING_VOXEL_SIZE, VoxelScaling, VoxelSize, check_voxel_size


@dataclass(frozen=True)
class PreparedStack:
    """The images of a stack's nuclei, and the files that were written."""

    images: NDArray[np.uint8]
    """(n, 28, 28), in the order of the table and of the npz file's ``images`` and ``ids``."""
    ids: NDArray[np.int64]
    """(n,) ids of the nuclei in the mask."""
    paths: tuple[Path, ...]
    """The table, the metadata, the mask where it was made here, and last the npz file."""
    metadata: PreparationMetadata
    """The content of the JSON file."""


def prepare(
    stack: str | Path,
    out: str | Path,
    *,
    mask: str | Path | None = None,
    channel: int | None = None,
    image: int | None = None,
    axes: str | None = None,
    voxel_size: VoxelSize | None = None,
    target_voxel_size: VoxelSize = TRAINING_VOXEL_SIZE,
    resample: bool = True,
    black_level: float | None = None,
    white_level: float | None = None,
    percentiles: tuple[float, float] | None = None,
    drop_border: bool = False,
    min_volume: float | None = None,
    classes: str | Path | None = None,
    seed: int = 0,
) -> PreparedStack:
    """Crop every nucleus from a stack as was done for TissueMNIST, and write the images to an npz file.

    Each image is the maximum over the slices of a crop of 32x32x7 voxels around the nucleus's centroid, resized to 28x28 pixels
    of 8 bits.

    Args:
        stack: TIFF, OME-TIFF or .npy file, or a folder with an image file per slice and channel, such as img_z001_c1.tif.
        out: the npz file to write. A table, NAME.csv, and metadata, NAME.json, are written beside it, and without `mask` also
            NAME.mask.tif.
        mask: instance mask of the stack's size, integers with 0 outside of nuclei; None segments the nuclei automatically.
        channel: index of the channel that shows the nuclei; needed where the stack has several.
        image: index of the image in a file that holds several, such as OME-TIFF with several positions; None takes the only one
            with several slices, else the first.
        axes: what the file's dimensions are, such as ``"ZYX"`` where slices are saved as channels; None takes the file's word.
        voxel_size: micrometers along z, y and x; None takes the file's metadata.
        target_voxel_size: voxel size of the crops.
        resample: False uses the stack's voxels as they are.
        black_level: intensity that becomes 0; None fits it to the training data.
        white_level: intensity that becomes 255; None fits it to the training data.
        percentiles: percentiles of the stack's voxels that become 0 and 255, in place of the two levels.
        drop_border: leave out nuclei that the stack's edge cuts, or whose crop extends beyond it and is black there.
        min_volume: leave out smaller nuclei, such as debris; in cubic micrometers where the voxel size is known, else in voxels.
        classes: table with the columns id and class, separated by commas, semicolons or tabs; rows without a class are nuclei
            without a label. Adds train, val and test to the npz file, split 7:1:2 by class.
        seed: of that split.

    Raises:
        NephrosError: a file can't be used or written, the voxel size is unknown, or no nucleus is left.
    """
    _check_options(voxel_size, target_voxel_size, seed, min_volume)
    check_contrast_options(black_level, white_level, percentiles)
    files = OutputFiles.beside(out, with_mask=mask is None)
    files.check_overwrites(stack, mask, classes)
    if mask is not None and Path(mask).expanduser().absolute() == Path(stack).expanduser().absolute():
        raise InvalidArgument("mask", mask, "the label image of the stack, not the stack itself")
    class_of_id = None if classes is None else read_class_labels(classes)
    image_stack = open_stack(stack, channel, image=image, axes=axes)
    scale = VoxelScaling.resolve(
        image_stack.path.name, image_stack.voxel_size, voxel_size, target_voxel_size, resample=resample
    )
    with files.scratch_dir() as scratch_dir:
        if mask is None:
            segment_nuclei(
                image_stack,
                scratch_dir / "mask.tif",
                scale.stack_voxel_size or target_voxel_size,
                progress=progress_bar,
            )
        mask_stack = open_stack(scratch_dir / "mask.tif" if mask is None else mask, is_mask=True)
        result = make_nucleus_images(
            image_stack,
            mask_stack,
            scale,
            scratch_dir,
            progress_bar,
            black_level=black_level,
            white_level=white_level,
            percentiles=percentiles,
            drop_border=drop_border,
            min_volume=min_volume,
        )
        segmented, nuclei, images = result.segmented, result.nuclei, result.images
        has_levels = black_level is not None or white_level is not None or percentiles is not None
        arrays: dict[str, NDArray[Any]] = {"images": images, "ids": nuclei.ids}
        arrays |= _conversion_arrays(image_stack, scale, result, has_levels)
        class_labels = None
        if class_of_id is not None:
            arrays |= labeled_splits(images, nuclei.ids, segmented.nuclei.ids, class_of_id, seed)
            class_labels = ClassLabelInfo(str(classes), seed, tuple(arrays["class_names"].tolist()))
        metadata = _metadata(image_stack, mask_stack, scale, result, files, class_labels, axes, min_volume)
        table_csv = nuclei_csv(nuclei, segmented.at_border[result.is_kept], scale.stack_voxel_size)
        files.write(scratch_dir, table_csv, metadata, mask_stack.path, arrays)
    return PreparedStack(images, nuclei.ids, files.paths(), metadata)


def _check_options(
    voxel_size: VoxelSize | None, target_voxel_size: VoxelSize, seed: int, min_volume: float | None
) -> None:
    StackOptions(min_volume=min_volume)  # checks it
    if voxel_size is not None:
        check_voxel_size("voxel_size", voxel_size)
    check_voxel_size("target_voxel_size", target_voxel_size)
    if seed < 0:
        raise InvalidArgument("seed", seed, "a whole number of at least 0")


def _conversion_arrays(
    stack: Stack, scale: VoxelScaling, result: NucleusImages, has_levels: bool
) -> dict[str, NDArray[Any]]:
    """Return what a model that is trained on the npz file needs to know of the images' making, to convert its inputs likewise."""
    conversion = InputConversion(target_voxel_size=scale.target_voxel_size)
    if stack.dtype != np.uint8:
        limits = result.contrast_limits
        conversion = replace(
            conversion, white_level=limits.white_level, black_level=limits.black_level, fits_stacks=not has_levels
        )
    return {CONVERSION_ARRAY: np.array(json.dumps(conversion.to_dict()))}


def _metadata(
    stack: Stack,
    mask: Stack,
    scale: VoxelScaling,
    result: NucleusImages,
    files: OutputFiles,
    class_labels: ClassLabelInfo | None,
    axes: str | None,
    min_volume: float | None,
) -> PreparationMetadata:
    """Describe the inputs, how the images were made, and what they look like."""
    is_automatic, limits = files.mask is not None, result.contrast_limits
    mean, std = pixel_statistics(result.images)
    warnings = [
        *stack.notes,
        *mask.notes,
        *shift_warnings(result.images),
        *quality_warnings(stack, scale),
        *mask_warnings(result.segmented.nuclei),
        *similar_name_warnings(class_labels.class_names if class_labels else ()),
    ]
    if is_automatic:
        warnings.append(f"The mask was made automatically by {METHOD}; check it.")
    return PreparationMetadata(
        stack=StackInfo(
            str(stack.path),
            stack_digest(stack.path),
            stack.shape,
            str(stack.dtype),
            stack.channel,
            stack.n_channels,
            stack.image,
            axes,
        ),
        mask=MaskInfo(
            str(files.mask or mask.path),
            stack_digest(mask.path),
            mask.shape,
            str(mask.dtype),
            METHOD if is_automatic else "user-provided mask",
            is_automatic,
        ),
        voxel_size_um=scale.stack_voxel_size,
        voxel_size_source=scale.source,
        target_voxel_size_um=scale.target_voxel_size,
        target_voxel_size_source=scale.target_source,
        resampling_step=scale.step,
        crop_shape_zyx=CROP_SHAPE,
        contrast_limits=ContrastInfo(
            limits.rule,
            limits.black_level,
            limits.white_level,
            limits.black_percentile,
            limits.white_percentile,
            mean,
            std,
        ),
        nuclei=NucleusCounts(
            segmented=len(result.segmented.nuclei),
            kept=len(result.nuclei),
            at_border=int(result.segmented.at_border.sum()),
            dropped=int((~result.is_kept).sum()),
            too_small=result.n_small,
        ),
        class_labels=class_labels,
        warnings=tuple(warnings),
        table=files.table.name,
        npz=files.npz.name,
        versions=package_versions() | {package: version(package) for package in ("tifffile", "scikit-image", "scipy")},
        min_volume=min_volume,
        min_volume_unit=None if min_volume is None else volume_unit(scale),
    )
