"""nephros data get."""

from __future__ import annotations

from nephros.commands.messages import print_path
from nephros.commands.parser import CommandParser


def data_get(argv: list[str]) -> int:
    """nephros data get"""
    parser = CommandParser(
        "data get",
        "Download a MedMNIST data set to the cache folder, and verify its MD5 checksum. An interrupted download resumes.",
    )
    parser.add_argument("name", help="a MedMNIST name, such as tissuemnist")
    parser.option("size", "pixels per side: 28, 64, 128 or 224 (default: 28)", int)
    args = parser.parse_argv(argv)
    from nephros.data.download import download, show_download_progress

    with show_download_progress(args["name"]) as progress:
        path = download(args["name"], args.get("size") or 28, progress=progress)
    print_path(path)
    return 0
