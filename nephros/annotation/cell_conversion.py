"""How the images of a project become cells: by one white level and one channel, which the runs that are trained on them keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from nephros.annotation.project_file import CellFile, ProjectInfo
from nephros.data.images.color import plane_number
from nephros.errors import InvalidArgument
from nephros.text_tables import join_words

_ADVICE = "A model has one rule for its images: make another project for these."


@dataclasses.dataclass(frozen=True)
class UsedLevels:
    """What images and stacks were converted with."""

    white_levels: Mapping[str, float]
    """Type of pixels of more than 8 bits, such as 16-bit -> value that became 255 in images."""
    stack_levels: Sequence[tuple[float, float]]
    """What became 0 and 255 in each stack of more than 8 bits."""
    channel: int | None
    """Plane that was taken from images of several; None where none was chosen."""


def check_white_level(info: ProjectInfo, white_level: float | None) -> None:
    """Raise InvalidArgument for a white level that is not that of the project's cells; None is theirs."""
    if white_level is not None and info.white_level not in (None, white_level):
        raise InvalidArgument(
            "white_level", f"{white_level:g}", f"{info.white_level:g}, as for the cells in the project", hint=_ADVICE
        )


def check_same_reading(file: CellFile, channel: int | str | None, white_level: float | None) -> None:
    """Raise InvalidArgument where a file that is in the project would be read otherwise, whose cells stay as they are."""
    former_channel, new_channel = plane_number(file.channel), plane_number(channel)
    for parameter, value, former in (
        ("channel", new_channel, former_channel),
        ("white_level", white_level, file.white_level),
    ):
        if value is not None and value != former:
            was_added = "without it" if former is None else f"with {former:g}"
            raise InvalidArgument(
                parameter, value, f"left out for {file.path}, which was added {was_added}", hint=_ADVICE
            )


def with_levels(info: ProjectInfo, used: UsedLevels, white_level: float | None) -> tuple[ProjectInfo, tuple[str, ...]]:
    """Return what project.json says after cells were converted, and notes.

    Args:
        info: what it says before.
        used: with what they were converted.
        white_level: that the user gave, for stacks too; None left that of each stack to be fitted.

    Raises:
        InvalidArgument: another plane was chosen than for the cells in the project.
    """
    if used.channel is not None:
        if info.channel not in (None, used.channel):
            raise InvalidArgument(
                "channel", used.channel, f"{info.channel}, as for the images in the project", hint=_ADVICE
            )
        conversion = dataclasses.replace(info.conversion, channel=used.channel)
        info = dataclasses.replace(info, conversion=conversion, channel=used.channel)
    if info.white_level is not None:
        return info, ()
    levels = sorted(set(used.white_levels.values()))
    if len(levels) > 1:
        kinds = join_words(f"{level:g} ({kind})" for kind, level in used.white_levels.items())
        return info, (
            f"images of different types of pixels have different white levels, {kinds}, so that a model that is trained here has "
            "none: give `white_level` to predict",
        )
    if levels:
        level, conversion = levels[0], info.conversion
        if conversion.white_level != level:
            conversion = conversion.override(level)
        return dataclasses.replace(info, conversion=conversion, white_level=level), ()
    if white_level is not None and used.stack_levels:
        black_level = float(np.mean([black for black, _ in used.stack_levels]))
        conversion = dataclasses.replace(
            info.conversion, white_level=white_level, black_level=black_level, fits_stacks=False
        )
        return dataclasses.replace(info, conversion=conversion, white_level=white_level), ()
    return info, ()
