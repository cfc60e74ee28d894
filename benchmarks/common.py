"""What all benchmarks share: options, hardware information, and the record that each prints."""

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
from nephros.environment import git_commit, package_versions
from nephros.errors import NephrosError
from nephros.files import write_json

RESULTS = Path(__file__).parent / "results"
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")
"""The CPU flags that change how fast matrices are multiplied in some precision."""

Row = dict[str, Any]
"""A row of a table: column -> text, number, or the result of `timing.summary`."""


@dataclass(frozen=True)
class BenchmarkConfig:
    """The settings of one benchmark."""

    benchmark: str
    device: torch.device
    data: str
    repeats: int
    seconds: float
    quick: bool
    save: Path | None
    hardware: dict[str, Any]
    args: argparse.Namespace


def build_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--device", choices=get_args(devices.DeviceName), default="auto", help="auto uses a GPU if there is one"
    )
    parser.add_argument(
        "--data", choices=("auto", "synthetic"), default="auto", help="auto: TissueMNIST if it is available"
    )
    parser.add_argument("--repeats", type=int, default=9, help="rounds in which all contenders take turns (default: 9)")
    parser.add_argument("--seconds", type=float, default=2.0, help="minimum length of one turn (default: 2)")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few seconds; its numbers mean nothing")
    parser.add_argument(
        "--save", nargs="?", type=Path, const=RESULTS, metavar="FOLDER", help="append the record to FOLDER/NAME.json"
    )
    return parser


def parse_config(parser: argparse.ArgumentParser, benchmark: str, argv: list[str] | None = None) -> BenchmarkConfig:
    """Return the settings in `argv` (default: the command line); exits with status 2 if one is invalid."""
    args = parser.parse_args(argv)
    if args.quick and args.save:
        parser.error("--quick and --save exclude each other: quick numbers mean nothing.")
    if args.repeats < 1 or args.seconds <= 0:
        parser.error("--repeats must be at least 1 and --seconds above 0.")
    try:
        device = devices.resolve_device(args.device)
    except NephrosError as error:
        parser.error(str(error))
    repeats, seconds = (2, 0.05) if args.quick else (args.repeats, args.seconds)
    return BenchmarkConfig(benchmark, device, args.data, repeats, seconds, args.quick, args.save, hardware_info(), args)


def hardware_info() -> dict[str, Any]:
    """Return the processor, cores, threads and GPU of this machine, and its load average."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    cpu_info = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    flags = cpu_info.get("flags", "").split()
    return {
        "cpu": cpu_info.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "flags": [flag for flag in CPU_FLAGS if flag in flags],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_before": os.getloadavg()[0],
    }


def publish(config: BenchmarkConfig, title: str, rows: list[Row], data: str = "") -> None:
    """Print the table and the record as one line of JSON; with --save, append the record to its file."""
    record = {
        "benchmark": config.benchmark,
        "title": title,
        "command": " ".join(["python", "-m", f"benchmarks.{config.benchmark}", *sys.argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": config.quick,
        "device": devices.device_name(config.device),
        "data": data,
        "seed": 0,
        "repeats": config.repeats,
        "seconds": config.seconds,
        "hardware": config.hardware,
        "versions": package_versions(),
        "commit": git_commit(),
        "rows": rows,
    }
    headers, cells = format_table(rows)
    rich_table = Table(*headers, title=title, title_justify="left")
    for line in cells:
        rich_table.add_row(*line)
    table_console().print(rich_table)
    print(json.dumps(record, allow_nan=False))
    if config.save is not None:
        file = config.save / f"{config.benchmark}.json"
        earlier = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        write_json(file, [*earlier, record])


def run_module(
    module: str, args: Sequence[str], python: str = sys.executable, env: Mapping[str, str] | None = None
) -> Any:
    """Return what a benchmark module prints as JSON on its last line, run in its own process."""
    command = [python, "-m", f"benchmarks.{module}", *args]
    completed = subprocess.run(command, cwd=RESULTS.parents[1], env=env, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{completed.stderr}")
    return json.loads(completed.stdout.splitlines()[-1])


def format_table(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the headers and the text of each cell; a missing value is an empty cell."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return [column.replace("_", " ") for column in columns], [
        [_format_cell(row.get(column)) for column in columns] for row in rows
    ]


def _format_cell(value: Any) -> str:
    if isinstance(value, dict):
        return f"{_format_cell(value['median'])} ({_format_cell(value['min'])} to {_format_cell(value['max'])})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None else str(value)
