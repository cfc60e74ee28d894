"""The directive ``{command-help} predict``: a command's real ``--help``, run when the site is built, as lists and paragraphs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
UNWRAPPED = "100000"
"""Columns of a terminal so wide that no line of the help is wrapped."""
TERM = re.compile(r"  (?P<name>\S.*?)(?:   *(?P<help>\S.*))?")
EXAMPLE = re.compile(r" +(nephros |curl |[a-z_.]+: [\[{])")
"""How lines begin that are to be copied; other indented lines are lists of terms."""


@cache
def help_text(command: str) -> str:
    """Return what ``nephros COMMAND --help`` prints, unwrapped."""
    arguments = [sys.executable, "-m", "nephros", *command.split(), "--help"]
    environment = {**os.environ, "COLUMNS": UNWRAPPED, "PYTHONPATH": str(ROOT)}
    return subprocess.run(arguments, env=environment, check=True, capture_output=True, text=True).stdout


class CommandHelp(SphinxDirective):
    """A command's usage line, then its help: paragraphs, examples, and each list of options as a definition list."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the nodes for the command that the argument names."""
        usage, _, rest = help_text(self.arguments[0]).partition("\n\n")
        usage = " ".join(usage.removeprefix("usage: ").split())
        result: list[nodes.Node] = [nodes.literal_block(usage, usage, language="text", classes=["usage"])]
        for block in re.split(r"\n\n+", rest.strip("\n")):
            result += _block(block.split("\n"))
        return result


def _block(lines: list[str]) -> list[nodes.Node]:
    """Return the nodes for lines without a blank one among them: perhaps a heading, then text, terms or examples."""
    result: list[nodes.Node] = []
    if len(lines) > 1 and lines[0].endswith(":"):
        heading = lines.pop(0).removesuffix(":")
        result.append(nodes.rubric("", "", *_inline(heading[0].upper() + heading[1:])))
    if EXAMPLE.match(lines[0]):
        text = "\n".join(line.strip() for line in lines)
        return [*result, nodes.literal_block(text, text, language="text")]
    if not lines[0].startswith(" "):
        return [*result, nodes.paragraph("", "", *_inline(" ".join(lines)))]
    return [*result, _definitions(lines)]


def _definitions(lines: list[str]) -> nodes.definition_list:
    """Return the list for lines ``  term  description``; where a term is long, its description is the next line."""
    terms: list[tuple[str, str]] = []
    for line in lines:
        match = TERM.fullmatch(line)
        if match:
            terms.append((match["name"], match["help"] or ""))
        else:
            terms[-1] = (terms[-1][0], f"{terms[-1][1]} {line.strip()}".strip())
    items = [
        nodes.definition_list_item(
            "",
            nodes.term("", "", nodes.literal(term, term)),
            nodes.definition("", nodes.paragraph("", "", *_inline(description))),
        )
        for term, description in terms
    ]
    return nodes.definition_list("", *items, classes=["options"])


def _inline(text: str) -> list[nodes.Node]:
    """Return the text with what stands in backticks, and options, as code."""
    parts = re.split(r"`([^`]+)`|(?<![\w-])(--[a-z][\w.-]*\w)", text)
    result: list[nodes.Node] = []
    for number, part in enumerate(parts):
        if part:
            result.append(nodes.literal(part, part) if number % 3 else nodes.Text(part))
    return result


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive with Sphinx."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
