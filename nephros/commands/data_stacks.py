"""nephros data prepare and data overlay."""

from __future__ import annotations

from nephros.commands.parser import Flags
from nephros.errors import UserError


def prepare(words: list[str]) -> int:
    """nephros data prepare"""
    flags = Flags(
        "data prepare",
        "Cut the nuclei out of a 3-D fluorescence stack, as TissueMNIST's were: 32x32x7 voxels around each centroid, "
        "maximum over the slices, 28x28 pixels, 8 bits. Writes FILE.npz for `nephros predict`, FILE.csv with centroids "
        "and volumes, and FILE.json with how it was done. Crops are resampled to the training data's voxel size, so the "
        "stack's own must be known. One pair of pixel values becomes 0 and 255 in the whole stack: unless given, black is a "
        "percentile and white is found so that mean and deviation come near TissueMNIST's. A crop that reaches beyond the "
        "stack is black there; the table's column border names such nuclei and those that the stack's edge cuts, and "
        "--drop-border leaves them out. Example: nephros data prepare kidney.ome.tif --channel 0 --labels nuclei.tif --out "
        "cells.npz",
    )
    flags.add_argument("stack", metavar="STACK", help="TIFF, OME-TIFF or .npy; a multi-page TIFF's pages are slices")
    flags.value(
        "labels",
        "TIFF or .npy of the same size: 0 outside, and each nucleus its own whole number "
        "(default: mark them here, roughly, by threshold and watershed)",
        shown="MASK",
    )
    flags.needed("out", "where the pictures go", "FILE.npz")
    flags.value("channel", "the nuclei's, from 0; needed where there are several", int)
    flags.value("voxel-size", "micrometres; needed where the file's OME or ImageJ metadata have none", shown="Z,Y,X")
    flags.value(
        "training-voxel-size",
        "what crops are resampled to (default: 1,0.5,0.5, assumed of the training data: its makers' figure could not be found)",
        shown="Z,Y,X",
    )
    flags.switch("no-resample", "take the stack's voxels as they are")
    flags.value("black", "pixel value that becomes 0 (default: found)", float, "VALUE")
    flags.value("white", "pixel value that becomes 255 (default: found)", float, "VALUE")
    flags.value("percentiles", "of the stack's pixels, instead of the two", shown="LOW,HIGH")
    flags.switch("drop-border", "leave border nuclei out")
    flags.value(
        "classes",
        "columns id and class: FILE.npz then has train, val and test too, for `nephros train --data FILE.npz`",
        shown="CSV",
    )
    flags.value("seed", "of that split, 7:1:2 by class (default: 0)", int)
    given = flags.read(words)
    from nephros.microscopy.voxel_size import parse as sizes
    from nephros.reporting.preparation_summary import show
    from nephros.workflows.prepare import prepare as job

    for name in ("voxel_size", "training_voxel_size"):
        if name in given:
            given[name] = sizes(f"--{name.replace('_', '-')}", given[name])
    if "percentiles" in given:
        if "black" in given or "white" in given:
            raise UserError("--percentiles and --black or --white were both given: choose one way.")
        given["percentiles"] = _percentiles(given["percentiles"])
    if given.get("seed", 0) < 0:
        raise UserError(f"--seed is {given['seed']}, but it must be a whole number of at least 0.")
    given["resample"] = not given.pop("no_resample", False)
    made = job(given.pop("stack"), given.pop("out"), **given)
    show(made.about, made.paths)
    return 0


def _percentiles(written: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in written.split(","))
    except ValueError:
        low, high = -1.0, -1.0
    if not 0 <= low < high <= 100:
        raise UserError(f"--percentiles is {written}, but it must be two rising numbers from 0 to 100, such as 1,99.8.")
    return low, high


def overlay(words: list[str]) -> int:
    """nephros data overlay"""
    flags = Flags(
        "data overlay",
        "Paint the classes that `nephros predict` found over the stack that `nephros data prepare` cut the nuclei from: its "
        "maximum over slices, with a legend that counts the classes. Unfamiliar nuclei are hatched and outlined in grey.",
    )
    flags.add_argument("notes", metavar="FILE.json", help="that `nephros data prepare` wrote")
    flags.needed("predictions", "that `nephros predict` wrote for FILE.npz", "CSV")
    flags.needed("out", "a .png or .tif file", "PICTURE")
    given = flags.read(words)
    from nephros.workflows.overlay import overlay as job

    print(job(given["notes"], given["predictions"], given["out"]))
    return 0
