"""An option that a command doesn't have leads to the one that is meant, or to the command that has it, and to no other."""

from __future__ import annotations

import pytest

from nephros.commands.registry import all_commands
from nephros.commands.unknown_options import options_of_command, unknown_option_message
from tests.command_line import Capture, assert_usage_error


@pytest.mark.parametrize("command", all_commands())
def test_each_command_tells_its_options_without_being_run(command: str, capsys: Capture) -> None:
    assert "--help" in options_of_command(command)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["finetune", "K4.tif", "--labels", "labels.csv"], "Did you mean '--classes'?"),
        (["data", "prepare", "K4.tif", "--out", "a.npz", "--labels=labels.csv"], "Did you mean '--classes'?"),
        (["predict", "K4.tif", "--labels", "K4_mask.tif"], "Did you mean '--mask'?"),
        (["predict", "K4.tif", "--target-voxel-size", "1,0.25,0.25"], "it is an option of `nephros data prepare`."),
        (["predict", "K4.tif", "--target_voxel_size", "1,0.25,0.25"], "it is an option of `nephros data prepare`."),
        (["predict", "K4.tif", "--black-level", "3"], "it is an option of `nephros data prepare`."),
        (["predict", "K4.tif", "--optimizer.lr", "3"], "it is an option of `nephros train`."),
        (["data", "info", "cells", "--mask", "m.tif"], "`nephros finetune`, `nephros predict`, `nephros annotate` and others."),
        (["predict", "K4.tif", "--voxel-sise", "1,1,1"], "Did you mean '--voxel-size'?"),
    ],
)  # fmt: skip
def test_the_right_option_or_command_is_named(args: list[str], expected: str, capsys: Capture) -> None:
    assert_usage_error(args, capsys, expected)


def test_what_no_command_has_is_only_named() -> None:
    assert unknown_option_message("--quux", ["--out"]) == "Unknown option '--quux'."
    assert unknown_option_message("more", ["--out"]) == "'more' is one argument too many."
    assert unknown_option_message("--optimizer", ["--out"]) == "Unknown option '--optimizer'."  # a group of fields
