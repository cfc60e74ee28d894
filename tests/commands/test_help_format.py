"""The help of every command: plain types, a short usage line, examples in one piece."""

from __future__ import annotations

import re

import pytest

from nephros import cli
from nephros.commands.help_format import MAX_USAGE_OPTIONS
from nephros.commands.registry import COMMANDS

Capture = pytest.CaptureFixture[str]


def _help(command: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as exit_info:
        cli.main([*command.split(), "--help"])
    assert exit_info.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "data"])
def test_help_is_plain(command: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    text = _help(command, capsys, monkeypatch)
    assert not re.search(r"\(type:|Literal\[|tuple\[|: null|SUPPRESS", text), text
    usage = text.split("\n\n")[0]
    assert len(usage.splitlines()) <= 4
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert usage.count("--") <= MAX_USAGE_OPTIONS
    for name in re.findall(r"^  ([^-\s]\S*)", text.partition("positional arguments:")[2].partition("\n\n")[0], re.M):
        assert name.isupper() or name == "METADATA.json", f"{name} is no placeholder"


def test_usage_names_required_options(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = _help("data prepare", capsys, monkeypatch).splitlines()[0]
    assert usage == "usage: nephros data prepare STACK [STACK ...] --out FILE.npz [OPTION ...]"


def test_examples_and_options_stay_in_one_piece(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    text = _help("data prepare", capsys, monkeypatch)
    assert "  nephros data prepare kidney.ome.tif --channel 0 --mask nuclei.tif --out cells.npz\n" in text
    assert not re.search(r"--\w+-\n", text)


def test_recipe_fields_show_what_a_file_gets_that_leaves_them_out(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = " ".join(_help("train", capsys, monkeypatch).split())
    for expected in (
        "--batch_size N Images per step [128]",
        "torch.compile; pays off on GPUs [false]",
        "[val_accuracy]",
    ):
        assert expected in words


def test_help_of_data_lists_its_commands(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    text = _help("data", capsys, monkeypatch)
    for name in ("info", "get", "prepare", "overlay"):
        assert f"data {name} " in text
