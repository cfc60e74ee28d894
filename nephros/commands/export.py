"""nephros export."""

from __future__ import annotations

from nephros.commands.parser import RUN, Flags
from nephros.errors import UserError


def export(words: list[str]) -> int:
    """nephros export"""
    flags = Flags(
        "export",
        "Write a trained run as one file that answers without its run folder: preprocessing and network, calibrated on "
        "validation, with its model card inside and beside it (.card.json, and .card.md for "
        "people). The run's data must be at hand: what a familiar cell looks "
        "like is fitted on its train split, temperature and prediction sets on validation; the test split is not read.",
    )
    flags.add_argument("run", help=RUN)
    flags.value("to", "onnx (for `nephros predict` and any ONNX runtime) or safetensors (for torch) (default: onnx)")
    flags.value("out", "the file (default: RUN/export/model.onnx or the like)", shown="FILE")
    flags.switch("int8", "convolutions in eight bits; prints the accuracy that it costs")
    flags.value(
        "views",
        "5 averages over an image and its shifts by a pixel, 8 over flips and quarter-turns, 40 over both (default: as the run)",
        int,
    )
    flags.switch("box", "for developers: make it the model that comes with nephros")
    given = flags.read(words)
    from nephros.exporters import export as job

    if given.pop("box", False):
        if set(given) - {"run", "views"}:
            raise UserError("--box writes all formats in their place: leave --to, --out and --int8 out.")
        print(job.fill_box(given.pop("run"), **given))
        return 0
    print(job.export(given.pop("run"), **given))
    return 0
