"""From a 3-D fluorescence stack and a mask of its nuclei to pictures that a model takes: the whole of `data prepare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.console import progress_bar
from nephros.data.reference_statistics import shift_warnings
from nephros.data.statistics import pixel_statistics
from nephros.environment import package_versions
from nephros.files import file_digest
from nephros.microscopy.class_labels import labeled_splits, read_class_labels
from nephros.microscopy.crops import CROP_SHAPE
from nephros.microscopy.crops_to_images import make_nucleus_images, quality_warnings
from nephros.microscopy.intensity import ContrastLimits
from nephros.microscopy.nuclei_table import nuclei_csv
from nephros.microscopy.output_files import OutputFiles
from nephros.microscopy.reader import Stack, open_stack
from nephros.microscopy.segmentation import METHOD, segment_nuclei
from nephros.microscopy.voxel_size import TRAINING_VOXEL_SIZE, VoxelScaling, VoxelSize


@dataclass(frozen=True)
class PreparedStack:
    """What `prepare` wrote, and what it has to say about it."""

    images: NDArray[np.uint8]
    """(n, 28, 28), in the order of the table and of the npz file's `images` and `ids`."""
    ids: NDArray[np.int64]
    """(n,) numbers in the mask."""
    paths: tuple[Path, ...]
    """The table, the notes, the mask where it was made here, and last the npz file."""
    metadata: dict[str, Any]
    """What FILE.json holds."""


def prepare(
    stack: str | Path,
    out: str | Path,
    *,
    mask: str | Path | None = None,
    channel: int | None = None,
    voxel_size: VoxelSize | None = None,
    target_voxel_size: VoxelSize = TRAINING_VOXEL_SIZE,
    resample: bool = True,
    black_level: float | None = None,
    white_level: float | None = None,
    percentiles: tuple[float, float] | None = None,
    drop_border: bool = False,
    classes: str | Path | None = None,
    seed: int = 0,
) -> PreparedStack:
    """Cut every nucleus out of a stack as TissueMNIST's were: 32x32x7 around its centroid, maximum, 28x28, 8 bits.

    Args:
        stack: TIFF, OME-TIFF or .npy of one channel's slices, or of several and `channel` says which.
        out: the .npz file to write; FILE.csv and FILE.json, and FILE.mask.tif without `mask`, come beside it.
        mask: of the nuclei, of the same size, whole numbers, 0 outside; None marks nuclei roughly by threshold and watershed.
        voxel_size: micrometres along z, y and x; None takes the file's.
        target_voxel_size: what the crops are resampled to.
        resample: False takes the stack's voxels as they are.
        black_level: pixel value that becomes 0; None finds it.
        white_level: pixel value that becomes 255; None finds it.
        percentiles: of the stack's pixels, to become 0 and 255 instead.
        drop_border: leave out nuclei that the stack's edge cuts or whose crop reaches beyond it, which is black there.
        classes: a CSV file of id and class; the npz file then also has train, val and test, split 7:1:2 with `seed`.

    Raises:
        UserError: a file can't be used or written, the voxel size is unknown, or no nucleus is left.
    """
    files = OutputFiles.beside(out, with_mask=mask is None)
    files.check_overwrites(stack, mask, classes)
    class_labels = None if classes is None else read_class_labels(classes)
    image_stack = open_stack(stack, channel)
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
        )
        segmented, nuclei, images = result.segmented, result.nuclei, result.images
        arrays = (
            {} if class_labels is None else labeled_splits(images, nuclei.ids, segmented.nuclei.ids, class_labels, seed)
        )
        counts = {
            "segmented": len(segmented.nuclei),
            "kept": len(nuclei),
            "at_border": int(segmented.at_border.sum()),
            "dropped": int((~result.is_kept).sum()),
        }
        metadata = {
            "format": 2,
            "stack": _input_metadata(image_stack)
            | {"channel": image_stack.channel, "n_channels": image_stack.n_channels},
            "mask": _input_metadata(mask_stack, files.mask)
            | {"method": "user-provided mask" if mask else METHOD, "automatic": mask is None},
            **scale.to_dict(),
            "crop_shape_zyx": CROP_SHAPE,
            "contrast_limits": _contrast_metadata(result.contrast_limits, images),
            "nuclei": counts,
            "class_labels": None
            if class_labels is None
            else {"file": str(classes), "seed": seed, "class_names": arrays["class_names"].tolist()},
            "warnings": _collect_warnings(image_stack, scale, images, is_rough=mask is None),
            "table": files.table.name,
            "npz": files.npz.name,
            "versions": package_versions() | _library_versions(),
        }
        table_csv = nuclei_csv(nuclei, segmented.at_border[result.is_kept], scale.stack_voxel_size)
        files.write(scratch_dir, table_csv, metadata, mask_stack.path, {"images": images, "ids": nuclei.ids, **arrays})
    return PreparedStack(images, nuclei.ids, files.paths(), metadata)


def _input_metadata(stack: Stack, final_path: Path | None = None) -> dict[str, Any]:
    """Describe an input; `final_path` is where it will lie."""
    path = stack.path if final_path is None else final_path
    return {"path": str(path), "sha256": file_digest(stack.path), "shape": stack.shape, "dtype": str(stack.dtype)}


def _library_versions() -> dict[str, str]:
    """Return the versions of what is used here only."""
    from importlib.metadata import version

    return {package: version(package) for package in ("tifffile", "scikit-image", "scipy")}


def _contrast_metadata(contrast_limits: ContrastLimits, images: NDArray[np.uint8]) -> dict[str, Any]:
    mean, std = pixel_statistics(images)
    return {
        "rule": contrast_limits.rule,
        "black_level": contrast_limits.black_level,
        "white_level": contrast_limits.white_level,
        "black_percentile": contrast_limits.black_percentile,
        "white_percentile": contrast_limits.white_percentile,
        "pixel_mean": mean,
        "pixel_std": std,
    }


def _collect_warnings(stack: Stack, scale: VoxelScaling, images: NDArray[np.uint8], *, is_rough: bool) -> list[str]:
    warnings = [*shift_warnings(images), *quality_warnings(stack, scale)]
    if is_rough:
        warnings.append(f"The mask is a rough one, by {METHOD}: look at it.")
    return warnings
