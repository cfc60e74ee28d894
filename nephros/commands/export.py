"""nephros export."""

from __future__ import annotations

from nephros.commands.messages import print_path
from nephros.commands.parser import RUN_HELP, CommandParser
from nephros.errors import NephrosError


def export(argv: list[str]) -> int:
    """nephros export"""
    parser = CommandParser(
        "export",
        "Write a trained run as one file that predicts without its run folder: preprocessing and network, calibrated on "
        "validation, with the model card inside and beside it (.card.json, and .card.md as a page). The run's data must be "
        "available: out-of-distribution detection is fitted on its train split, temperature and prediction sets on validation; "
        "the test split is not read.",
    )
    parser.add_argument("run", help=RUN_HELP)
    parser.option(
        "format", "onnx (for `nephros predict` and any ONNX runtime) or safetensors (for torch) (default: onnx)"
    )
    parser.option("out", "the file (default: RUN/export/model.onnx or the like)", metavar="FILE")
    parser.flag("int8", "quantize the convolutions to eight bits, and report the drop in accuracy")
    parser.option(
        "tta-views",
        "test-time views: 5 averages over an image and its shifts by a pixel, 8 over flips and quarter turns, 40 over both "
        "(default: as in the run)",
        int,
    )
    parser.flag("update-bundled-model", "for developers: make this run the bundled model")
    args = parser.parse_argv(argv)
    from nephros.exporters import export as export_module

    if args.pop("update_bundled_model", False):
        if set(args) - {"run", "tta_views"}:
            raise NephrosError(
                "--update-bundled-model writes all formats to their place: omit --format, --out and --int8."
            )
        print_path(export_module.update_bundled_model(args.pop("run"), **args))
        return 0
    print_path(export_module.export(args.pop("run"), **args))
    return 0
