"""Our study against random search, Optuna's HyperbandPruner and Ray Tune's HyperBandScheduler, at equal epochs.

Each run (a method with a seed) has its own record in --out; a second call goes on with those that are missing, and ours
in the midst of a study. All search the recipe's default space by random draws, with two trials of one thread at once.
Ray Tune runs in an environment of its own: python -m venv RAY && RAY/bin/pip install -c constraints.txt -e . 'ray[tune]'
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import get_args

import torch

from benchmarks.common import Settings, hardware, publish
from benchmarks.tuners.budget_config import DEVICE, Terms
from benchmarks.tuners.pictures import draw
from benchmarks.tuners.run import MODULES, Record, perform, python_of
from benchmarks.tuners.table import markdown, rows
from nephros.data.load import load, locate
from nephros.errors import UserError
from nephros.files import write_text
from nephros.recipe import MetricName

OUT = Path(__file__).parents[1] / "results" / "tuning"


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Return what the command line (by default) asks for; exits 2 for what can't be."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--methods", nargs="+", choices=MODULES, default=list(MODULES), help="default: all four")
    made.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
    made.add_argument("--recipe", default="course-1", help="default: course-1")
    made.add_argument("--max-epochs", type=int, default=27, help="R: the most for one trial (default: 27)")
    made.add_argument("--eta", type=int, default=3, help="default: 3")
    made.add_argument(
        "--metric",
        choices=get_args(MetricName),
        default="val_accuracy",
        help="what trials are ranked by; the table shows accuracy in any case (default: val_accuracy)",
    )
    made.add_argument("--subset", type=int, default=10_000, help="training images (default: 10000)")
    made.add_argument("--workers", type=int, default=2, help="trials at once (default: 2)")
    made.add_argument(
        "--data", choices=("auto", "synthetic"), default="auto", help="auto: TissueMNIST where it is at hand"
    )
    made.add_argument("--ray-python", metavar="PATH", help="python of an environment that has nephros and ray[tune]")
    made.add_argument(
        "--out", type=Path, metavar="FOLDER", help="of records, table and picture (default: results/tuning)"
    )
    made.add_argument("--quick", action="store_true", help="R = 3 on 160 made-up cells; its numbers say nothing")
    given = made.parse_args(words)
    if given.quick:
        given.data, given.max_epochs, given.eta, given.subset, given.seeds = "synthetic", 3, 3, 160, [0]
    if "ray" in given.methods and given.ray_python is None:
        made.error("--methods ray, which is among the default ones, needs --ray-python PATH.")
    return given


def terms_of(given: argparse.Namespace, out: Path, method: str, seed: int) -> Terms:
    """Return the terms of one run."""
    real = given.data == "auto" and locate("tissuemnist") is not None
    return Terms(
        method=method,
        recipe=given.recipe,
        source="tissuemnist" if real else "synthetic",
        subset=given.subset,
        seed=seed,
        max_epochs=given.max_epochs,
        eta=given.eta,
        metric=given.metric,
        workers=given.workers,
        folder=str((out / ".work" / f"{method}-{seed}").absolute()),
        started=0.0,
    )


def records_of(given: argparse.Namespace, out: Path) -> list[Record]:
    """Read the records that are there and make those that are missing; seed by seed, so that all methods get as far."""
    records = []
    for seed in given.seeds:
        for method in given.methods:
            terms, file = terms_of(given, out, method, seed), out / f"{method}-{seed}.json"
            if file.exists():
                record = Record.read(file)
                _check(record, terms, file)
            else:
                print(f"{method}, seed {seed}: {terms.epochs} epochs", file=sys.stderr, flush=True)
                record = perform(terms, python_of(method, given.ray_python), file)
                print(f"  {record.choice.value:.4f} in {record.seconds:.0f} s", file=sys.stderr, flush=True)
            records.append(record)
    return records


def _check(record: Record, terms: Terms, file: Path) -> None:
    for name in ("recipe", "source", "subset", "max_epochs", "eta", "metric", "workers"):
        before, now = getattr(record.terms, name), getattr(terms, name)
        if before != now:
            raise UserError(f"{file} was made with {name} {before}, and this is {now}: give another --out.")


def report(given: argparse.Namespace, out: Path) -> None:
    """Make what is missing, then print the table, and write it and the picture."""
    records = records_of(given, out)
    terms = records[0].terms
    data = load(terms.source).provenance.title
    title = (
        f"Tuning {terms.recipe} for {terms.epochs} epochs (R = {terms.max_epochs}, eta = {terms.eta}), "
        f"{terms.subset:,} images of {data}, {terms.workers} trials at once, ranked by {terms.metric}"
    )
    found = rows(records)
    draw(records, data, out / "tuning.png")
    settings = Settings(
        "tuning", torch.device(DEVICE), given.data, len(given.seeds), 0.0, given.quick, None, hardware(), given
    )
    publish(settings, title, found, data)
    write_text(out / "table.md", markdown(title, found, records))


def main() -> None:
    """Run the benchmark."""
    given = arguments()
    try:
        if given.quick and given.out is None:
            with tempfile.TemporaryDirectory() as place:
                report(given, Path(place))
        else:
            report(given, given.out or OUT)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
