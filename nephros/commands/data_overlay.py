"""nephros data overlay."""

from __future__ import annotations

from nephros.commands.messages import print_path
from nephros.commands.parser import CommandParser


def data_overlay(argv: list[str]) -> int:
    """nephros data overlay"""
    parser = CommandParser(
        "data overlay",
        "Paint predicted classes over the maximum projection of the stack that the nuclei came from, with a legend that counts "
        "them. Nuclei that are out of distribution are hatched and outlined in gray.\n\n"
        "Example, after `nephros data prepare kidney.ome.tif --out cells.npz`:\n\n"
        "  nephros predict cells.npz --out predictions.csv\n"
        "  nephros data overlay cells.json --predictions predictions.csv --out tissue.png",
    )
    parser.add_argument(
        "metadata_path", metavar="METADATA.json", help="metadata that `nephros data prepare` wrote beside the npz file"
    )
    parser.required_option("predictions", "table that `nephros predict` wrote for the npz file", "CSV")
    parser.required_option("out", "the image to write, .png or .tif", "IMAGE")
    args = parser.parse_argv(argv)
    from nephros.workflows.overlay import overlay

    print_path(overlay(**args))
    return 0
