"""The directive ``{recipe-table}``: what ``nephros recipes`` prints when the site is built, as a table."""

from __future__ import annotations

import os
import subprocess
import sys

from command_help import ROOT, UNWRAPPED
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def recipe_rows() -> list[list[str]]:
    """Return the cells of the table that ``nephros recipes`` draws."""
    environment = {**os.environ, "COLUMNS": UNWRAPPED, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-m", "nephros", "recipes"]
    output = subprocess.run(arguments, env=environment, check=True, capture_output=True, text=True).stdout
    return [
        [cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if line.startswith("│")
    ]


class RecipeTable(SphinxDirective):
    """The presets: name, network, epochs, parameters, multiply-adds and source."""

    def run(self) -> list[nodes.Node]:
        """Return one table."""
        header = ["recipe", "network", "epochs", "parameters", "multiply-adds", "source"]
        group = nodes.tgroup(cols=len(header))
        group += [nodes.colspec(colwidth=1) for _ in header]
        group += nodes.thead("", _row(header))
        group += nodes.tbody("", *[_row(cells) for cells in recipe_rows()])
        return [nodes.table("", group, classes=["recipes"])]


def _row(cells: list[str]) -> nodes.row:
    return nodes.row("", *[nodes.entry("", nodes.paragraph(cell, cell)) for cell in cells])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive with Sphinx."""
    app.add_directive("recipe-table", RecipeTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
