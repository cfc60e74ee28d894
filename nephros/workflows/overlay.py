"""Paint predicted classes over the stack that `nephros.prepare` cropped the nuclei from."""

from __future__ import annotations

import csv
import io
from pathlib import Path, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from nephros.console import progress_bar
from nephros.data.class_names import class_name_fault
from nephros.data.relocation import find_moved
from nephros.errors import FileError
from nephros.escaping import unescape_from_csv
from nephros.microscopy.location import StackLocation, StackUrl, locate
from nephros.microscopy.masks import open_mask
from nephros.microscopy.measurements import check_mask_matches_stack
from nephros.microscopy.metadata import MaskInfo, StackInfo, read_metadata
from nephros.microscopy.output_files import read_nuclei_csv
from nephros.microscopy.reader import open_stack
from nephros.microscopy.sequence_stack import stack_digest
from nephros.microscopy.stack import Stack
from nephros.reading import MAX_CSV_BYTES, MalformedContent, file_errors, read_text
from nephros.reporting.stack_overlay import (
    ClassOverlay,
    check_overlay_suffix,
    project_stack,
    save_overlay,
)

_MAX_LABELS = 1 << 16
_EXPECTED_PREDICTIONS = (
    "give the CSV file that `nephros.predict(NPZ)` wrote for this npz file, with one row per nucleus"
)


def overlay(
    metadata_path: str | Path,
    predictions: str | Path,
    out: str | Path,
    *,
    stack: str | Path | None = None,
    mask: str | Path | None = None,
) -> Path:
    """Paint each nucleus's predicted class over the maximum projection of its stack, and return the path of the image.

    Args:
        metadata_path: JSON file that `nephros.prepare` wrote, with the table that it names beside it.
        predictions: CSV file with the columns index (row of the npz file), label, class_name and, where known, is_ood.
        out: the image to write, .png or .tif.
        stack: the unchanged stack that the nuclei were cropped from; None looks for it where it was, and near the JSON file.
        mask: the unchanged mask, likewise.

    Raises:
        NephrosError: a file is missing, has changed since, or does not belong to the stack.
    """
    metadata_path, out = Path(metadata_path).expanduser().absolute(), Path(out).expanduser().absolute()
    check_overlay_suffix(out)
    metadata = read_metadata(metadata_path)
    ids, mean_intensity = read_nuclei_csv(_table_path(metadata_path, metadata.table))
    npz_names = {metadata.npz, metadata_path.with_suffix(".npz").name}
    labels, class_names, is_ood = _read_predictions(Path(predictions).expanduser().absolute(), npz_names, len(ids))
    image_stack = _open_unchanged(metadata.stack, metadata_path, stack)
    mask_stack = _open_unchanged(metadata.mask, metadata_path, mask)
    check_mask_matches_stack(image_stack, mask_stack)
    order = np.argsort(ids)
    slice_pairs = zip(image_stack.slices(), mask_stack.slices(), strict=True)
    projection, visible_nuclei, stride = project_stack(
        progress_bar(slice_pairs, "Projecting", image_stack.shape[0]),
        image_stack.shape,
        ids[order],
        mean_intensity[order],
    )
    pixel_um = None if metadata.voxel_size_um is None else metadata.voxel_size_um[2] * stride
    legend_notes = ["Maximum projection; where nuclei overlap, the brighter one is visible."]
    if metadata.mask.automatic:
        legend_notes.append("The nuclei were segmented automatically.")
    legend_notes.append("Research use only; predictions are not a diagnosis.")
    class_overlay = ClassOverlay(
        labels[order], class_names, is_ood[order], image_stack.path.name, legend_notes, pixel_um
    )
    save_overlay(out, projection, visible_nuclei, class_overlay)
    return out


def _read_predictions(
    path: Path, npz_names: set[str], n: int
) -> tuple[NDArray[np.int64], dict[int, str], NDArray[np.bool_]]:
    """Read the predictions for the `n` rows of an npz file, which has one of these names.

    Returns:
        The label of each row, (n,) int64; class names by label; and whether each row is out of distribution, (n,) bool.
    """
    npz = min(npz_names)
    labels, is_ood = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    class_names: dict[int, str] = {}
    with file_errors(path, _EXPECTED_PREDICTIONS, name=f"{path}, for the {n:,} nuclei of {npz},"):
        reader = csv.DictReader(io.StringIO(read_text(path, MAX_CSV_BYTES), newline=""))
        for row in reader:
            if PureWindowsPath(unescape_from_csv(row.get("file") or npz)).name not in npz_names or row.get("split"):
                continue  # of another file, or a nucleus again, as a member of train, val or test
            index, label = int(row["index"]), int(row["label"])
            if not 0 <= index < n or not 0 <= label < _MAX_LABELS or labels[index] >= 0:
                raise MalformedContent(
                    f"line {reader.line_num} has an index or a label that is none, or an index twice"
                )
            labels[index] = label
            class_names[label] = unescape_from_csv(row.get("class_name") or f"class {label}")
            is_ood[index] = (row.get("is_ood") or "").strip().lower() in ("true", "1", "yes")
        if fault := class_name_fault([class_names[label] for label in sorted(class_names)]):
            raise MalformedContent(fault)
    if n_missing := int((labels < 0).sum()):
        raise FileError(path, f"{path} lacks {n_missing:,} of the {n:,} nuclei of {npz}; {_EXPECTED_PREDICTIONS}.")
    return labels, class_names, is_ood


def _table_path(metadata_path: Path, name: str) -> Path:
    """Return the path of the table beside the metadata, which may have been renamed together with it."""
    path = metadata_path.parent / name
    renamed = metadata_path.with_suffix(".csv")
    return renamed if renamed.is_file() and not path.is_file() else path


def _check_unchanged(url: StackUrl, sha256: str, metadata_path: Path, parameter: str) -> None:
    """Raise FileError where the metadata of a store behind a URL are not those of then."""
    if stack_digest(url) != sha256:
        raise FileError(
            str(url),
            f"{url} is not the store that {metadata_path} was made from, or has changed since; give the URL or the path of the "
            f"original as `{parameter}`.",
        )


def _open_unchanged(info: StackInfo | MaskInfo, metadata_path: Path, given: str | Path | None) -> Stack:
    """Open a file that the metadata name, or that is given in its place, if it is still the same."""
    parameter = "stack" if isinstance(info, StackInfo) else "mask"
    location = locate(str(given or info.path), parameter)
    if isinstance(location, StackUrl):
        _check_unchanged(location, info.sha256, metadata_path, parameter)
        path: StackLocation = location
    else:
        path = find_moved(
            info.path,
            info.sha256,
            metadata_path,
            stack_digest,
            parameter=parameter,
            given=given,
            renamed=() if isinstance(info, StackInfo) else (metadata_path.with_suffix(".mask.tif"),),
        )
    if isinstance(info, MaskInfo):
        return open_mask(path, info.shape, info.stitch_threshold)
    return open_stack(
        path, info.channel, image=info.image, axes=info.axes, level=info.level, time_point=info.time_point
    )  # fmt: skip
