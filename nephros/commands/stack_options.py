"""Options that say how a stack is read, shared by the commands that take stacks among other inputs."""

from __future__ import annotations

from nephros.commands.parser import LEVEL_HELP, CommandParser, index_or_name


def add_stack_options(parser: CommandParser) -> None:
    """Add the options of `nephros.microscopy.stack.StackOptions` that need no mask."""
    parser.option(
        "channel",
        "number (from 0) or name of the channel with the nuclei; required for stacks with several; in color images 0 is red",
        index_or_name,
    )
    add_stack_options_but_channel(parser)


def add_stack_options_but_channel(parser: CommandParser) -> None:
    """Add the options of `add_stack_options` for a command whose channel is also that of images."""
    parser.option("image", "for stacks: number (from 0) or name of the image in files that hold several", index_or_name)
    parser.option(
        "axes", "for stacks: order of the dimensions, such as ZYX for slices saved as channels", metavar="ZCYX"
    )
    parser.option("level", f"for stacks: {LEVEL_HELP}", index_or_name)
    parser.option("time-point", "for stacks: number of the time point, from 0, in a time series", int)
    parser.option(
        "voxel-size",
        "for stacks: in micrometers, at the finest level of a pyramid; required if the file doesn't state it",
        metavar="Z,Y,X",
    )
    parser.option("min-volume", "for stacks: leave out nuclei smaller than this, in cubic micrometers", float, "VOLUME")
