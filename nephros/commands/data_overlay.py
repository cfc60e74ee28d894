"""nephros data overlay."""

from __future__ import annotations

from nephros.commands.messages import print_path
from nephros.commands.parser import CommandParser


def data_overlay(argv: list[str]) -> int:
    """nephros data overlay"""
    parser = CommandParser(
        "data overlay",
        "Paint the classes that `nephros predict` predicted over the maximum projection of the stack that `nephros data prepare` "
        "cropped the nuclei from, with a legend that counts the classes. Nuclei that are out of distribution are hatched and "
        "outlined in gray.",
    )
    parser.add_argument("metadata_path", metavar="METADATA.json", help="file that `nephros data prepare` wrote")
    parser.required_option("predictions", "file that `nephros predict` wrote for FILE.npz", "CSV")
    parser.required_option("out", "the image to write, .png or .tif", "IMAGE")
    args = parser.parse_argv(argv)
    from nephros.workflows.overlay import overlay

    print_path(overlay(**args))
    return 0
