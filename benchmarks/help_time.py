"""Wall time of a cold `nephros --help`, compared with a Python that does nothing, and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import Row, build_parser, parse_config, publish
from benchmarks.timing import Contender, interleave, ratio, summary

TARGET = 0.3
HEAVY = ("torch", "numpy", "sklearn", "matplotlib", "jsonargparse", "rich")
PROBE = f"""
import json, sys
sys.stdout = sys.stderr
from nephros.cli import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0, end
print(json.dumps([name for name in {HEAVY} if name in sys.modules]), file=sys.__stdout__)
"""


def time_command(args: list[str]) -> Contender:
    """Return a contender that runs a command once, whatever its time limit; its rate is runs per second."""

    def turn(_seconds: float) -> float:
        start = time.perf_counter()
        subprocess.run(args, stdout=subprocess.DEVNULL, check=True)
        return 1 / (time.perf_counter() - start)

    return turn


def heavy_imports() -> list[str]:
    """Return which of the heavy packages `nephros --help` imports."""
    completed = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    names: list[str] = json.loads(completed.stdout)
    return names


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__ or "")
    parser.set_defaults(repeats=10)
    config = parse_config(parser, "help_time")
    script = Path(sys.executable).with_name("nephros")
    nephros = [str(script)] if script.exists() else [sys.executable, "-m", "nephros"]
    contenders = {
        "nephros --help": time_command([*nephros, "--help"]),
        "python -c pass": time_command([sys.executable, "-c", "pass"]),
    }
    rates = interleave(contenders, config)
    seconds = {name: [1 / rate for rate in round_rates] for name, round_rates in rates.items()}
    heavy = heavy_imports()
    first: Row = {"command": "nephros --help", "seconds": summary(seconds["nephros --help"]), "target_seconds": TARGET}
    first |= {"ratio": ratio(seconds["nephros --help"], seconds["python -c pass"])}
    first |= {"imports_torch": "torch" in heavy, "heavy_imports": ", ".join(heavy) or "none"}
    second: Row = {"command": "python -c pass", "seconds": summary(seconds["python -c pass"])}
    publish(config, "Wall time of a cold process", [first, second])


if __name__ == "__main__":
    main()
