"""Fuzz readers with atheris: mutated files, guided by the code that they reach, for some time per target.

    python -m tests.fuzz                     # all targets, 60 seconds each
    python -m tests.fuzz tiff stack --seconds 600 --keep

With --keep, inputs that reach other code than those before are added to tests/corpus/fuzz/TARGET. An input that breaks a
reader is written to tests/corpus/fuzz/TARGET-fault-*, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.targets import SEEDS, TARGETS

SECONDS_PER_INPUT, MEMORY_MB = 20, 3000
MAX_KEPT, MAX_KEPT_BYTES = 60, 4096
"""Inputs per target in the corpus, and bytes of each; the smallest of the new ones are added."""


def main() -> int:
    """Fuzz each target in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__, allow_abbrev=False)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"default: all of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=60, help="per target (default: 60)")
    parser.add_argument("--keep", action="store_true", help="add the inputs that reach new code to the corpus")
    args = parser.parse_args()
    if unknown := sorted(set(args.targets) - set(TARGETS)):
        parser.error(f"unknown target {unknown[0]!r}; choose from {', '.join(TARGETS)}")
    return max(_fuzz(name, args.seconds, keep=args.keep) for name in args.targets or TARGETS)


def _fuzz(name: str, seconds: int, *, keep: bool) -> int:
    """Return 0 if no input broke the reader within the time, else 1."""
    target, corpus = TARGETS[name], SEEDS / name
    with tempfile.TemporaryDirectory() as scratch:
        seeds, working = Path(scratch, "seeds"), Path(scratch, "working")
        seeds.mkdir()
        working.mkdir()
        for number, data in enumerate(target.seeds()):
            (seeds / str(number)).write_bytes(data)
        options = [
            f"-max_len={target.max_bytes}", f"-timeout={SECONDS_PER_INPUT}", f"-rss_limit_mb={MEMORY_MB}", "-print_final_stats=1",
            f"-artifact_prefix={SEEDS}/{name}-fault-",
        ]  # fmt: skip
        SEEDS.mkdir(exist_ok=True)
        folders = [str(working), str(seeds), *([str(corpus)] if corpus.is_dir() else [])]
        command = [sys.executable, "-m", "tests.fuzz.process", name]
        completed = subprocess.run(
            [*command, *options, f"-max_total_time={seconds}", *folders], capture_output=True, text=True, check=False
        )
        lines = completed.stderr.splitlines()
        n_inputs = next((line.split()[-1] for line in lines if line.startswith("stat::number_of_executed_units")), "?")
        print(
            f"{name}: {n_inputs} inputs in {seconds} s, {'a fault' if completed.returncode else 'no fault'}", flush=True
        )
        if completed.returncode:
            print("\n".join([*completed.stdout.splitlines()[-30:], *lines[-40:]]), file=sys.stderr)
            return 1
        if keep:
            corpus.mkdir(exist_ok=True)
            new_inputs = [path for path in working.iterdir() if path.stat().st_size <= MAX_KEPT_BYTES]
            new_inputs.sort(key=lambda path: path.stat().st_size)
            for path in new_inputs[: max(0, MAX_KEPT - len(list(corpus.iterdir())))]:
                shutil.copy(path, corpus)
    return 0


if __name__ == "__main__":
    sys.exit(main())
