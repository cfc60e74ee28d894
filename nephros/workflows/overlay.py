"""Predicted classes back onto the stack that `nephros data prepare` cut the nuclei from."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.console import progress_bar
from nephros.errors import NephrosError
from nephros.files import file_digest
from nephros.microscopy.measurements import check_mask_matches_stack
from nephros.microscopy.projection import project_stack
from nephros.microscopy.reader import Stack, open_stack
from nephros.reporting.stack_overlay import ClassOverlay, check_overlay_suffix, save_overlay, scale_bar_um

_EXPECTED_FORMAT = "it must be the CSV file that `nephros predict` wrote for this FILE.npz, one line a nucleus"


def overlay(metadata_path: str | Path, predictions: str | Path, out: str | Path) -> Path:
    """Paint each nucleus's predicted class over the maximum projection of its stack; return the picture's path.

    Args:
        metadata_path: FILE.json that `prepare` wrote; the stack and the mask it names must be where they were, unchanged.
        predictions: CSV with the columns index (row of FILE.npz), label, class_name and, where known, is_ood.
        out: .png or .tif.

    Raises:
        UserError: a file is missing, changed since or not of this stack.
    """
    metadata_path, out = Path(metadata_path).expanduser().absolute(), Path(out).expanduser().absolute()
    check_overlay_suffix(out)
    metadata = _read_metadata(metadata_path)
    ids, mean_intensity = _read_nuclei(metadata_path.parent / metadata["table"])
    labels, names, is_ood = _read_predictions(Path(predictions).expanduser().absolute(), metadata["npz"], len(ids))
    stack = _open_unchanged(metadata["stack"], metadata["stack"]["channel"])
    mask = _open_unchanged(metadata["mask"])
    check_mask_matches_stack(stack, mask)
    order = np.argsort(ids)
    slice_pairs = zip(stack.slices(), mask.slices(), strict=True)
    projection, visible_nuclei, stride = project_stack(
        progress_bar(slice_pairs, "Projecting", stack.shape[0]), stack.shape, ids[order], mean_intensity[order]
    )
    voxel_size = metadata["voxel_size_um"]
    pixel_um = None if voxel_size is None else voxel_size[2] * stride
    legend_notes = ["Maximum over slices; where nuclei overlap, the brighter one shows."]
    if pixel_um is not None and (bar_um := scale_bar_um(pixel_um, projection.shape[1])) is not None:
        legend_notes.insert(0, f"White bar: {bar_um} micrometres.")
    if metadata["mask"]["automatic"]:
        legend_notes.append("Nuclei were marked by a rough, classical segmentation.")
    legend_notes.append("Research use only; predictions are not a diagnosis.")
    class_overlay = ClassOverlay(labels[order], names, is_ood[order], stack.path.name, legend_notes, pixel_um)
    save_overlay(out, projection, visible_nuclei, class_overlay)
    return out


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        metadata: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for file in (metadata["stack"]["path"], metadata["mask"]["path"], metadata["table"], metadata["npz"]):
            Path(file)
        return metadata | {"voxel_size_um": metadata["voxel_size_um"]}
    except OSError as error:
        raise NephrosError(
            f"{path} can't be read ({error.strerror}); give the FILE.json that `data prepare` wrote."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise NephrosError(f"{path} is not a FILE.json of `nephros data prepare`.") from error


def _read_nuclei(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the nuclei's numbers and brightness, each (n,)."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(int(row["id"]), float(row["intensity_mean"])) for row in csv.DictReader(file)]
        if not rows:
            raise ValueError("no rows")
    except OSError as error:
        raise NephrosError(f"{path} can't be read ({error.strerror}); it belongs beside FILE.json.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise NephrosError(f"{path} is damaged; run `nephros data prepare` again.") from error
    return np.array([nucleus_id for nucleus_id, _ in rows], dtype=np.int64), np.array(
        [intensity for _, intensity in rows]
    )


def _read_predictions(path: Path, npz: str, n: int) -> tuple[NDArray[np.int64], dict[int, str], NDArray[np.bool_]]:
    """Return the label, (n,), the classes' names and whether a nucleus is unfamiliar, (n,), in the npz file's order."""
    labels, is_ood, names = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.bool_), {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file):
                if Path(row.get("file") or npz).name != npz or row.get("split"):
                    continue  # of another file, or a cell again, as one of train, val or test
                index, label = int(row["index"]), int(row["label"])
                if not 0 <= index < n or label < 0 or labels[index] >= 0:
                    raise ValueError(f"row {index}")
                labels[index] = label
                names[label] = row.get("class_name") or f"class {label}"
                is_ood[index] = (row.get("is_ood") or "").strip().lower() in ("true", "1", "yes")
    except OSError as error:
        raise NephrosError(f"{path} can't be read ({error.strerror}); {_EXPECTED_FORMAT}.") from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise NephrosError(f"{path} doesn't fit {npz}'s {n:,} nuclei ({error}); {_EXPECTED_FORMAT}.") from error
    if n_missing := int((labels < 0).sum()):
        raise NephrosError(f"{path} lacks {n_missing:,} of the {n:,} nuclei of {npz}; {_EXPECTED_FORMAT}.")
    return labels, names, is_ood


def _open_unchanged(metadata: dict[str, Any], channel: int | None = None) -> Stack:
    path = Path(metadata["path"])
    stack = open_stack(path, channel, is_mask=channel is None)
    if file_digest(path) != metadata["sha256"]:
        raise NephrosError(f"{path} has changed since the nuclei were cut out of it; run `nephros data prepare` again.")
    return stack
