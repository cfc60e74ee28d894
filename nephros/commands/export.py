"""nephros export."""

from __future__ import annotations

from nephros.commands.messages import print_path
from nephros.commands.parser import MOVED_DATA_HELP, RUN_HELP, CommandParser
from nephros.errors import NephrosError


def export(argv: list[str]) -> int:
    """nephros export"""
    parser = CommandParser(
        "export",
        "Write a trained run to one file that predicts without the run's folder: preprocessing, network and calibration, with "
        "the model card inside and beside it (.card.json, and .card.md to read).\n\n"
        "The run's data must be available: out-of-distribution detection is fitted on the train split, calibration and "
        "prediction sets on validation and, for a fine-tuned run, on its predictions in cross-validation. The test split is not "
        "read.",
    )
    parser.add_argument("run", help=RUN_HELP)
    parser.option(
        "format", "onnx, for `nephros predict` and any ONNX runtime, or safetensors, for torch (default: onnx)"
    )
    parser.option("out", "the file (default: model.onnx or model.safetensors in RUN/export)", metavar="FILE")
    parser.option("data", MOVED_DATA_HELP)
    parser.flag(
        "int8",
        "quantize the convolutions to eight bits, two to three times as fast where the processor has instructions for that, "
        "and report the drop in accuracy",
    )
    parser.option(
        "tta-views",
        "views of an image over which the network in the file averages, for other programs: 1, 5 (shifts by a pixel), 8 (flips "
        "and quarter-turns) or 40 (both); `nephros predict --tta` does so with any file (default: 1, or as in the run for a "
        "fine-tuned one)",
        int,
    )
    parser.flag("force", "export also a run that is no better than always predicting the largest class")
    parser.flag("update-bundled-model", "for developers: make this run the bundled model of its recipe's name")
    args = parser.parse_argv(argv)
    from nephros.exporters import export as export_module

    if args.pop("update_bundled_model", False):
        if set(args) - {"run", "tta_views"}:
            raise NephrosError(
                "--update-bundled-model writes all formats to their place: omit --format, --out, --data and --int8."
            )
        print_path(export_module.update_bundled_model(args.pop("run"), **args))
        return 0
    print_path(export_module.export(args.pop("run"), **args))
    return 0
