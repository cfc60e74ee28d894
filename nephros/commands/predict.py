"""nephros predict."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nephros.commands.messages import print_line, print_path, to_command_line
from nephros.commands.parser import (
    MODEL_HELP,
    PRECISION_HELP,
    RUNTIME_HELP,
    SEGMENT_HELP,
    STITCH_HELP,
    TTA_HELP,
    CommandParser,
    parse_numbers,
)
from nephros.commands.stack_options import add_stack_options
from nephros.errors import NephrosError
from nephros.imports import collection_paused

if TYPE_CHECKING:
    from nephros.inference.predictions import Predictions

MAX_CONSOLE_ROWS = 10
"""Rows of the table on the terminal."""


def predict(argv: list[str]) -> int:
    """nephros predict"""
    parser = CommandParser(
        "predict",
        "Classify images of single cells. Prints a table, or CSV if the output is piped; --out writes a file.\n\n"
        "Inputs:\n\n"
        "  images   PNG, JPEG and TIFF (one cell per page) of any bit depth\n"
        "  arrays   npz files with images, train_images, val_images or test_images\n"
        "  stacks   TIFF files with a Z axis, or with several pages of at least 256 x 256 pixels; OME-Zarr stores, also behind "
        "https:// and s3:// URLs; CZI, ND2, LIF and IMS files; their nuclei are cut out by --mask, or else segmented roughly\n"
        "  folders  of all these, in sorted order; links are followed, hidden files skipped",
        epilog="Columns of the table, one row per cell:\n\n"
        "  file, index             the index is a page or row from 0, or a stack's nucleus from 1\n"
        "  split                   train, val or test, in npz files that have them\n"
        "  label, class_name       the most probable class\n"
        "  p_0, p_1, ...           calibrated probability of each class\n"
        "  prediction_set          classes that contain the true one as often as --coverage says\n"
        "  is_ood, ood_reasons     whether and why the cell is out of distribution, unlike the training cells\n"
        "  error                   why there is no prediction\n"
        "  id, z, y, x, ...        for nuclei of stacks: number in the mask, centroid in voxels and micrometers, volume\n\n"
        "z, y and x count from 0 at the center of the first voxel, while Fiji and QuPath number slices from 1 and QuPath's "
        "micrometers begin at a pixel's corner; with --level 1, x and y are in pixels of that level.\n\n"
        "For stacks, --out FOLDER writes files that other programs open:\n\n"
        "  cells.csv, .parquet     a row per nucleus: id, stack, position, volume, class_name, p[CLASS], is_ood, and the class "
        "names in prediction_set\n"
        "  cells.geojson           outlines for QuPath, on the projection (cells_by_slice.geojson: on the stack)\n"
        "  classes.ome.tif         the mask with class numbers, label + 1, in place of ids; mask.ome.tif is the mask itself\n"
        "  projection.ome.tif      the maximum over the slices; overlay.png has the classes on it\n"
        "  cells.json              the model, its notes and the colors of the classes\n\n"
        "Conversions, which notes list:\n\n"
        "  values   are read as stored, not as displayed: without look-up tables and inversion\n"
        "  scale    pixels of more than 8 bits are scaled so that --white-level becomes 255; by default that of the training "
        "images or, if those had 8 bits, the brightest pixel of all inputs of as many bits\n"
        "  color    if the model takes grayscale: the plane that --channel names, or the only one with signal; else 0.299 red + "
        "0.587 green + 0.114 blue; alpha is dropped\n"
        "  size     images are resized to the model's input (bicubic), and padded with black to keep the aspect ratio\n\n"
        "Exit status: 0 if every input was classified, 1 if some were not (or an overlay could not be painted), 2 if none was. "
        "A table is written in any case, a FOLDER only if there is a prediction.\n\n"
        "For research only, not for diagnosis.",
    )
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="images, npz files, stacks or folders of them")
    parser.option("model", MODEL_HELP, metavar="M")
    parser.flag("tta", TTA_HELP)
    parser.option("precision", PRECISION_HELP)
    parser.option("runtime", RUNTIME_HELP)
    parser.option(
        "out",
        "write the table to a .csv, .json or .parquet file or, for stacks, to a folder with outlines, masks and an overlay",
        metavar="FILE|FOLDER",
    )
    parser.option("coverage", "how often prediction sets contain the true class, such as 0.95 (default: 0.9)", float)
    parser.option(
        "device",
        "cpu, cuda (needs onnxruntime-gpu in place of onnxruntime, or for a run folder a build of torch for GPUs) or auto "
        "(default: cpu)",
    )
    parser.option(
        "white-level",
        "pixel value that becomes 255 in images of more than 8 bits, such as 4095 or 65535 (default: that of the training "
        "images, else the brightest pixel of all inputs of as many bits)",
        float,
    )
    add_stack_options(parser)
    parser.option(
        "mask",
        "for stacks: label image of the same size, 0 outside and a unique positive integer per nucleus; for several stacks a "
        "pattern such as '{stem}_mask.tif' (default: segment the nuclei roughly)",
        metavar="MASK",
    )
    parser.option("segment", f"for stacks: {SEGMENT_HELP}", metavar="NAME")
    parser.option("stitch-threshold", f"for stacks: {STITCH_HELP}", float, "SHARE")
    parser.option(
        "max-pixels", "pixels that one file may have when decoded, in all pages or rows (default: 20000000000)", int
    )
    parser.option(
        "decode-timeout",
        "seconds for which an unusual file, such as one of many pages or scans, is decoded before it gets an error "
        "(default: 120)",
        float,
        "SECONDS",
    )
    parser.option(
        "overlay",
        "for an npz file from `nephros data prepare`: also paint the classes over its stack, in a .png or .tif file",
        metavar="IMAGE",
    )
    parser.flag(
        "html",
        "with --out FOLDER: also write overlay.html, a page to pan and zoom, with a card per nucleus; with --overlay IMAGE: "
        "write it beside the image",
    )
    parser.flag("model-card", "print the model card as JSON: data, metrics, limitations and thresholds")
    args = parser.parse_argv(argv)
    if "voxel_size" in args:
        args["voxel_size"] = parse_numbers(
            "voxel_size", args["voxel_size"], 3, "Z,Y,X in micrometers, such as 1,0.5,0.5"
        )
    inputs, out = args.pop("inputs", None) or [], args.pop("out", None)
    print_card, model = args.pop("model_card", False), args.pop("model", None)
    overlay_path, html = args.pop("overlay", None), args.pop("html", False)
    if not inputs and not print_card:
        raise NephrosError(
            "`nephros predict` needs images: name files, npz files or folders. See `nephros predict --help`."
        )
    if inputs and print_card and out is None:
        raise NephrosError("--model-card and the table would share the output: name a file for the table with --out.")
    out_path = None if out is None else Path(out).expanduser()
    if html and overlay_path is None and (out_path is None or (out_path.suffix and not out_path.is_dir())):
        raise NephrosError("--html needs a folder to write to: name one with --out FOLDER.")
    overlay = None if overlay_path is None else (_overlay_metadata(inputs, overlay_path), overlay_path)
    with _exit_on_broken_pipe():
        return _predict(inputs, model, out_path, print_card, overlay, html, args)


def _overlay_metadata(inputs: list[str], overlay_path: str) -> Path:
    """Return the metadata file that `nephros data prepare` wrote beside the one npz file."""
    from nephros.reporting.stack_overlay import check_overlay_suffix

    check_overlay_suffix(Path(overlay_path))
    metadata = Path(inputs[0]).expanduser().with_suffix(".json") if inputs else Path()
    if len(inputs) != 1 or Path(inputs[0]).suffix != ".npz" or not metadata.is_file():
        raise NephrosError(
            "--overlay needs exactly one npz file, with the metadata (.json) beside it that `nephros data prepare` wrote."
        )
    return metadata


def _predict(
    inputs: list[str],
    model: str | None,
    out: Path | None,
    print_card: bool,
    overlay: tuple[Path, str] | None,
    html: bool,
    options: dict[str, Any],
) -> int:
    with collection_paused():
        from nephros.exporters.loading import load_classifier
        from nephros.inference.card_json import card_to_json
        from nephros.inference.prediction_files import check_output_path, write_csv
        from nephros.workflows.predict import predict as run_predict

    is_folder = out is not None and (not out.suffix or out.is_dir())
    if out is not None and is_folder:
        _check_folder(inputs, out, (".npz",) if "mask" in options else (".npz", ".png", ".jpg", ".jpeg"))
    elif out is not None:
        check_output_path(out)
        _check_overwrites(inputs, out.absolute())
    predictor = load_classifier(
        model,
        **{name: options.pop(name) for name in ("device", "tta", "precision", "runtime") if name in options},
    )
    if print_card:
        for line in card_to_json(predictor.card).split("\n")[:-1]:
            print_line(line)
    if not inputs:
        return 0
    predictions = _in_command_line_words(run_predict(inputs, predictor, **options))
    if out is not None:
        if is_folder and predictions.has_prediction.any():
            from nephros.workflows.tissue_folder import save_cells

            save_cells(predictions, out, html=html)
        elif not is_folder:
            predictions.save(out)
        if not is_folder or predictions.has_prediction.any():
            print_line(str(out), to_stderr=True) if print_card else print_path(out)
    elif sys.stdout.isatty():
        print_predictions(predictions)
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # as in a file, whatever the locale
        write_csv(predictions, sys.stdout)
    for line in _summary_lines(predictions, with_counts=out is not None and bool(predictions.has_prediction.any())):
        print_line(line, to_stderr=True)
    if not predictions.has_prediction.any():
        return 2
    overlay_failed = overlay is not None and not _write_overlay(predictions, *overlay, html)
    return 1 if predictions.errors or overlay_failed else 0


def _check_folder(inputs: list[str], folder: Path, cell_suffixes: tuple[str, ...]) -> None:
    """Raise InvalidArgument where predictions can't be written to the folder, or an input is certain to be no stack."""
    from nephros.errors import InvalidArgument
    from nephros.tissue.result_folder import check_result_folder

    check_result_folder(folder.absolute())
    if other := [path for path in inputs if Path(path).suffix.lower() in cell_suffixes]:
        raise InvalidArgument(
            "out", folder, f"a .csv, .json or .parquet file, since {other[0]} is not a stack with nuclei to outline"
        )


def _check_overwrites(inputs: list[str], out: Path) -> None:
    """Raise InvalidArgument where the table would replace an input, or what `nephros.prepare` wrote beside one."""
    from nephros.errors import InvalidArgument

    for path in (Path(text).expanduser().absolute() for text in inputs):
        if path == out:
            raise InvalidArgument("out", out, "another name", hint="It is an input.")
        if path.suffix == ".npz" and path.with_suffix("") == out.with_suffix(""):
            from nephros.microscopy.metadata import files_beside

            if out in files_beside(path):
                raise InvalidArgument("out", out, "another name", hint=f"It says which nuclei {path.name} is of.")


def _in_command_line_words(predictions: Predictions) -> Predictions:
    """Return the table with flags and commands in place of parameters and Python calls in its errors and notes."""
    return dataclasses.replace(
        predictions,
        errors={row: to_command_line(error) for row, error in predictions.errors.items()},
        notes=[to_command_line(note) for note in predictions.notes],
    )


def _write_overlay(predictions: Predictions, metadata: Path, overlay_path: str, html: bool) -> bool:
    """Write the overlay and return True, or print why it can't be drawn; the predictions are out by then."""
    from nephros.workflows.overlay import overlay

    with tempfile.TemporaryDirectory() as folder:
        csv_path = Path(folder) / "predictions.csv"
        predictions.save(csv_path)
        try:
            image = overlay(metadata, csv_path, overlay_path, html=html)
            for path in [image, *([image.with_suffix(".html")] if html else [])]:
                print_line(str(path), to_stderr=True)
        except NephrosError as error:
            print_line(
                f"nephros: no overlay, but all predictions: {to_command_line(str(error))} `nephros data overlay --help` explains "
                "how to draw it later.",
                to_stderr=True,
            )
            return False
    return True


def print_predictions(predictions: Predictions) -> None:
    """Print the first rows, and the number of cells of each class."""
    from itertools import islice

    from nephros.console import table_console
    from nephros.text_tables import terminal_table

    console = table_console()
    rows = []
    for row in islice(predictions.rows(), MAX_CONSOLE_ROWS):
        cells = ["", "", "", row.error or ""]
        if row.label is not None and row.probabilities is not None:
            prediction_set = " ".join(map(str, row.prediction_set or []))
            probability = f"{max(row.probabilities):.3f}"
            cells = [f"{row.label} {row.class_name}", probability, prediction_set, "; ".join(row.ood_reasons)]
        rows.append([row.source.file, str(row.source.index), *cells])
    headers = ("file", "index", "class", "probability", "prediction set", "out of distribution")
    preview = terminal_table("", headers, rows)
    if len(predictions) > MAX_CONSOLE_ROWS:
        preview.caption = f"first {MAX_CONSOLE_ROWS} of {len(predictions):,} rows; --out FILE writes all"
    console.print(preview)
    labels = predictions.labels[predictions.has_prediction].tolist()
    counts = {f"{c} {name}": labels.count(c) for c, name in enumerate(predictions.class_names)}
    counts["out of distribution"] = int(predictions.is_ood.sum())
    count_rows = [[name, f"{n:,}", f"{n / max(len(labels), 1):.1%}"] for name, n in counts.items()]
    console.print(terminal_table("", ("class", "cells", "share"), count_rows, numeric=("cells", "share")))


def _summary_lines(predictions: Predictions, *, with_counts: bool) -> Iterator[str]:
    """Yield what the command prints beside the table: cells per class, the notes, and how many rows have no prediction."""
    from nephros.text_tables import pluralize

    if with_counts:
        labels = predictions.labels.tolist()
        counts = [(labels.count(c), name) for c, name in enumerate(predictions.class_names)]
        parts = [f"{n:,} {name}" for n, name in sorted(counts, key=lambda count: -count[0]) if n]
        parts.append(f"{predictions.is_ood.sum():,} out of distribution")
        yield f"{pluralize(sum(n for n, _ in counts), 'cell')}: {'; '.join(parts)}"
    yield from (f"note: {note}" for note in predictions.notes)
    if predictions.errors:
        first_error = next(iter(predictions.errors.values()))
        more = f" (and {len(predictions.errors) - 1:,} more)" if len(predictions.errors) > 1 else ""
        yield f"no prediction for {len(predictions.errors):,} of {len(predictions):,} rows: {first_error}{more}"


@contextlib.contextmanager
def _exit_on_broken_pipe() -> Iterator[None]:
    """Within the block, a reader of the output that stops early, such as `head`, ends the command without an error."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
