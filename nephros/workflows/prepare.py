"""Prepare 3-D fluorescence stacks: from each stack and a mask of its nuclei to images that a model classifies."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.console import progress_bar
from nephros.data.class_names import similar_name_warnings
from nephros.data.pixel_statistics import pixel_statistics
from nephros.data.reference_statistics import shift_warnings
from nephros.data.volumes import slices_last
from nephros.environment import package_versions
from nephros.errors import IncompatibleError, InvalidArgument
from nephros.microscopy.class_labels import NamedStack, NucleusClasses, classes_of_nuclei, rows_by_stack
from nephros.microscopy.class_table import ClassRow, ClassTable, read_class_table
from nephros.microscopy.crops import CROP_SHAPE
from nephros.microscopy.intensity import check_contrast_options
from nephros.microscopy.location import StackLocation, StackUrl, locate
from nephros.microscopy.masks import check_stitching_has_mask, labels_in_store, store_labels_note
from nephros.microscopy.metadata import (
    ClassLabelInfo,
    ContrastInfo,
    MaskInfo,
    NucleusCounts,
    PreparationMetadata,
    StackInfo,
    metadata_of_stacks,
)
from nephros.microscopy.nuclei import mask_warnings, quality_warnings, volume_unit
from nephros.microscopy.output_files import OutputFiles, nuclei_csv
from nephros.microscopy.preparation import NucleiOfStack, PrepareOptions, difference_warnings, prepare_nuclei
from nephros.microscopy.prepared_arrays import group_names, prepared_arrays
from nephros.microscopy.segmenters import method_of
from nephros.microscopy.sequence_stack import stack_digest
from nephros.microscopy.stack import StackOptions
from nephros.microscopy.stack_files import StackFiles, find_stack_files
from nephros.microscopy.voxel_size import TRAINING_VOXEL_SIZE, VoxelSize, check_voxel_size


@dataclass(frozen=True)
class PreparedStacks:
    """The images of the nuclei of one or several stacks, and the files that were written."""

    images: NDArray[np.uint8]
    """(n, 28, 28), in the order of the table and of the npz file's ``images`` and ``ids``; of ``volumes``, (n, 7, 32, 32), which
    stay in a temporary file as long as they are referred to."""
    ids: NDArray[np.int64]
    """(n,) ids of the nuclei in the mask of their stack."""
    stack: NDArray[np.str_]
    """(n,) name of each nucleus's stack."""
    paths: tuple[Path, ...]
    """The table, the metadata, the masks where they were made here, and last the npz file."""
    stacks: tuple[PreparationMetadata, ...]
    """The content of the JSON file, for each stack."""
    notes: tuple[str, ...] = ()
    """What holds for all stacks together; one sentence each."""

    @property
    def metadata(self) -> PreparationMetadata:
        """The content of the JSON file of a single stack; raise IncompatibleError for several."""
        if len(self.stacks) > 1:
            raise IncompatibleError(f"{len(self.stacks)} stacks were prepared: see `stacks` for the metadata of each.")
        return self.stacks[0]

    @property
    def warnings(self) -> list[str]:
        """The warnings of all stacks, one sentence each; of several stacks, after the names of those that it is of."""
        if len(self.stacks) == 1:
            return list(self.metadata.warnings)
        names_of_warning: dict[str, list[str]] = {}
        for name, metadata in zip(dict.fromkeys(self.stack.tolist()), self.stacks, strict=True):
            for warning in metadata.warnings:
                names_of_warning.setdefault(warning, []).append(name)
        return [f"{', '.join(names)}: {warning}" for warning, names in names_of_warning.items()]


def prepare(
    stack: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    mask: str | Path | None = None,
    stitch_threshold: float | None = None,
    segment: str | None = None,
    channel: int | str | None = None,
    image: int | str | None = None,
    axes: str | None = None,
    level: int | str | None = None,
    time_point: int | None = None,
    voxel_size: VoxelSize | None = None,
    target_voxel_size: VoxelSize = TRAINING_VOXEL_SIZE,
    resample: bool = True,
    black_level: float | None = None,
    white_level: float | None = None,
    percentiles: tuple[float, float] | None = None,
    drop_border: bool = False,
    min_volume: float | None = None,
    classes: str | Path | None = None,
    id_column: str | None = None,
    class_column: str | None = None,
    patient: str | None = None,
    volumes: bool = False,
) -> PreparedStacks:
    """Crop every nucleus from one or several stacks as was done for TissueMNIST, and write the images to an npz file.

        nephros.prepare(["K4.tif", "K5.tif"], "cells.npz", mask="{stem}_mask.tif", classes="{stem}.csv")

    Each image is the maximum over the slices of a crop of 32x32x7 voxels around the nucleus's centroid, resized to 28x28 pixels
    of 8 bits. The npz file holds of each nucleus its image, its id, its stack and, where they are known, its class, its patient
    and other groups, by which `nephros.train` and `nephros.finetune` keep nuclei together in a split.

    Args:
        stack: TIFF, OME-TIFF or .npy file, OME-Zarr store or its https or s3 URL, CZI, ND2, LIF or IMS file, or a folder with an
            image file per slice and channel, such as img_z001_c1.tif; or a list of them.
        out: the npz file to write. A table, NAME.csv, and metadata, NAME.json, are written beside it, and without `mask` also
            NAME.mask.tif, or NAME.STACK.mask.tif for each of several stacks.
        mask: instance mask of the stack's size, integers with 0 outside of nuclei; None segments the nuclei automatically. For
            several stacks, a pattern: ``{stem}`` stands for the name of each without its suffix, ``*`` for any text. It is looked
            for beside the stack, then in the working folder. For an OME-Zarr store also the name of one of its label images,
            which None takes where there is only one. Also regions of ImageJ's ROI manager, a zip archive of .roi files.
        stitch_threshold: for a mask whose ids count within each slice only: objects of neighboring slices become one nucleus
            where their intersection over union is at least this, above 0 and at most 1, such as 0.25. None takes the ids as
            they are.
        segment: how to segment the nuclei without a mask: ``"rough"`` (Otsu threshold and watershed, the default), or
            ``"cellpose"`` or ``"stardist"``, where these packages are installed.
        channel: index or name of the channel that shows the nuclei; needed where the stack has several.
        image: index or name of the image in a file that holds several, such as OME-TIFF with several positions; None takes the
            only one with several slices, else the first.
        axes: what the file's dimensions are, such as ``"ZYX"`` where slices are saved as channels; None takes the file's word.
        level: level of the pyramid of an OME-Zarr store, a TIFF, an Imaris or a CZI file, 0 for the finest; ``"auto"`` takes
            the coarsest that is as fine as the training data, None the finest.
        time_point: index in a time series.
        voxel_size: micrometers along z, y and x, at the finest level of a pyramid; None takes the file's metadata.
        target_voxel_size: voxel size of the crops.
        resample: False uses the stack's voxels as they are.
        black_level: intensity that becomes 0; None fits it to the training data.
        white_level: intensity that becomes 255; None fits it to the training data.
        percentiles: percentiles of the stack's voxels that become 0 and 255, in place of the two levels.
        drop_border: leave out nuclei that the stack's edge cuts, or whose crop extends beyond it and is black there.
        min_volume: leave out smaller nuclei, such as debris; in cubic micrometers where the voxel size is known, else in voxels.
        classes: table of classes: CSV or TSV with the columns id and class, and perhaps stack, patient or other groups; QuPath's
            measurements or GeoJSON; Fiji's results. Without ids, rows are joined with nuclei by their centroids. Rows without a
            class are nuclei without a label. For several stacks one table with a column stack, or a pattern with ``{stem}``.
        id_column: name of the table's column of ids; None recognizes it.
        class_column: name of the table's column of classes; None recognizes it.
        patient: pattern of the stack's name, such as ``{patient}_*``, or of the end of its path, such as ``{patient}/*``, that
            says which patient or animal a stack is of.
        volumes: keep the 32x32x7 voxels of each crop, for a network of volumes such as nephnet3d, in place of the image: the npz
            file then holds ``volumes``, (n, 7, 32, 32).

    Raises:
        NephrosError: a file is missing or can't be used or written, the voxel size is unknown, or no nucleus is left.
    """
    options = PrepareOptions(
        channel=channel,
        image=image,
        axes=axes,
        level=level,
        time_point=time_point,
        voxel_size=voxel_size,
        target_voxel_size=target_voxel_size,
        resample=resample,
        black_level=black_level,
        white_level=white_level,
        percentiles=percentiles,
        drop_border=drop_border,
        min_volume=min_volume,
        volumes=volumes,
        stitch_threshold=stitch_threshold,
        segment=segment,
    )
    _check_options(options)
    StackOptions(mask=None if mask is None else str(mask), segment=segment)  # checks that not both are given
    _check_class_options(classes, id_column, class_column)
    stack_files, notes = find_stack_files(
        [stack] if isinstance(stack, str | Path) else list(stack), mask, classes, patient
    )
    stack_files = [_with_store_labels(file, options, notes) for file in stack_files]
    names = [file.name if len(stack_files) > 1 else "" for file in stack_files if file.mask is None]
    files = OutputFiles.beside(out, names)
    inputs = (path for file in stack_files for path in (file.path, file.mask, file.classes))
    files.check_overwrites(*(path for path in inputs if isinstance(path, Path)))
    for file in stack_files:
        check_stitching_has_mask(stitch_threshold, file.mask, file.path)
        if file.mask is not None and locate(file.mask) == file.path:
            raise InvalidArgument("mask", file.mask, "the label image of the stack, not the stack itself")
    tables = {
        path: read_class_table(path, id_column, class_column)
        for path in dict.fromkeys(file.classes for file in stack_files)
        if path is not None
    }
    rows = _divide_rows(stack_files, tables, notes)
    with files.scratch_dir(has_mapped_files=volumes) as scratch_dir:
        prepared, labels = _prepare_each(stack_files, tables, rows, options, scratch_dir)
        table_notes = [note for table in tables.values() for note in table.notes]
        notes += [*difference_warnings(prepared), *dict.fromkeys(table_notes)]
        arrays, class_notes = prepared_arrays(prepared, labels, options, scratch_dir)
        notes += class_notes
        new_masks = iter(files.masks)
        masks = [next(new_masks) if nuclei.files.mask is None else nuclei.mask.path for nuclei in prepared]
        stacks = tuple(
            _metadata(nuclei, files, masks[i], i, labels, arrays, options) for i, nuclei in enumerate(prepared)
        )  # fmt: skip
        groups = {name: arrays[name].tolist() for name in group_names(prepared, labels)}
        files.write(
            scratch_dir,
            nuclei_csv(prepared, groups),
            stacks[0].to_dict() if len(stacks) == 1 else metadata_of_stacks(stacks),
            [Path(str(nuclei.mask.path)) for nuclei in prepared if nuclei.files.mask is None],
            arrays,
        )
    images = arrays["volumes" if volumes else "images"]
    if volumes:  # where Windows has kept the folder, it goes with the last of the files
        weakref.finalize(images.base, shutil.rmtree, scratch_dir, ignore_errors=True)
    return PreparedStacks(images, arrays["ids"], arrays["stack"], files.paths(), stacks, tuple(notes))


def _with_store_labels(file: StackFiles, options: PrepareOptions, notes: list[str]) -> StackFiles:
    """Return a stack's files with a label image of its own store as mask, where that is meant."""
    if isinstance(file.mask, StackUrl) or options.segment is not None:
        return file
    name = None if file.mask is None else str(file.mask)
    mask = labels_in_store(file.path, name, options.stack_options)
    if mask is None:
        return file
    notes.append(store_labels_note(file.path, mask))
    return replace(file, mask=mask)


def _divide_rows(
    stack_files: Sequence[StackFiles], tables: Mapping[Path, ClassTable], notes: list[str]
) -> list[Sequence[ClassRow]]:
    """Return the rows of each stack in its table, none where it has no table; `notes` get what was assumed."""
    rows: dict[int, Sequence[ClassRow]] = {}
    for path, table in tables.items():
        files = {index: file for index, file in enumerate(stack_files) if file.classes == path}
        divided = rows_by_stack(table, [NamedStack(file.path, file.name, file.mask) for file in files.values()])
        rows |= dict(zip(files, divided.rows, strict=True))
        notes += divided.notes
    return [rows.get(index, ()) for index in range(len(stack_files))]


def _prepare_each(
    stack_files: Sequence[StackFiles],
    tables: Mapping[Path, ClassTable],
    rows: Sequence[Sequence[ClassRow]],
    options: PrepareOptions,
    scratch_dir: Path,
) -> tuple[list[NucleiOfStack], list[NucleusClasses]]:
    """Return the nuclei of each stack and, where there are tables, their classes."""
    prepared, labels = [], []
    for index, file in enumerate(stack_files):
        crops_dir = scratch_dir / f"crops{index}"
        crops_dir.mkdir()
        nuclei = prepare_nuclei(file, options, scratch_dir / f"mask{index}.tif", crops_dir, progress_bar)
        prepared.append(nuclei)
        if file.classes is not None:
            segmented = nuclei.result.segmented.nuclei
            sizes = nuclei.scale.stack_voxel_size, nuclei.stack.level_step
            labels.append(classes_of_nuclei(tables[file.classes], rows[index], segmented, *sizes))
    return prepared, labels


def _check_options(options: PrepareOptions) -> None:
    StackOptions(min_volume=options.min_volume, stitch_threshold=options.stitch_threshold)  # checks them
    if options.voxel_size is not None:
        check_voxel_size("voxel_size", options.voxel_size)
    check_voxel_size("target_voxel_size", options.target_voxel_size)
    check_contrast_options(options.black_level, options.white_level, options.percentiles)


def _check_class_options(classes: str | Path | None, id_column: str | None, class_column: str | None) -> None:
    for parameter, value in (("id_column", id_column), ("class_column", class_column)):
        if classes is None and value is not None:
            raise InvalidArgument(parameter, value, "left out, except with a table as `classes`")


def _metadata(
    nuclei: NucleiOfStack,
    files: OutputFiles,
    mask_path: StackLocation,
    index: int,
    labels: Sequence[NucleusClasses],
    arrays: dict[str, NDArray[Any]],
    options: PrepareOptions,
) -> PreparationMetadata:
    """Describe a stack's inputs, how its images were made, and what they look like."""
    stack, mask, scale, result = nuclei.stack, nuclei.mask, nuclei.scale, nuclei.result
    is_automatic, limits = nuclei.files.mask is None, result.contrast_limits
    class_labels = None
    if labels:
        n_labeled = sum(nucleus_id in labels[index].class_of_id for nucleus_id in nuclei.ids.tolist())
        class_labels = ClassLabelInfo(str(nuclei.files.classes), tuple(arrays["class_names"].tolist()), n_labeled)
    mean, std = pixel_statistics(slices_last(result.images) if options.volumes else result.images)
    warnings = [
        *stack.notes,
        *mask.notes,
        *([] if options.volumes else shift_warnings(result.images)),
        *quality_warnings(stack, scale),
        *mask_warnings(result.segmented.nuclei),
        *similar_name_warnings(class_labels.class_names if class_labels else ()),
    ]
    if is_automatic:
        warnings.append(f"The mask was made automatically by {method_of(options.segment)}; check it.")
        if class_labels and labels[index].is_by_id:
            warnings.append(
                f"The ids in {Path(class_labels.file).name} are taken for those of the automatic mask: if they are of another "
                "mask, give it as `mask`."
            )
    return PreparationMetadata(
        stack=StackInfo(
            str(stack.path),
            stack_digest(stack.path),
            stack.shape,
            str(stack.dtype),
            stack.channel,
            stack.n_channels,
            stack.image,
            options.axes,
            stack.level,
            stack.time_point,
            options.stack_options,
        ),
        mask=MaskInfo(
            str(mask_path),
            stack_digest(mask.path),
            mask.shape,
            str(mask.dtype),
            method_of(options.segment) if is_automatic else "user-provided mask",
            is_automatic,
            options.stitch_threshold,
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
        min_volume=options.min_volume,
        min_volume_unit=None if options.min_volume is None else volume_unit(scale),
    )
