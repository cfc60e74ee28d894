"""Text from outside as it reaches terminals and CSV files."""

from __future__ import annotations

import csv
import io
import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.table import Table

from nephros.cli import main
from nephros.commands.evaluate import _print_metrics
from nephros.commands.messages import library_messages
from nephros.console import TextConsole, table_console
from nephros.data.dataset import Dataset
from nephros.escaping import (
    command_without_folders,
    escape_for_csv,
    escape_for_terminal,
    may_need_csv_escape,
    unescape_from_csv,
    without_folders,
)
from nephros.evaluation.metrics import compute_metrics
from nephros.text_tables import csv_table
from tests.conftest import write_npz

Capture = pytest.CaptureFixture[str]
NAMES = ("[/red]", "[proximal]", "[bold]x[/bold]", ":cat: \x1b[2J\u202e")
SHOWN = ("[/red]", "[proximal]", "[bold]x[/bold]", r":cat: \u001b[2J\u202e")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Größe 5 µm, 2 m².png", "Größe 5 µm, 2 m².png"),
        ("no-break\u202fspace", "no-break\u202fspace"),
        ("a\nnephros: done", r"a\nnephros: done"),
        ("a\r\tb", r"a\r\tb"),
        ("\x1b]0;title\x07", r"\u001b]0;title\u0007"),
        ("\x9b31m", r"\u009b31m"),
        ("\u2028\u202e\u200b", r"\u2028\u202e\u200b"),
        ("\udcff\x00", r"\udcff\u0000"),
        ("\U000e0041", r"\udb40\udc41"),
    ],
)
def test_what_a_terminal_obeys_becomes_an_escape(text: str, expected: str) -> None:
    assert escape_for_terminal(text) == expected
    assert json.loads(f'"{escape_for_terminal(text)}"') == text


@pytest.mark.parametrize(
    "text",
    [
        "=1",
        "+a",
        "-a",
        "@a",
        "\t=1",
        "\n=1",
        " =1",
        "'=1",
        "''-a",
        "a\t=1",
        "a; @b",
        "a;'=1",
        "\uff1d1",
        "\uff20a",
        "=",
        "--",
    ],
)
def test_a_formula_in_a_csv_cell_becomes_text_and_can_be_read_back(text: str) -> None:
    escaped = escape_for_csv(text)
    assert escaped != text
    assert unescape_from_csv(escaped) == text
    assert may_need_csv_escape(["a.png", text, "b.png"])


@pytest.mark.parametrize("value", ["a=b", "a-b, c", "-0.5", "+1e-5", "-", "", "'quoted'", "5 %", None, -1, 0.5, True])
def test_other_csv_cells_stay_as_they_are(value: object) -> None:
    assert escape_for_csv(value) == value


def test_many_texts_are_known_to_need_no_escape() -> None:
    assert not may_need_csv_escape(["a=b", "a-b, c", "", "", "'quoted'", "5 %", "/data/cell-1.png", "\u00b5m"])
    assert not may_need_csv_escape([])
    assert may_need_csv_escape(["a", "\udce9.png"])


def test_csv_tables_hold_no_formulas() -> None:
    text = csv_table(["method", "gain"], [["=HYPERLINK(0)", "-0.5"], ["`@run`", "+3"]])
    assert list(csv.reader(io.StringIO(text)))[1:] == [["'=HYPERLINK(0)", "-0.5"], ["'@run", "+3"]]


def test_strings_in_tables_are_no_markup(capsys: Capture) -> None:
    console = table_console()
    assert isinstance(console, TextConsole)
    table = Table("[/red]", title="[/title] \x1b[2J")
    table.add_row("[/red] [proximal] :cat:\n\x1b[31m")
    console.print(table)
    console.print("line [/red] \x9b")
    output = capsys.readouterr().out
    for part in ("[/red] [proximal] :cat:" + r"\n\u001b[31m", r"[/title] \u001b[2J", r"line [/red] \u009b"):
        assert part in output


def test_class_names_are_printed_as_they_are(tiny_dataset: Dataset, tmp_path: Path, capsys: Capture) -> None:
    path = write_npz(tmp_path / "[bold] cells.npz", tiny_dataset)
    with np.load(path) as arrays:
        np.savez(path, class_names=np.array(NAMES), **arrays)
    with pytest.raises(SystemExit) as caught:
        main(["data", "info", str(path)])
    output = capsys.readouterr().out
    assert not caught.value.code
    assert all(name in output for name in (*SHOWN, "[bold] cells.npz"))
    labels = tiny_dataset.val.labels
    probabilities = (labels[:, None] == range(4)) * 0.8 + 0.05
    metrics = compute_metrics(probabilities, labels, NAMES)
    _print_metrics(replace(metrics, provenance={"title": "[/red]\n\x1b[2J"}))
    output = capsys.readouterr().out
    assert all(name in output for name in (*SHOWN, r"[/red]\n\u001b[2J"))


@pytest.mark.parametrize(
    "argv",
    [
        ["train", "--data", "a\nb\x1b[31m.npz"],
        ["report", "\x1b[31m\nrun"],
        ["no\n\x9bcommand"],
        ["predict", "--mo\n\x1bdel=1"],
    ],
)
def test_errors_are_one_line_without_escape_sequences(argv: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.endswith("\n")
    assert error[:-1].isprintable()


def test_log_lines_are_one_line_without_escape_sequences(capsys: Capture) -> None:
    with library_messages(logging.INFO):
        logging.getLogger("nephros.x").warning("%s is odd", "a\nwarning: \x1b[31m")
    assert capsys.readouterr().err == r"warning: a\nwarning: \u001b[31m is odd" + "\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/jane/x.npz can't be read: see /tmp/a/b.", "x.npz can't be read: see b."),
        ("The file '/home/Jane Doe/x y.npz' is damaged", "The file 'x y.npz' is damaged"),
        ("`nephros.resume('/home/jane/runs/a')`", "`nephros.resume('a')`"),
        (r"C:\Users\Jane\x.npz, C:/Users/Jane/y.npz", "x.npz, y.npz"),
        (r"\\server\share\jane\x.npz", "x.npz"),
        ("in:/home/jane/x, file:///home/jane/y", "in:x, y"),
        (
            "train/val and or https://doi.org/10.1/x, s3://bucket/x",
            "train/val and or https://doi.org/10.1/x, s3://bucket/x",
        ),
        ("a / b", "a / b"),
        ("runs/a and ../runs/b", "runs/a and ../runs/b"),
    ],
)
def test_sentences_lose_the_folders_of_absolute_paths_only(text: str, expected: str) -> None:
    assert without_folders(text) == expected


def test_known_paths_may_have_spaces() -> None:
    text = "/home/Jane Doe/cells/a.png is gray, unlike the rest of /home/Jane Doe/cells; see /home/Jane Doe/notes"
    assert without_folders(text, ["/home/Jane Doe/cells", "", None]) == (
        "cells/a.png is gray, unlike the rest of cells; see notes"
    )


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("nephros train --data=/home/j/x.npz --teachers /a/b,/c/d", "nephros train --data=x.npz --teachers b,d"),
        ("nephros train --out '/home/Jane Doe/my run' --lr 0.1", "nephros train --out 'my run' --lr 0.1"),
        ("nephros train ../../home/jane/x.npz --out runs/a", "nephros train x.npz --out runs/a"),
        ("nephros tune --storage sqlite:////home/j/s.db", "nephros tune --storage s.db"),
        ("nephros tune --storage postgresql://u@host/db", "nephros tune --storage postgresql://u@host/db"),
        ("nephros train it's /home/j/x", "nephros train it's x"),
        ("", ""),
    ],
)
def test_commands_lose_the_folders_of_absolute_paths(command: str, expected: str) -> None:
    assert command_without_folders(command) == expected
