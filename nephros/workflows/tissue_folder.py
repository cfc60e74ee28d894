"""Write predictions of the nuclei of stacks to a folder that other programs open: table, outlines, masks and overlay."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nephros.console import progress_bar
from nephros.environment import __version__
from nephros.errors import InvalidArgument
from nephros.files import atomic_write, write_json
from nephros.inference.nucleus_columns import cell_columns
from nephros.inference.prediction_files import write_csv_columns, write_parquet_columns
from nephros.inference.predictions import Predictions
from nephros.microscopy.class_labels import stack_stem
from nephros.microscopy.located import LocatedNuclei
from nephros.microscopy.stack import Slice, Stack
from nephros.reporting.stack_overlay import ClassOverlay, overlay_notes, project_stack, save_overlay
from nephros.reporting.tissue.page import write_tissue_page
from nephros.tissue.class_colors import CLASS_COLORS
from nephros.tissue.footprints import Footprints
from nephros.tissue.geojson import FeatureCollectionWriter, iter_features, to_finest_level
from nephros.tissue.ome_images import class_annotation, iter_class_slices, ome_dtype, write_ome_image
from nephros.tissue.result_folder import DIGESTS, FILES, FORMAT, check_result_folder, file_digests, replace_folder

Row = dict[str, Any]


def save_cells(predictions: Predictions, folder: str | Path, *, html: bool = False) -> Path:
    """Write predictions of the nuclei of a stack to a folder, all files of it or none, and return its path.

    The folder then has ``cells.csv`` (and ``cells.parquet``, with pyarrow), a row per nucleus; ``cells.geojson``, the outlines
    for QuPath, on the projection, and ``cells_by_slice.geojson``, on the slices of the stack; ``classes.ome.tif``, the mask
    with 1 + the class in place of each id; ``mask.ome.tif``, the whole mask, also with nuclei that have no row;
    ``projection.ome.tif``, the maximum over the slices; ``overlay.png``; and ``cells.json``, which says how the predictions were
    made. With several stacks each has a subfolder.

    Args:
        predictions: of `nephros.predict(STACK)`, or some of its rows.
        folder: a new or empty folder, or one that this function wrote, which is replaced unless a file in it was changed since.
        html: also write ``overlay.html``, a page to pan and zoom, with classes to toggle and a card per nucleus.

    Raises:
        InvalidArgument: rows are not nuclei of stacks, or the folder has other files.
        FileError: the stack or its mask has changed since, a file in the folder was changed by hand, or nothing can be written.
    """
    out = Path(folder).expanduser().absolute()
    check_result_folder(out)
    check_all_nuclei(predictions, out)
    rows_by_stack = [(located, _sorted_rows(predictions, located)) for located in predictions.located]
    rows_by_stack = [(located, rows) for located, rows in rows_by_stack if rows]
    with replace_folder(out) as scratch:
        if len(rows_by_stack) == 1:
            _write_stack(predictions, *rows_by_stack[0], scratch, out, html)
            return out
        names = _folder_names([located for located, _ in rows_by_stack])
        for (located, rows), name in zip(rows_by_stack, names, strict=True):
            (scratch / name).mkdir()
            _write_stack(predictions, located, rows, scratch / name, out / name, html)
        _write_tables(predictions, cell_columns(predictions), scratch)
        description = {"format": FORMAT, "stacks": names, DIGESTS: file_digests(scratch), **predictions.metadata()}
        write_json(scratch / "cells.json", description)
    return out


def check_all_nuclei(predictions: Predictions, out: Path) -> None:
    """Raise InvalidArgument unless all rows are nuclei of stacks, which a folder shows."""
    if not predictions.are_nuclei_of_stacks:
        raise InvalidArgument(
            "out", out, "a .csv, .json or .parquet file, unless all inputs are stacks, whose nuclei a folder shows"
        )


def _sorted_rows(predictions: Predictions, located: LocatedNuclei) -> list[Row]:
    """Return the rows of the tidy table of one stack, each nucleus once, in ascending order of their ids."""
    kept = [row for row, source in enumerate(predictions.sources) if source.file == located.display_path]
    columns = cell_columns(predictions[np.array(kept, np.int64)])
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [row for _, row in sorted({row["id"]: row for row in rows}.items())]


def _folder_names(stacks: list[LocatedNuclei]) -> list[str]:
    """Return a name for the subfolder of each stack: its stem, with a number where that is taken."""
    names: list[str] = []
    taken = {name.lower() for name in FILES}
    for located in stacks:
        stem = stack_stem(located.path).strip(". ") or "stack"
        numbered = (stem if number == 1 else f"{stem}-{number}" for number in itertools.count(1))
        names.append(next(name for name in numbered if name.lower() not in taken))
        taken.add(names[-1].lower())
    return names


def _write_stack(
    predictions: Predictions, located: LocatedNuclei, rows: list[Row], folder: Path, final_folder: Path, html: bool
) -> None:
    """Write the files of one stack to `folder`, which will be renamed to `final_folder`."""
    stack, mask = located.open()
    ids = np.array([row["id"] for row in rows], np.int64)
    labels = np.array([-1 if row["label"] is None else row["label"] for row in rows], np.int64)
    footprints = Footprints(ids)
    projection: NDArray[Any] | None = None

    def watched_slices() -> Iterator[tuple[Slice, Slice]]:
        nonlocal projection
        pairs = zip(stack.slices(), mask.slices(), strict=True)
        for pixels, mask_slice in progress_bar(pairs, "Projecting", stack.shape[0]):
            footprints.find_boxes(mask_slice)
            projection = pixels.copy() if projection is None else np.maximum(projection, pixels, out=projection)
            yield pixels, mask_slice

    intensities = np.array([row["intensity_mean"] for row in rows])
    small_projection, visible_nuclei, stride = project_stack(watched_slices(), stack.shape, ids, intensities)
    assert projection is not None  # a stack has a slice
    _write_images(predictions, located, stack, mask, projection, (ids, labels, footprints), folder)
    _write_geojson(rows, footprints, stack, folder)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    _write_tables(predictions, columns, folder)
    pixel_um = None if located.voxel_size is None else located.voxel_size[2] * stride
    _write_overlay(rows, located, small_projection, visible_nuclei, pixel_um, predictions.class_names, folder)
    if html:
        write_tissue_page(
            folder / "overlay.html",
            small_projection,
            visible_nuclei,
            rows,
            predictions.class_names,
            title=located.path.name,
            pixel_um=pixel_um,
            notes=overlay_notes(located.mask_file.is_automatic),
        )
    description = _describe(predictions, located, stack.level, footprints, final_folder)
    write_json(folder / "cells.json", description | {DIGESTS: file_digests(folder)})


def _write_images(
    predictions: Predictions,
    located: LocatedNuclei,
    stack: Stack,
    mask: Stack,
    projection: NDArray[Any],
    nuclei: tuple[NDArray[np.int64], NDArray[np.int64], Footprints],
    folder: Path,
) -> None:
    """Write the three images, and complete the footprints on the way."""
    ids, labels, footprints = nuclei
    name, n_classes = located.path.name, len(predictions.class_names)

    def filled_slices() -> Iterator[Slice]:
        for mask_slice in progress_bar(mask.slices(), "Writing classes", mask.shape[0]):
            footprints.fill(mask_slice)
            yield mask_slice

    dtype = np.dtype(np.uint8 if n_classes < 255 else np.uint16)
    write_ome_image(
        folder / "classes.ome.tif",
        iter_class_slices(filled_slices(), ids, labels, dtype),
        mask.shape,
        dtype,
        located.voxel_size,
        name=f"predicted classes of {name}",
        channel=f"class (nuclei of channel {stack.channel})",
        annotation=class_annotation(predictions.class_names),
    )
    mask_slices: Iterable[Slice] = progress_bar(mask.slices(), "Writing the mask", mask.shape[0])
    mask_dtype = ome_dtype(mask.dtype, int(ids[-1]))
    write_ome_image(
        folder / "mask.ome.tif",
        mask_slices,
        mask.shape,
        mask_dtype,
        located.voxel_size,
        name=f"mask of {name}",
        channel=f"id (nuclei of channel {stack.channel})",
    )
    write_ome_image(
        folder / "projection.ome.tif",
        [projection],
        (1, *projection.shape),
        ome_dtype(projection.dtype),
        located.voxel_size,
        name=f"maximum projection of {name}",
        channel=f"channel {stack.channel}",
    )


def _write_geojson(rows: list[Row], footprints: Footprints, stack: Stack, folder: Path) -> None:
    """Write the outlines on the projection, and those on the slices of a stack of several slices or pyramid levels.

    Other programs open the finest level, whichever is read here.
    """
    with (
        atomic_write(folder / "cells.geojson", "w") as flat_file,
        atomic_write(folder / "cells_by_slice.geojson", "w") as deep_file,
    ):
        writers = [FeatureCollectionWriter(flat_file), FeatureCollectionWriter(deep_file)]
        features = iter_features(rows, footprints, CLASS_COLORS)
        for feature, plane in progress_bar(features, "Tracing outlines", len(rows)):
            writers[0].write(feature)
            writers[1].write(*to_finest_level(feature, plane, stack.level_step))
        for writer in writers:
            writer.close()
    if stack.shape[0] == 1 and not stack.level:
        (folder / "cells_by_slice.geojson").unlink()


def _write_tables(predictions: Predictions, columns: dict[str, list[Any]], folder: Path) -> None:
    with atomic_write(folder / "cells.csv", "w") as file:
        write_csv_columns(columns, file)
    if find_spec("pyarrow") is not None:
        with atomic_write(folder / "cells.parquet") as file:
            write_parquet_columns(columns, predictions.metadata(), file)


def _write_overlay(
    rows: list[Row],
    located: LocatedNuclei,
    projection: NDArray[np.float32],
    visible_nuclei: NDArray[np.int32],
    pixel_um: float | None,
    class_names: tuple[str, ...],
    folder: Path,
) -> None:
    labels = np.array([-1 if row["label"] is None else row["label"] for row in rows], np.int64)
    names = {label: class_names[label] for label in np.unique(labels).tolist() if label >= 0}
    is_ood = np.array([bool(row["is_ood"]) for row in rows])
    overlay = ClassOverlay(
        labels, names, is_ood, located.path.name, overlay_notes(located.mask_file.is_automatic), pixel_um
    )
    save_overlay(folder / "overlay.png", projection, visible_nuclei, overlay)


def _describe(
    predictions: Predictions, located: LocatedNuclei, level: int, footprints: Footprints, folder: Path
) -> dict[str, Any]:
    """Return the content of ``cells.json``, with the path of the stack from the folder, so that both can move together."""
    options = located.options
    notes = list(predictions.notes)
    if footprints.n_missing:
        notes.append(f"{footprints.n_missing:,} nuclei are too large for an outline and are points in cells.geojson")
    stack_path = str(located.path)
    if isinstance(located.path, Path):
        with contextlib.suppress(ValueError):  # on another drive of Windows
            stack_path = os.path.relpath(located.path.absolute(), folder)
    return {
        "format": FORMAT,
        "nephros_version": __version__,
        "stack": stack_path,
        "channel": options.channel,
        "image": options.image,
        "axes": options.axes,
        "level": level,
        "time_point": options.time_point,
        "shape_zyx": located.shape,
        "voxel_size_um": located.voxel_size,
        "mask": "segmented automatically" if located.mask_file.is_automatic else located.mask_file.path.name,
        "class_colors": {
            name: CLASS_COLORS[label % len(CLASS_COLORS)] for label, name in enumerate(predictions.class_names)
        },
        **predictions.metadata(),
        "notes": notes,
    }
