"""Paint predicted classes over the stack that `nephros.prepare` cropped the nuclei from."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nephros.console import progress_bar
from nephros.data.dataset import class_name_fault
from nephros.errors import FileError
from nephros.escaping import unescape_from_csv
from nephros.files import file_digest
from nephros.microscopy.measurements import check_mask_matches_stack
from nephros.microscopy.metadata import MaskInfo, StackInfo, read_metadata
from nephros.microscopy.nuclei_table import read_nuclei_csv
from nephros.microscopy.projection import project_stack
from nephros.microscopy.reader import Stack, open_stack
from nephros.reporting.stack_overlay import ClassOverlay, check_overlay_suffix, save_overlay, scale_bar_um

_EXPECTED_PREDICTIONS = (
    "it must be the CSV file that `nephros.predict(NPZ)` wrote for this npz file, with one row per nucleus"
)


def overlay(metadata_path: str | Path, predictions: str | Path, out: str | Path) -> Path:
    """Paint each nucleus's predicted class over the maximum projection of its stack, and return the path of the image.

    Args:
        metadata_path: JSON file that `nephros.prepare` wrote; the stack and the mask that it names must be in their places,
            unchanged.
        predictions: CSV file with the columns index (row of the npz file), label, class_name and, where known, is_ood.
        out: the image to write, .png or .tif.

    Raises:
        NephrosError: a file is missing, has changed since, or does not belong to the stack.
    """
    metadata_path, out = Path(metadata_path).expanduser().absolute(), Path(out).expanduser().absolute()
    check_overlay_suffix(out)
    metadata = read_metadata(metadata_path)
    ids, mean_intensity = read_nuclei_csv(metadata_path.parent / metadata.table)
    labels, class_names, is_ood = _read_predictions(Path(predictions).expanduser().absolute(), metadata.npz, len(ids))
    stack = _open_unchanged(metadata.stack)
    mask = _open_unchanged(metadata.mask)
    check_mask_matches_stack(stack, mask)
    order = np.argsort(ids)
    slice_pairs = zip(stack.slices(), mask.slices(), strict=True)
    projection, visible_nuclei, stride = project_stack(
        progress_bar(slice_pairs, "Projecting", stack.shape[0]), stack.shape, ids[order], mean_intensity[order]
    )
    pixel_um = None if metadata.voxel_size_um is None else metadata.voxel_size_um[2] * stride
    legend_notes = ["Maximum projection; where nuclei overlap, the brighter one is visible."]
    if pixel_um is not None and (bar_um := scale_bar_um(pixel_um, projection.shape[1])) is not None:
        legend_notes.insert(0, f"White bar: {bar_um} micrometers.")
    if metadata.mask.automatic:
        legend_notes.append("The nuclei were segmented automatically.")
    legend_notes.append("Research use only; predictions are not a diagnosis.")
    class_overlay = ClassOverlay(labels[order], class_names, is_ood[order], stack.path.name, legend_notes, pixel_um)
    save_overlay(out, projection, visible_nuclei, class_overlay)
    return out


def _read_predictions(path: Path, npz: str, n: int) -> tuple[NDArray[np.int64], dict[int, str], NDArray[np.bool_]]:
    """Read the predictions for the `n` rows of an npz file.

    Returns:
        The label of each row, (n,) int64; class names by label; and whether each row is out of distribution, (n,) bool.
    """
    labels, is_ood = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    class_names: dict[int, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                if Path(unescape_from_csv(row.get("file") or npz)).name != npz or row.get("split"):
                    continue  # of another file, or a nucleus again, as a member of train, val or test
                index, label = int(row["index"]), int(row["label"])
                if not 0 <= index < n or label < 0 or labels[index] >= 0:
                    raise ValueError(f"row {index}")
                labels[index] = label
                class_names[label] = unescape_from_csv(row.get("class_name") or f"class {label}")
                is_ood[index] = (row.get("is_ood") or "").strip().lower() in ("true", "1", "yes")
        if fault := class_name_fault([class_names[label] for label in sorted(class_names)]):
            raise ValueError(fault)
    except OSError as error:
        raise FileError(path, f"{path} can't be read ({error.strerror}); {_EXPECTED_PREDICTIONS}.") from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise FileError(
            path, f"{path} doesn't match the {n:,} nuclei of {npz} ({error}); {_EXPECTED_PREDICTIONS}."
        ) from error
    if n_missing := int((labels < 0).sum()):
        raise FileError(path, f"{path} lacks {n_missing:,} of the {n:,} nuclei of {npz}; {_EXPECTED_PREDICTIONS}.")
    return labels, class_names, is_ood


def _open_unchanged(info: StackInfo | MaskInfo) -> Stack:
    """Open a file that the metadata name, if it is still the same."""
    path = Path(info.path)
    channel, image, axes = (info.channel, info.image, info.axes) if isinstance(info, StackInfo) else (None, None, None)
    stack = open_stack(path, channel, image=image, axes=axes, is_mask=isinstance(info, MaskInfo))
    if file_digest(path) != info.sha256:
        raise FileError(
            path, f"{path} has changed since the nuclei were cropped from it; run `nephros.prepare(STACK)` again."
        )
    return stack
