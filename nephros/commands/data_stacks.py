"""nephros data prepare and data overlay."""

from __future__ import annotations

from nephros.commands.parser import CommandParser
from nephros.errors import NephrosError


def prepare(argv: list[str]) -> int:
    """nephros data prepare"""
    parser = CommandParser(
        "data prepare",
        "Cut the nuclei out of a 3-D fluorescence stack, as TissueMNIST's were: 32x32x7 voxels around each centroid, "
        "maximum over the slices, 28x28 pixels, 8 bits. Writes FILE.npz for `nephros predict`, FILE.csv with centroids "
        "and volumes, and FILE.json with how it was done. Crops are resampled to the training data's voxel size, so the "
        "stack's own must be known. One pair of pixel values becomes 0 and 255 in the whole stack: unless given, black is a "
        "percentile and white is found so that mean and deviation come near TissueMNIST's. A crop that reaches beyond the "
        "stack is black there; the table's column at_border names such nuclei and those that the stack's edge cuts, and "
        "--drop-border leaves them out. Example: nephros data prepare kidney.ome.tif --channel 0 --mask nuclei.tif --out "
        "cells.npz",
    )
    parser.add_argument("stack", metavar="STACK", help="TIFF, OME-TIFF or .npy; a multi-page TIFF's pages are slices")
    parser.option(
        "mask",
        "TIFF or .npy of the same size: 0 outside, and each nucleus its own whole number "
        "(default: mark them here, roughly, by threshold and watershed)",
        metavar="MASK",
    )
    parser.required_option("out", "where the pictures go", "FILE.npz")
    parser.option("channel", "the nuclei's, from 0; needed where there are several", int)
    parser.option(
        "voxel-size", "micrometres; needed where the file's OME or ImageJ metadata have none", metavar="Z,Y,X"
    )
    parser.option(
        "target-voxel-size",
        "what crops are resampled to (default: 1,0.5,0.5, assumed of the training data: its makers' figure could not be found)",
        metavar="Z,Y,X",
    )
    parser.flag("no-resample", "take the stack's voxels as they are")
    parser.option("black-level", "pixel value that becomes 0 (default: found)", float, "VALUE")
    parser.option("white-level", "pixel value that becomes 255 (default: found)", float, "VALUE")
    parser.option("percentiles", "of the stack's pixels, instead of the two", metavar="LOW,HIGH")
    parser.flag("drop-border", "leave border nuclei out")
    parser.option(
        "classes",
        "columns id and class: FILE.npz then has train, val and test too, for `nephros train --data FILE.npz`",
        metavar="CSV",
    )
    parser.option("seed", "of that split, 7:1:2 by class (default: 0)", int)
    args = parser.parse_argv(argv)
    from nephros.microscopy.voxel_size import parse_voxel_size
    from nephros.reporting.preparation_summary import print_prepared
    from nephros.workflows.prepare import prepare as prepare_stack

    for name in ("voxel_size", "target_voxel_size"):
        if name in args:
            args[name] = parse_voxel_size(f"--{name.replace('_', '-')}", args[name])
    if "percentiles" in args:
        if "black_level" in args or "white_level" in args:
            raise NephrosError("--percentiles and --black-level or --white-level were both given: choose one way.")
        args["percentiles"] = _parse_percentiles(args["percentiles"])
    if args.get("seed", 0) < 0:
        raise NephrosError(f"--seed is {args['seed']}, but it must be a whole number of at least 0.")
    args["resample"] = not args.pop("no_resample", False)
    result = prepare_stack(args.pop("stack"), args.pop("out"), **args)
    print_prepared(result.metadata, result.paths)
    return 0


def _parse_percentiles(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = -1.0, -1.0
    if not 0 <= low < high <= 100:
        raise NephrosError(f"--percentiles is {text}, but it must be two rising numbers from 0 to 100, such as 1,99.8.")
    return low, high


def overlay(argv: list[str]) -> int:
    """nephros data overlay"""
    parser = CommandParser(
        "data overlay",
        "Paint the classes that `nephros predict` found over the stack that `nephros data prepare` cut the nuclei from: its "
        "maximum over slices, with a legend that counts the classes. Unfamiliar nuclei are hatched and outlined in grey.",
    )
    parser.add_argument("metadata_path", metavar="METADATA.json", help="that `nephros data prepare` wrote")
    parser.required_option("predictions", "that `nephros predict` wrote for FILE.npz", "CSV")
    parser.required_option("out", "a .png or .tif file", "IMAGE")
    args = parser.parse_argv(argv)
    from nephros.workflows.overlay import overlay as overlay_predictions

    print(overlay_predictions(args["metadata_path"], args["predictions"], args["out"]))
    return 0
