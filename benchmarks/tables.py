"""Print the newest record of each benchmark on each processor in results/ as Markdown tables."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, table


def newest(file: Path) -> list[dict[str, Any]]:
    """Return a file's last record of each processor, in the order of their first; of one name, their flags tell them apart."""
    records: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return list({(_processor(record), record["device"]): record for record in records}.values())


def _processor(record: dict[str, Any]) -> tuple[str, ...]:
    machine = record["hardware"]
    return machine["cpu"], *machine["flags"]


def markdown(record: dict[str, Any]) -> str:
    """Return a record's table with the facts that its numbers depend on."""
    machine = record["hardware"]
    what = f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads"
    gpu = f"; {record['device']}" if record["device"] == machine["gpu"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    headers, cells = table(record["rows"])
    lines = [
        f"**{record['title']}**",
        "",
        *(f"| {' | '.join(line)} |" for line in [headers, ["---"] * len(headers), *cells]),
        "",
        f"`{record['command']}` on {what}{gpu}; {' '.join(machine['flags']) or 'no wide vectors'}; median "
        f"(least to greatest) of {record['repeats']} rounds; {versions}; commit {record['commit']}; "
        f"{record['created']}; load before {machine['load_before']:.2f}.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Print all tables."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument(
        "folder", nargs="?", type=Path, default=RESULTS, help="of NAME.json files (default: benchmarks/results)"
    )
    files = sorted(made.parse_args().folder.glob("*.json"))
    print("\n\n".join(markdown(record) for file in files for record in newest(file)))


if __name__ == "__main__":
    main()
