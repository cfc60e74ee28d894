"""Running a plan of many training runs, one after another and resumable, and writing its tables as they come in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table

from nephros import device as devices
from nephros.data.load import load
from nephros.errors import Diverged, UserError, did_you_mean
from nephros.evaluation.finished import finished
from nephros.evaluation.plans import Row, labels_plan, seeds_plan
from nephros.jobs.train import resume, train
from nephros.reporting.reproduced import write_labels, write_seeds
from nephros.runs import RunFolder
from nephros.terminal import table_console

Say = Callable[[str], None]
PLANS = ("seeds", "labels")


def reproduce(
    plan: str = "seeds",
    data: str = "tissuemnist",
    *,
    only: Sequence[str] = (),
    runs: str | Path = "runs",
    out: str | Path = "results",
    device: str = "auto",
    epochs: int | None = None,
    dry_run: bool = False,
    say: Say = print,
) -> list[Path]:
    """Run what is missing of a plan, `seeds` or `labels`, and return the files of its table, which hold all finished runs.

    `only` picks rows by key. Runs lie in RUNS/PLAN/KEY-SEED; one that is complete is not run again, and one that was cut
    off goes on. `epochs` caps every run, to try a plan out. With `dry_run` the plan is printed and nothing is done.
    Raises UserError for input that can't be used.
    """
    processor = devices.choose(device)
    if plan not in PLANS:
        raise UserError(f"There is no plan '{plan}': choose {' or '.join(PLANS)}.")
    rows = seeds_plan(processor.type) if plan == "seeds" else labels_plan(len(load(data).train))
    rows = [row if epochs is None else _capped(row, epochs) for row in rows]
    chosen = _chosen(rows, only)
    place = Path(runs).expanduser() / plan
    todo = [(row, seed) for row in chosen for seed in row.seeds if not (row.gpu and processor.type == "cpu")]
    if dry_run:
        _show(todo, place)
        return []
    written: list[Path] = []
    for number, (row, seed) in enumerate(todo, start=1):
        folder = place / f"{row.key}-{seed}"
        if _complete(folder, row, seed):
            continue
        say(f"run {number} of {len(todo)}: {row.label}, seed {seed}")
        try:
            _run(folder, row, seed, data, device, say)
        except Diverged as error:
            say(f"warning: {row.label}, seed {seed}: {error}")
        written = _write(plan, rows, place, Path(out).expanduser())
    return written or _write(plan, rows, place, Path(out).expanduser())


def _capped(row: Row, epochs: int) -> Row:
    return dataclasses.replace(row, recipe=dataclasses.replace(row.recipe, epochs=min(epochs, row.recipe.epochs)))


def _chosen(rows: list[Row], only: Sequence[str]) -> list[Row]:
    keys = [row.key for row in rows]
    for key in only:
        if key not in keys:
            raise UserError(
                f"--only {key}: the plan has no such row.{did_you_mean(key, keys)} It has {', '.join(keys)}."
            )
    return [row for row in rows if not only or row.key in only]


def _complete(folder: Path, row: Row, seed: int) -> bool:
    """Return whether the run is over; UserError when the folder holds another recipe's."""
    if not RunFolder.begun(folder):
        return False
    info = RunFolder.open(folder).info()
    if info.recipe_hash != dataclasses.replace(row.recipe, seed=seed).hash:
        raise UserError(f"{folder} holds a run of another recipe than the plan's: name another folder with --runs.")
    return info.status == "complete"


def _run(folder: Path, row: Row, seed: int, data: str, device: str, say: Say) -> None:
    if RunFolder.begun(folder):
        resume(folder, device=device, say=say)
        return
    recipe = dataclasses.replace(row.recipe, seed=seed)
    seeded = row.data | ({"data_seed": seed} if row.data else {})
    train(recipe, data, out=folder, device=device, test=True, command=row.command(seed), say=say, **seeded)


def _write(plan: str, rows: list[Row], place: Path, out: Path) -> list[Path]:
    """Write the plan's tables from whatever is finished by now."""
    found = [finished(row, place) for row in rows]
    return write_seeds(found, out) if plan == "seeds" else write_labels(found, out)


def _show(todo: list[tuple[Row, int]], place: Path) -> None:
    table = Table(title=f"runs, in {place}")
    for heading in ("run", "epochs", "state", "command"):
        table.add_column(heading)
    for row, seed in todo:
        folder = place / f"{row.key}-{seed}"
        state = "to do"
        if RunFolder.begun(folder):
            state = "done" if _complete(folder, row, seed) else "begun"
        table.add_row(f"{row.key}-{seed}", str(row.recipe.epochs), state, row.command(seed))
    table_console().print(table)
