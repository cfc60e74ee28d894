"""Paint predicted classes over the stack that `nephros.prepare` cropped the nuclei from."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from nephros.console import progress_bar
from nephros.data.relocation import find_moved
from nephros.errors import FileError
from nephros.inference.predictions_csv import read_predictions_csv
from nephros.microscopy.location import StackLocation, StackUrl, locate
from nephros.microscopy.masks import mask_exists, open_mask
from nephros.microscopy.measurements import check_mask_matches_stack
from nephros.microscopy.metadata import MaskInfo, StackInfo, read_metadata
from nephros.microscopy.output_files import read_nuclei_csv
from nephros.microscopy.reader import open_stack_with
from nephros.microscopy.sequence_stack import stack_digest
from nephros.reporting.stack_overlay import (
    ClassOverlay,
    check_overlay_suffix,
    overlay_notes,
    project_stack,
    save_overlay,
)
from nephros.reporting.tissue.page import write_tissue_page

logger = logging.getLogger(__name__)


def overlay(
    metadata_path: str | Path,
    predictions: str | Path,
    out: str | Path,
    *,
    html: bool = False,
    stack: str | Path | None = None,
    mask: str | Path | None = None,
) -> Path:
    """Paint each nucleus's predicted class over the maximum projection of its stack, and return the path of the image.

    Args:
        metadata_path: JSON file that `nephros.prepare` wrote, with the table that it names beside it.
        predictions: CSV file of `nephros.predict(NPZ)`, with the columns index (row of the npz file), label and, where known,
            class_name, is_ood and, for the page, those that `nephros.inference.predictions_csv.read_predictions_csv` reads.
        out: the image to write, .png or .tif.
        html: also write a page to pan and zoom, with classes to toggle and a card per nucleus, beside the image: tissue.html for
            tissue.png.
        stack: the unchanged stack that the nuclei were cropped from; None looks for it where it was, and near the JSON file.
        mask: the unchanged mask, likewise.

    Raises:
        NephrosError: a file is missing, has changed since, or does not belong to the stack.
    """
    metadata_path, out = Path(metadata_path).expanduser().absolute(), Path(out).expanduser().absolute()
    check_overlay_suffix(out)
    metadata = read_metadata(metadata_path)
    nuclei = read_nuclei_csv(_table_path(metadata_path, metadata.table))
    npz_names = {metadata.npz, metadata_path.with_suffix(".npz").name}
    predictions = Path(predictions).expanduser().absolute()
    predicted, class_names = read_predictions_csv(predictions, npz_names, len(nuclei))
    _warn_if_older(predictions, metadata_path)
    rows = sorted((a | b for a, b in zip(nuclei, predicted, strict=True)), key=lambda row: int(row["id"]))
    stack_path = _find_unchanged(metadata.stack, metadata_path, stack)
    mask_path = _find_unchanged(metadata.mask, metadata_path, mask)
    options = metadata.stack.reading_options
    image_stack = open_stack_with(stack_path, options)
    mask_stack = open_mask(mask_path, image_stack.shape, metadata.mask.stitch_threshold, options.time_point)
    check_mask_matches_stack(image_stack, mask_stack)
    slice_pairs = zip(image_stack.slices(), mask_stack.slices(), strict=True)
    projection, visible_nuclei, stride = project_stack(
        progress_bar(slice_pairs, "Projecting", image_stack.shape[0]),
        image_stack.shape,
        np.array([row["id"] for row in rows], np.int64),
        np.array([row["intensity_mean"] for row in rows]),
    )
    pixel_um = None if metadata.voxel_size_um is None else metadata.voxel_size_um[2] * stride
    labels, is_ood = np.array([row["label"] for row in rows]), np.array([row["is_ood"] for row in rows])
    names = {label: class_names[label] for label in np.unique(labels).tolist()}
    title, notes = image_stack.path.name, overlay_notes(metadata.mask.automatic)
    save_overlay(out, projection, visible_nuclei, ClassOverlay(labels, names, is_ood, title, notes, pixel_um))
    if html:
        page = out.with_suffix(".html")
        write_tissue_page(
            page, projection, visible_nuclei, rows, class_names, title=title, pixel_um=pixel_um, notes=notes
        )
    return out


def _table_path(metadata_path: Path, name: str) -> Path:
    """Return the path of the table beside the metadata, which may have been renamed together with it."""
    path = metadata_path.parent / name
    renamed = metadata_path.with_suffix(".csv")
    return renamed if renamed.is_file() and not path.is_file() else path


def _warn_if_older(predictions: Path, metadata_path: Path) -> None:
    """Warn where the nuclei were prepared after the table was written: by its rows it fits any nuclei of the same number."""
    if predictions.stat().st_mtime_ns < metadata_path.stat().st_mtime_ns:
        logger.warning(
            "%s is older than %s. If the nuclei were prepared again since, their classes are wrong: `nephros.predict(NPZ)` makes "
            "a new table.",
            predictions,
            metadata_path.name,
        )


def _check_unchanged(url: StackUrl, sha256: str, metadata_path: Path, parameter: str) -> None:
    """Raise FileError where the metadata of a store behind a URL are not those of then."""
    if stack_digest(url) != sha256:
        raise FileError(
            str(url),
            f"{url} is not the store that {metadata_path} was made from, or has changed since; give the URL or the path of the "
            f"original as `{parameter}`.",
        )


def _find_unchanged(info: StackInfo | MaskInfo, metadata_path: Path, given: str | Path | None) -> StackLocation:
    """Return where a file is that the metadata name, or that is given in its place, if it is still the same."""
    parameter = "stack" if isinstance(info, StackInfo) else "mask"
    location = locate(str(given or info.path), parameter)
    if isinstance(location, StackUrl):
        _check_unchanged(location, info.sha256, metadata_path, parameter)
        return location
    return find_moved(
        info.path,
        info.sha256,
        metadata_path,
        stack_digest,
        parameter=parameter,
        given=given,
        renamed=() if isinstance(info, StackInfo) else (metadata_path.with_suffix(".mask.tif"),),
        exists=mask_exists,
    )
