"""Predicted classes back onto the stack that `nephros data prepare` cut the nuclei from."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.console import with_bar
from nephros.errors import UserError
from nephros.files import digest
from nephros.microscopy.measurements import check_pair
from nephros.microscopy.projection import flatten
from nephros.microscopy.reader import Stack, open_stack
from nephros.reporting.stack_overlay import Painted, bar_length, check_suffix, save_overlay

FORM = "it must be the CSV file that `nephros predict` wrote for this FILE.npz, one line a nucleus"


def overlay(notes: str | Path, predictions: str | Path, out: str | Path) -> Path:
    """Paint each nucleus's predicted class over the maximum projection of its stack; return the picture's path.

    Args:
        notes: FILE.json that `prepare` wrote; the stack and the mask it names must be where they were, unchanged.
        predictions: CSV with the columns index (row of FILE.npz), label, class_name and, where known, unfamiliar.
        out: .png or .tif.

    Raises:
        UserError: a file is missing, changed since or not of this stack.
    """
    notes, out = Path(notes).expanduser().absolute(), Path(out).expanduser().absolute()
    check_suffix(out)
    about = _about(notes)
    ids, brightness = _table(notes.parent / about["table"])
    labels, names, unfamiliar = _predictions(Path(predictions).expanduser().absolute(), about["npz"], len(ids))
    stack = _unchanged(about["stack"], about["stack"]["channel"])
    mask = _unchanged(about["mask"])
    check_pair(stack, mask)
    order = np.argsort(ids)
    pairs = zip(stack.slices(), mask.slices(), strict=True)
    light, seen, stride = flatten(
        with_bar(pairs, "Projecting", stack.shape[0]), stack.shape, ids[order], brightness[order]
    )
    size = about["voxel_size_um"]
    pixel = None if size is None else size[2] * stride
    lines = ["Maximum over slices; where nuclei overlap, the brighter one shows."]
    if pixel is not None and (bar := bar_length(pixel, light.shape[1])) is not None:
        lines.insert(0, f"White bar: {bar} micrometres.")
    if about["mask"]["rough"]:
        lines.append("Nuclei were marked by a rough, classical segmentation.")
    lines.append("Research use only; predictions are not a diagnosis.")
    painted = Painted(labels[order], names, unfamiliar[order], stack.path.name, lines, pixel)
    save_overlay(out, light, seen, painted)
    return out


def _about(notes: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads(notes.read_text(encoding="utf-8"))
        for place in (about["stack"]["path"], about["mask"]["path"], about["table"], about["npz"]):
            Path(place)
        return about | {"voxel_size_um": about["voxel_size_um"]}
    except OSError as error:
        raise UserError(
            f"{notes} can't be read ({error.strerror}); give the FILE.json that `data prepare` wrote."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{notes} is not a FILE.json of `nephros data prepare`.") from error


def _table(table: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the nuclei's numbers and brightness, each (n,)."""
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = [(int(row["id"]), float(row["brightness"])) for row in csv.DictReader(file)]
        if not rows:
            raise ValueError("no rows")
    except OSError as error:
        raise UserError(f"{table} can't be read ({error.strerror}); it belongs beside FILE.json.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{table} is damaged; run `nephros data prepare` again.") from error
    return np.array([number for number, _ in rows], dtype=np.int64), np.array([light for _, light in rows])


def _predictions(path: Path, npz: str, n: int) -> tuple[NDArray[np.int64], dict[int, str], NDArray[np.bool_]]:
    """Return the label, (n,), the classes' names and whether a nucleus is unfamiliar, (n,), in the npz file's order."""
    labels, unfamiliar, names = np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.bool_), {}
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
                unfamiliar[index] = (row.get("unfamiliar") or "").strip().lower() in ("true", "1", "yes")
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}); {FORM}.") from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{path} doesn't fit {npz}'s {n:,} nuclei ({error}); {FORM}.") from error
    if missing := int((labels < 0).sum()):
        raise UserError(f"{path} lacks {missing:,} of the {n:,} nuclei of {npz}; {FORM}.")
    return labels, names, unfamiliar


def _unchanged(about: dict[str, Any], channel: int | None = None) -> Stack:
    path = Path(about["path"])
    stack = open_stack(path, channel, mask=channel is None)
    if digest(path) != about["sha256"]:
        raise UserError(f"{path} has changed since the nuclei were cut out of it; run `nephros data prepare` again.")
    return stack
