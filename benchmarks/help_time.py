"""How long `nephros --help` takes from a cold process, beside a Python that does nothing, and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import Row, parse, parser, publish
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


def command(words: list[str]) -> Contender:
    """Return a contender that runs a command once, whatever seconds it is given; its rate is runs a second."""

    def turn(_seconds: float) -> float:
        start = time.perf_counter()
        subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
        return 1 / (time.perf_counter() - start)

    return turn


def imported() -> list[str]:
    """Return which of the heavy packages `nephros --help` imports."""
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__ or "")
    made.set_defaults(repeats=10)
    settings = parse(made, "help_time")
    script = Path(sys.executable).with_name("nephros")
    nephros = [str(script)] if script.exists() else [sys.executable, "-m", "nephros"]
    contenders = {
        "nephros --help": command([*nephros, "--help"]),
        "python -c pass": command([sys.executable, "-c", "pass"]),
    }
    rates = interleave(contenders, settings)
    seconds = {name: [1 / rate for rate in found] for name, found in rates.items()}
    heavy = imported()
    first: Row = {"command": "nephros --help", "seconds": summary(seconds["nephros --help"]), "target_seconds": TARGET}
    first |= {"ratio": ratio(seconds["nephros --help"], seconds["python -c pass"])}
    first |= {"imports_torch": "torch" in heavy, "heavy_imports": ", ".join(heavy) or "none"}
    second: Row = {"command": "python -c pass", "seconds": summary(seconds["python -c pass"])}
    publish(settings, "Wall time of a cold process", [first, second])


if __name__ == "__main__":
    main()
