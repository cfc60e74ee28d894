"""Fill the documents' tables from the files that commands wrote: python -m results.fill (with --check it only compares).

A table stands between two marks, of which the first names its file and columns:

    <!-- table results/seeds.csv: recipe, published_accuracy, accuracy_mean -->
    <!-- end -->

Without columns all are shown. A benchmark's .json file gives its newest record. So no figure of such a table is typed by
hand; a test runs the check.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

from benchmarks.common import table
from nephros.text_tables import markdown

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "results/README.md", "results/speedrun.md")
MARKED = re.compile(r"(<!-- table (?P<file>\S+?)(?:: (?P<columns>[^>]*?))? -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """Return a document's text with the tables that its marks ask for."""
    return MARKED.sub(lambda mark: mark[1] + _table(mark["file"], mark["columns"]) + mark[4], text)


def _table(file: str, columns: str | None) -> str:
    rows = _rows(ROOT / file)
    names = [name.strip() for name in columns.split(",")] if columns else list(rows[0])
    rows = [row for row in rows if any(row[name] for name in names[1:])]  # of another kind than these columns are for
    return markdown(
        [name.replace("_", " ") for name in names], [[_cell(name, row[name]) for name in names] for row in rows]
    )


def _rows(path: Path) -> list[dict[str, str]]:
    if path.suffix == ".json":
        found = json.loads(path.read_text(encoding="utf-8"))[-1]["rows"]
        names = dict.fromkeys(key for row in found for key in row)
        return [dict(zip(names, cells, strict=True)) for cells in table(found)[1]]
    with open(path, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _cell(name: str, text: str) -> str:
    return f"`{text}`" if name == "command" else text


def main(words: list[str]) -> int:
    """Fill the documents, or say which are not as their files are; return the exit status."""
    stale = []
    for name in DOCUMENTS:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        if filled(text) != text:
            stale.append(name)
            if "--check" not in words:
                path.write_text(filled(text), encoding="utf-8")
    if "--check" in words and stale:
        print(f"{', '.join(stale)}: a table is not as its file is; run python -m results.fill", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
