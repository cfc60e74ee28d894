"""Conventions of the code: what is public, what the library says to users, what things are called, how long files are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import nephros
from tools.file_stats import LONG, count_lines, python_files

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nephros"

COMMAND_LINE = ("cli.py", "commands")
"""Files and folders of the package that belong to the command line, and so may name options."""

WRITES_COMMANDS = (
    "experiments/plans.py",
    "experiments/transfer.py",
    "reporting/reproduction.py",
    "reporting/run/next_steps.py",
    "reporting/run/text.py",
    "reporting/study/text.py",
    "workflows/reproduce.py",
)
"""Files that write whole commands into runs, tables and pages, for people to copy."""

OTHER_OPTIONS = (
    "annotation/job_commands.py",
    "annotation/jobs.py",
    "distributed.py",
    "environment.py",
    "reporting/html.py",
)
"""Files with options of torchrun and git, or CSS variables."""

OPTION = re.compile(r"(?<![\w-])--[a-z]")

FORMER_NAMES = """
    Answer Answers Bench BrokenOff Busy Compared Diverged Drawings Engine Fate FieldMeans Finished Flags Guard Held Here Idle
    Known Listener Lost Packaged Ranks Refused Shown Spending Standing Taught Trouble Unread UserError Wishes
    ALONE DEATHS FEWEST_TAPS MOST SIGN WAIT
    apart begun check_fit check_parts classic coming decay_all doubts early_stop fill_box fit_ranges followed fresh_model
    hangs heir joined judge judged_weights laid_over made_up part_of_mean picked quotas rest_lr rival seeded shape_of
    standings targets_of taught_by teach_network teacher_share tidy turned turning typed undone
    _again _ahead _beside _go _held _hire _judged _part _Pen _slide _some _stillborn _turn
    analyse behaviour catalogue centre colour grey initialise neighbour neighbours normalise optimiser recognise summarise
"""
"""Identifiers that were replaced by the field's terms, where the old word can mean nothing else here, and British spellings."""

NAME_FIELDS = {
    ast.Name: ("id",),
    ast.Attribute: ("attr",),
    **dict.fromkeys((ast.arg, ast.keyword), ("arg",)),
    **dict.fromkeys((ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.alias, ast.ExceptHandler), ("name",)),
}
VAGUE_NAMES = "asked found held made needed one own said seen shown some told wanted"
"""Words that say nothing of what a value is."""


def _package_files() -> list[Path]:
    return python_files(PACKAGE)


def test_every_public_name_can_be_imported() -> None:
    assert dir(nephros) == sorted(nephros.__all__)
    assert all(getattr(nephros, name) is not None for name in nephros.__all__)
    with pytest.raises(AttributeError):
        nephros.nothing  # noqa: B018


def test_the_library_names_parameters_not_options() -> None:
    offenders = []
    for path in _package_files():
        name = path.relative_to(PACKAGE)
        if name.parts[0] not in COMMAND_LINE and str(name) not in WRITES_COMMANDS + OTHER_OPTIONS:
            offenders += [f"{name}: {text}" for text in _string_literals(path) if OPTION.search(text)]
    assert not offenders, "\n".join(offenders)


def _string_literals(path: Path) -> Iterator[str]:
    """Yield the text of a file's string literals that may hold an option, docstrings left out."""
    source = path.read_text(encoding="utf-8")
    if not OPTION.search(source):
        return
    tree = ast.parse(source)
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


@pytest.mark.parametrize(
    ("names", "folders"),
    [(FORMER_NAMES, ("nephros", "tests", "benchmarks", "results")), (VAGUE_NAMES, ("nephros",))],
    ids=["former", "vague"],
)
def test_no_former_or_vague_name_is_left(names: str, folders: tuple[str, ...]) -> None:
    pattern = re.compile(rf"\b({'|'.join(names.split())})\b")
    offenders = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for folder in folders
        for path in python_files(ROOT / folder)
        for name, line in _identifiers(path, pattern)
    ]
    assert not offenders, "\n".join(offenders)


def _identifiers(path: Path, pattern: re.Pattern[str]) -> Iterator[tuple[str, int]]:
    """Yield the names of variables, attributes, parameters, functions and classes that match, each with its line."""
    source = path.read_text(encoding="utf-8")
    if not pattern.search(source):
        return
    for node in ast.walk(ast.parse(source)):
        for field in NAME_FIELDS.get(type(node), ()):
            if pattern.fullmatch(getattr(node, field) or ""):
                yield getattr(node, field), node.lineno  # type: ignore[attr-defined]


def test_no_file_of_the_package_is_too_long() -> None:
    assert not [path for path in _package_files() if count_lines(path) > LONG]
