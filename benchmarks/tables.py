"""Print the latest record of each benchmark on each processor as Markdown tables."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, format_table
from nephros.text_tables import markdown_table, pluralize


def latest_records(file: Path) -> list[dict[str, Any]]:
    """Return the last record of each processor, in order of first appearance; processors differ by name and flags."""
    records: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return list({(_processor_key(record), record["device"]): record for record in records}.values())


def _processor_key(record: dict[str, Any]) -> tuple[str, ...]:
    machine = record["hardware"]
    return machine["cpu"], *machine["flags"]


def record_markdown(record: dict[str, Any]) -> str:
    """Return a record's table, followed by command, hardware and versions."""
    hardware = record["hardware"]
    cpu = f"{hardware['cpu']}, {pluralize(hardware['cores'], 'core')}, {pluralize(hardware['threads'], 'thread')}"
    gpu = f"; {record['device']}" if record["device"] == hardware["gpu"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    headers, cells = format_table(record["rows"])
    lines = [
        f"**{record['title']}**",
        "",
        markdown_table(headers, cells).rstrip("\n"),
        "",
        f"`{record['command']}` on {cpu}{gpu}; {' '.join(hardware['flags']) or 'no wide vectors'}; median "
        f"(minimum to maximum) of {record['repeats']} rounds; {versions}; commit {record['commit']}; "
        f"{record['created']}; load before {hardware['load_before']:.2f}.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=RESULTS, help="folder of NAME.json files (default: benchmarks/results)"
    )
    files = sorted(parser.parse_args().folder.glob("*.json"))
    print("\n\n".join(record_markdown(record) for file in files for record in latest_records(file)))


if __name__ == "__main__":
    main()
