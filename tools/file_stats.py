"""Print how many Python files each part of the repository has, how long they are, and which share a name.

python tools/file_stats.py [FOLDER...]
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("nephros", "tests", "benchmarks", "results")
SHORT, LONG = 60, 400
"""Lines below which a file may be a fragment, and above which it may hold two concepts."""


def count_lines(path: Path) -> int:
    """Return the number of lines of a file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def python_files(folder: Path) -> list[Path]:
    """Return the Python files below `folder` that hold code of their own: all but ``__init__.py`` of at most one line."""
    files = sorted(folder.rglob("*.py"))
    return [path for path in files if path.name != "__init__.py" or count_lines(path) > 1]


def stats_row(name: str, lines: list[int]) -> list[str]:
    """Return a folder's row: files, lines, mean, median, and how many are short and long."""
    short, long = sum(n < SHORT for n in lines), sum(n > LONG for n in lines)
    mean, median = statistics.mean(lines), statistics.median(lines)
    return [name, f"{len(lines):,}", f"{sum(lines):,}", f"{mean:.0f}", f"{median:.0f}", f"{short}", f"{long}"]


def duplicated_names(files: Iterable[Path]) -> dict[str, list[Path]]:
    """Return name -> files for each name that more than one file has, ``__init__.py`` aside."""
    by_name = defaultdict(list)
    for path in files:
        if path.name != "__init__.py":
            by_name[path.name].append(path)
    return {name: paths for name, paths in sorted(by_name.items()) if len(paths) > 1}


def main(folders: list[str]) -> None:
    """Print the table, then the names that two files of the package share, then its short and long files."""
    rows = [["folder", "files", "lines", "mean", "median", f"< {SHORT}", f"> {LONG}"]]
    for name in folders or FOLDERS:
        rows.append(stats_row(name, [count_lines(path) for path in python_files(ROOT / name)]))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(
                text.ljust(width) if i == 0 else text.rjust(width)
                for i, (text, width) in enumerate(zip(row, widths, strict=True))
            )
        )
    for name in folders or FOLDERS[:1]:
        files = python_files(ROOT / name)
        duplicates = duplicated_names(files)
        print(f"\n{name}: {len(duplicates)} names of more than one file")
        for basename, paths in duplicates.items():
            print(f"  {basename}: {', '.join(str(path.parent.relative_to(ROOT)) for path in paths)}")
        for label, chosen in (
            (f"under {SHORT} lines", [path for path in files if count_lines(path) < SHORT]),
            (f"over {LONG} lines", [path for path in files if count_lines(path) > LONG]),
        ):
            print(f"\n{name}: {len(chosen)} files {label}")
            for path in sorted(chosen, key=count_lines):
                print(f"  {count_lines(path):4}  {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
