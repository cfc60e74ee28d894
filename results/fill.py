"""Fill tables and values of the documents from the files that commands wrote: python -m results.fill (--check only compares).

Tables and figures that are made of others, of cards and of records (those of `results.zoo`, `results.frontier` and
`results.summary`) are written first.

A table stands between two marks, the first of which names its file and columns:

    <!-- table results/baselines.csv: recipe, published_accuracy, accuracy_mean -->
    <!-- end -->

Without columns, all are shown; ``FILE (5 rows)`` shows the first rows only. A benchmark's .json file gives its latest record, and
a sentence where there is none yet. A value within a sentence comes from the card of a bundled model, by its keys and a format:

    <!-- value nephros-distilled: validation.accuracy .4f -->0.1234<!-- end -->

No such figure is typed by hand; a test runs the check.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, format_table
from nephros.inference.model_names import bundled_card
from nephros.text_tables import markdown_table

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
MARKED_TABLE = re.compile(
    r"(<!-- table (?P<file>\S+?)(?: \((?P<limit>\d+) rows\))?(?:: (?P<columns>[^>]*?))? -->\n).*?(?P<end><!-- end -->)",
    re.DOTALL,
)
MARKED_VALUE = re.compile(r"(<!-- value (?P<model>\S+): (?P<keys>\S+) (?P<format>\S+) -->)[^<]*(?P<end><!-- end -->)")


def fill_tables(text: str) -> str:
    """Return `text` with the table, or the value, of each pair of marks filled in."""
    text = MARKED_TABLE.sub(
        lambda match: match[1] + _table(match["file"], match["columns"], match["limit"]) + match["end"], text
    )
    return MARKED_VALUE.sub(
        lambda match: match[1] + _value(match["model"], match["keys"], match["format"]) + match["end"], text
    )


def _value(model: str, keys: str, format: str) -> str:
    value: Any = bundled_card(model)
    for key in keys.split("."):
        value = value[int(key) if key.isdecimal() else key]
    return f"{value:{format}}"


def _table(file: str, columns: str | None, limit: str | None) -> str:
    path = ROOT / file
    if path.parent == RESULTS and not path.exists():
        return f"Not measured yet: `python -m benchmarks.{path.stem} --save`.\n"
    rows = _rows(ROOT / file)[: int(limit) if limit else None]
    names = [name.strip() for name in columns.split(",")] if columns else list(rows[0])
    rows = [row for row in rows if any(row[name] for name in names[1:])]  # rows of another kind lack these columns
    return markdown_table(
        [name.replace("_", " ") for name in names], [[_format_cell(name, row[name]) for name in names] for row in rows]
    )


def _rows(path: Path) -> list[dict[str, str]]:
    if path.suffix == ".json":
        records = json.loads(path.read_text(encoding="utf-8"))[-1]["rows"]
        names = dict.fromkeys(key for row in records for key in row)
        return [dict(zip(names, cells, strict=True)) for cells in format_table(records)[1]]
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _format_cell(name: str, text: str) -> str:
    return f"`{text}`" if name == "command" else text


def _write_derived_tables() -> None:
    """Write, in the order in which they depend on one another, what is made of cards, records and other tables."""
    from results import frontier, summary, zoo  # matplotlib takes a while, and a check needs none of it

    zoo.main()
    frontier.main()
    summary.main()


def main(argv: list[str]) -> int:
    """Fill the documents, or with --check print which differ from their files; return the exit status."""
    if "--check" not in argv:
        _write_derived_tables()
    stale = []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        if fill_tables(text) != text:
            stale.append(str(path.relative_to(ROOT)))
            if "--check" not in argv:
                path.write_text(fill_tables(text), encoding="utf-8")
    if "--check" in argv and stale:
        print(f"{', '.join(stale)}: a table differs from its file; run python -m results.fill", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
