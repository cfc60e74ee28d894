"""nephros annotate."""

from __future__ import annotations

from nephros.commands.parser import MASK_HELP, MODEL_HELP, SEGMENT_HELP, STITCH_HELP, CommandParser, parse_numbers
from nephros.commands.serve import add_address_options, exit_on_sigterm, require_serve_extra
from nephros.commands.stack_options import add_stack_options
from nephros.errors import NephrosError

EPILOG = """\
Open the printed address in a browser: keys 1 to 9 label, the cells are sorted again after each label, and 'Fine-tune' trains a
network on the labels. Everything is in the folder, and each label is on disk before the page shows it as saved; Ctrl-C, or a
power failure, loses none. Continue with the same command, or without DATA:

  nephros annotate kidney/ K4.tif --mask K4_mask.tif
  nephros annotate kidney/

DATA are npz files, images of single cells, folders of them, or 3-D stacks, whose nuclei are cut out by --mask or segmented
(--segment). What the project has already is not added twice.

Labels as files, for a spreadsheet, QuPath, or `nephros train` and `nephros finetune`, and back:

  nephros annotate kidney/ --export labels.csv       (or .geojson, .npz)
  nephros annotate kidney/ --labels labels.csv --annotator Ann

For research only, not for diagnosis."""


def annotate(argv: list[str]) -> int:
    """nephros annotate"""
    parser = CommandParser(
        "annotate",
        "Label cells in a browser, with a model that learns from each label and shows the cells that it is least sure of. The "
        "folder PROJECT, which is created if needed, keeps cells, labels and fine-tuned models.",
        epilog=EPILOG,
    )
    parser.add_argument("project", metavar="PROJECT", help="folder of the project")
    parser.add_argument("data", nargs="*", metavar="DATA", help="npz files, images, stacks, or folders of them, to add")
    parser.option("name", "name of a new project (default: that of its folder)")
    parser.option("model", f"for a new project, the model whose features it learns from: {MODEL_HELP}", metavar="M")
    parser.option("mask", f"for stacks: {MASK_HELP}", metavar="MASK")
    parser.option("stitch-threshold", f"for stacks: {STITCH_HELP}", float, "SHARE")
    parser.option("segment", f"for stacks: {SEGMENT_HELP}", metavar="NAME")
    add_stack_options(parser)
    parser.option(
        "white-level",
        "pixel value that becomes 255 in images of more than 8 bits, which the project and its models keep (default: that of the "
        "model's training images, else the brightest pixel of the first DATA)",
        float,
    )
    parser.option(
        "labels",
        "import labels: a CSV table as --export writes it, or with the columns id (in the mask) and class of nuclei, or file and "
        "label; QuPath's GeoJSON; or an npz file of labeled images",
        metavar="FILE",
    )
    parser.option(
        "annotator",
        "whose labels --labels imports or --export writes (default: the table's column annotator, and everyone's latest)",
        metavar="NAME",
    )
    parser.option(
        "export", "write the labels to a .csv, .geojson or .npz file, and exit without a page", metavar="FILE"
    )
    parser.flag("no-serve", "only add cells and labels, and exit")
    add_address_options(parser)
    options = parser.parse_argv(argv)
    if "voxel_size" in options:
        options["voxel_size"] = parse_numbers(
            "voxel_size", options["voxel_size"], 3, "Z,Y,X in micrometers, such as 1,0.5,0.5"
        )
    options["serve"] = not options.pop("no_serve", False)
    if not options["serve"] and "export" not in options and not options.get("data") and "labels" not in options:
        raise NephrosError("--no-serve leaves nothing to do: name DATA or --labels, or leave it out.")
    with exit_on_sigterm():
        from nephros.workflows.annotate import annotate as run_annotation

        if options["serve"] and "export" not in options:
            with require_serve_extra():
                import nephros.workflows.serve  # noqa: F401  # before cells are cut out, which may take long
        run_annotation(options.pop("project"), options.pop("data", None) or [], **options)
    return 0
