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
    "reporting/reproduction.py",
    "reporting/run/text.py",
    "reporting/study/text.py",
    "workflows/reproduce.py",
)
"""Files that write whole commands into runs, tables and pages, for people to copy."""

OTHER_OPTIONS = ("distributed.py", "environment.py", "reporting/html.py")
"""Files with options of torchrun and git, or CSS variables."""

OPTION = re.compile(r"(?<![\w-])--[a-z]")

FORMER_NAMES = """
    Answers Drawings FieldMeans Packaged Taught UserError Wishes ALONE DEATHS FEWEST_TAPS
    begun check_fit check_parts colour decay_all doubts early_stop fill_box fit_ranges fresh_model grey heir judge
    judged_weights laid_over neighbours normalise optimiser part_of_mean rest_lr shape_of standings summarise targets_of
    taught_by teach_network teacher_share undone
"""
"""Identifiers that were replaced by the field's terms, where the old word can mean nothing else here."""


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


def test_no_former_name_is_left() -> None:
    former = re.compile(rf"\b({'|'.join(FORMER_NAMES.split())})\b")
    offenders = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for folder in ("nephros", "tests", "benchmarks", "results")
        for path in python_files(ROOT / folder)
        for name, line in _identifiers(path, former)
    ]
    assert not offenders, "\n".join(offenders)


def _identifiers(path: Path, pattern: re.Pattern[str]) -> Iterator[tuple[str, int]]:
    """Yield the names of variables, attributes, parameters, functions and classes that match, each with its line."""
    source = path.read_text(encoding="utf-8")
    if not pattern.search(source):
        return
    for node in ast.walk(ast.parse(source)):
        for field in ("id", "attr", "arg", "name"):
            name = getattr(node, field, None)
            if isinstance(name, str) and pattern.fullmatch(name):
                yield name, getattr(node, "lineno", 0)


def test_no_file_of_the_package_is_too_long() -> None:
    assert not [path for path in _package_files() if count_lines(path) > LONG]
