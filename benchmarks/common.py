"""What all benchmarks share: their flags, facts of the machine, and the record that each prints."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import torch
from rich.table import Table

from nephros import device as devices
from nephros.console import table_console
from nephros.environment import commit, versions
from nephros.errors import UserError
from nephros.files import write_json

RESULTS = Path(__file__).parent / "results"
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")
"""Of the CPU, those that change how fast it multiplies matrices in some precision."""

Row = dict[str, Any]
"""One line of a table: column -> text, number, or what `timing.summary` returned."""


@dataclass(frozen=True)
class Settings:
    """What the flags said."""

    benchmark: str
    device: torch.device
    data: str
    repeats: int
    seconds: float
    quick: bool
    save: Path | None
    machine: dict[str, Any]
    options: argparse.Namespace


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of the flags that every benchmark has."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument(
        "--device", choices=get_args(devices.DeviceName), default="auto", help="auto takes a GPU where there is one"
    )
    made.add_argument(
        "--data", choices=("auto", "synthetic"), default="auto", help="auto: TissueMNIST where it is at hand"
    )
    made.add_argument("--repeats", type=int, default=9, help="rounds in which all contenders take turns (default: 9)")
    made.add_argument("--seconds", type=float, default=2.0, help="of one turn, at least (default: 2)")
    made.add_argument(
        "--quick", action="store_true", help="a few seconds in all, to see that it works; its numbers say nothing"
    )
    made.add_argument(
        "--save", nargs="?", type=Path, const=RESULTS, metavar="FOLDER", help="add the record to FOLDER/NAME.json"
    )
    return made


def parse(made: argparse.ArgumentParser, benchmark: str, words: list[str] | None = None) -> Settings:
    """Return the settings that `words` (by default the command line) ask for; exits 2 for those that can't be used."""
    given = made.parse_args(words)
    if given.quick and given.save:
        made.error("--quick and --save: quick numbers are not worth keeping.")
    if given.repeats < 1 or given.seconds <= 0:
        made.error("--repeats must be at least 1 and --seconds above 0.")
    try:
        device = devices.choose(given.device)
    except UserError as error:
        made.error(str(error))
    repeats, seconds = (2, 0.05) if given.quick else (given.repeats, given.seconds)
    return Settings(benchmark, device, given.data, repeats, seconds, given.quick, given.save, hardware(), given)


def hardware() -> dict[str, Any]:
    """Return what this machine is, and how busy it was just before."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    flags = facts.get("flags", "").split()
    return {
        "cpu": facts.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_before": os.getloadavg()[0],
    }


def publish(settings: Settings, title: str, rows: list[Row], data: str = "") -> None:
    """Print the table and then the record as one JSON line; add it to its file where --save asks for that."""
    record = {
        "benchmark": settings.benchmark,
        "title": title,
        "command": " ".join(["python", "-m", f"benchmarks.{settings.benchmark}", *sys.argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": settings.quick,
        "device": devices.describe(settings.device),
        "data": data,
        "seed": 0,
        "repeats": settings.repeats,
        "seconds": settings.seconds,
        "hardware": settings.machine,
        "versions": versions(),
        "commit": commit(),
        "rows": rows,
    }
    headers, cells = table(rows)
    shown = Table(*headers, title=title, title_justify="left")
    for line in cells:
        shown.add_row(*line)
    table_console().print(shown)
    print(json.dumps(record, allow_nan=False))
    if settings.save is not None:
        file = settings.save / f"{settings.benchmark}.json"
        earlier = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        write_json(file, [*earlier, record])


def in_process(
    module: str, words: Sequence[str], python: str = sys.executable, env: Mapping[str, str] | None = None
) -> Any:
    """Return what a module of the benchmarks prints as JSON on its last line, run in a process of its own."""
    command = [python, "-m", f"benchmarks.{module}", *words]
    done = subprocess.run(command, cwd=RESULTS.parents[1], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the headers and the text of each cell; a row that lacks a column shows nothing there."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return [column.replace("_", " ") for column in columns], [
        [_cell(row.get(column)) for column in columns] for row in rows
    ]


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{_cell(value['median'])} ({_cell(value['min'])} to {_cell(value['max'])})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None else str(value)
