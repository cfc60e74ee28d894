"""What `nephros export` and `nephros predict` parse and call."""

from __future__ import annotations

from argparse import SUPPRESS

from nephros.commands import make_parser, parse


def export(words: list[str]) -> int:
    """nephros export"""
    parser = make_parser(
        "export",
        "Write a trained run as one file that answers without its run folder: preprocessing and network, calibrated on "
        "validation, with its model card inside and beside it. The run's data must be at hand: what a familiar cell looks "
        "like is fitted on its train split, temperature and prediction sets on validation; the test split is not read.",
    )
    parser.add_argument("run", help="a folder that `nephros train` made")
    parser.add_argument(
        "--to",
        type=str,
        default=SUPPRESS,
        help="onnx (for `nephros predict` and any ONNX runtime) or safetensors (for torch) (default: onnx)",
    )
    parser.add_argument(
        "--out", type=str, default=SUPPRESS, metavar="FILE", help="the file (default: RUN/export/model.onnx or the like)"
    )
    parser.add_argument(
        "--int8", action="store_true", default=SUPPRESS, help="convolutions in eight bits; prints the accuracy that it costs"
    )
    parser.add_argument(
        "--views", type=int, default=SUPPRESS, help="8 averages over an image's flips and quarter-turns (default: 1)"
    )
    parser.add_argument(
        "--box", action="store_true", default=SUPPRESS, help="for developers: make it the model that comes with nephros"
    )
    given = parse(parser, words).as_dict()
    from nephros.serving import export as job

    if given.pop("box", False):
        if set(given) - {"run", "views"}:
            from nephros.errors import UserError

            raise UserError("--box writes all formats in their place: leave --to, --out and --int8 out.")
        print(job.fill_box(given.pop("run"), **given))
        return 0
    print(job.export(given.pop("run"), **given))
    return 0


def predict(words: list[str]) -> int:
    """nephros predict"""
    raise NotImplementedError
