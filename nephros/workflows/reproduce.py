"""Running a plan of many training runs, one after another and resumable, and writing its tables as they come in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table

from nephros import device as devices
from nephros.console import table_console
from nephros.data.dataset import Dataset
from nephros.data.load import load, request_of
from nephros.errors import Busy, Diverged, UserError, did_you_mean
from nephros.experiments.plans import Row, labels_plan, ours_plan, seeds_plan
from nephros.experiments.results import finished
from nephros.reporting.reproduction.baselines import write_labels, write_seeds
from nephros.reporting.reproduction.nephros_tables import write_ours
from nephros.runs import RunFolder
from nephros.workflows.train import resume, train

Say = Callable[[str], None]
PLANS = ("seeds", "labels", "ours")
NEEDS_GPU = "needs a GPU"


def reproduce(
    plan: str = "seeds",
    data: str = "tissuemnist",
    *,
    only: Sequence[str] = (),
    runs: str | Path = "runs",
    out: str | Path | None = None,
    device: str = "auto",
    epochs: int | None = None,
    dry_run: bool = False,
    say: Say = print,
) -> list[Path]:
    """Run what is missing of a plan (seeds, labels or ours) and return the files of its table, which hold all finished runs.

    `only` picks rows by key. Runs lie in RUNS/PLAN/KEY-SEED; one that is complete is not run again, one that was cut off
    goes on, and one that another process is at is left to it, so that several may share a plan. `epochs` caps every run,
    to try a plan out. Unless `out` names a folder, tables go to results/, those of capped runs beside the runs. With
    `dry_run` the plan is printed and nothing is done. Raises UserError for input that can't be used.
    """
    processor = devices.choose(device)
    if plan not in PLANS:
        raise UserError(f"There is no plan '{plan}': choose one of {', '.join(PLANS)}.")
    dataset = load(data)
    plans = {
        "seeds": lambda: seeds_plan(processor.type),
        "labels": lambda: labels_plan(len(dataset.train)),
        "ours": ours_plan,
    }
    rows = plans[plan]()
    rows = [row if epochs is None else _capped(row, epochs) for row in rows]
    chosen = _chosen(rows, only)
    place = Path(runs).expanduser() / plan
    tables = Path(out).expanduser() if out is not None else place if epochs is not None else Path("results")
    series = _Series(plan, rows, data, device, place, tables, epochs)
    if dry_run:
        _show(series, chosen, dataset, processor.type)
        return []
    todo: list[tuple[Row, int]] = []
    for row in chosen:
        hindrance = _hindrance(row, dataset, processor.type)
        if hindrance:
            say(f"{row.label}: left out, as it {hindrance}")
        else:
            todo += [(row, seed) for seed in row.seeds]
    for number, (row, seed) in enumerate(todo, start=1):
        if series.state(row, seed) in ("done", "diverged"):
            continue
        if lacking := series.lacks(row):
            say(f"{row.label}: left out, {lacking}")
            continue
        say(f"run {number} of {len(todo)}: {row.label}, seed {seed}")
        series.run(row, seed, say)
        series.write()
    return series.write()


@dataclasses.dataclass(frozen=True)
class _Series:
    """A plan on some data, with the place of its runs and of its tables."""

    plan: str
    rows: list[Row]
    data: str
    device: str
    place: Path
    out: Path
    epochs: int | None

    @property
    def flags(self) -> str:
        """What a user has to add to a command to have it on this data and device."""
        given = [("--data", self.data, "tissuemnist"), ("--device", self.device, "auto")]
        return " ".join(f"{flag} {value}" for flag, value, usual in given if value != usual)

    @property
    def source(self) -> str:
        """The data as run.json names it."""
        return str(request_of(self.data)["source"])

    def folder(self, row: Row, seed: int) -> Path:
        """Return where a run lies."""
        return self.place / f"{row.key}-{seed}"

    def state(self, row: Row, seed: int) -> str:
        """Return `to do`, `begun`, `done` or `diverged`; UserError when the folder holds another run than the plan's."""
        root = self.folder(row, seed)
        if not RunFolder.begun(root):
            return "to do"
        folder = RunFolder.open(root)
        if not row.made(folder, self.source, seed):
            raise UserError(
                f"{root} holds a run of another recipe, on other data or with other teachers than the plan's: "
                "name another folder with --runs."
            )
        return {"complete": "done", "diverged": "diverged"}.get(folder.info().status, "begun")

    def teachers(self, row: Row) -> list[Path]:
        """Return where the runs lie that a row learns from."""
        return [self.place / name for name in row.teachers]

    def lacks(self, row: Row) -> str:
        """Return why a row can't be taught yet, or ever; empty where it can."""
        by_place = {self.folder(one, seed): (one, seed) for one in self.rows for seed in one.seeds}
        states = {root.name: self.state(*by_place[root]) for root in self.teachers(row)}
        if lost := [name for name, state in states.items() if state == "diverged"]:
            return f"since its teachers diverged: {', '.join(lost)}"
        missing = [name for name, state in states.items() if state != "done"]
        if missing:
            return f"until its teachers are over: {', '.join(missing)} (--only {row.needed} trains them too)"
        return ""

    def command(self, row: Row, seed: int) -> str:
        """Return what a user would type to make one run."""
        taught = f"--teachers {','.join(map(str, self.teachers(row)))}" if row.teachers else ""
        return row.command(seed, " ".join(part for part in (taught, self.flags) if part))

    def run(self, row: Row, seed: int, say: Say) -> None:
        """Begin a run or go on with it, to its end; one that diverges is marked as such."""
        root = self.folder(row, seed)
        try:
            if RunFolder.begun(root):
                resume(root, device=self.device, say=say)
                return
            part = row.data | ({"data_seed": seed} if row.data else {})
            command, teachers = self.command(row, seed), self.teachers(row)
            train(
                row.seeded(seed), self.data, out=root, device=self.device, teachers=teachers, test=True, command=command,
                say=say, **part,
            )  # fmt: skip
        except Busy:
            say(f"{row.label}, seed {seed}: left to the process that is training it")
        except Diverged as error:
            say(f"warning: {row.label}, seed {seed}: {error}")
            folder = RunFolder.open(root)
            folder.write_info(dataclasses.replace(folder.info(), status="diverged"))

    def write(self) -> list[Path]:
        """Write the plan's tables from whatever is finished by now; return their paths."""
        found = [finished(row, self.place, self.source) for row in self.rows]
        flags = " ".join(
            part for part in (self.flags, "" if self.epochs is None else f"--epochs {self.epochs}") if part
        )
        writers = {"seeds": write_seeds, "labels": write_labels, "ours": write_ours}
        return writers[self.plan](found, self.out, flags)


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


def _hindrance(row: Row, dataset: Dataset, device_type: str) -> str:
    """Return why a row can't be run here; empty where it can."""
    if row.gpu and device_type == "cpu":
        return NEEDS_GPU
    images, both = len(dataset.train), len(dataset.train) + len(dataset.val)
    if row.data.get("subset", 0) > images or sum(row.data.get("resplit", ())) > both:
        return "needs more images than there are"
    return ""


def _show(series: _Series, rows: list[Row], dataset: Dataset, device_type: str) -> None:
    table = Table(title=f"runs, in {series.place}")
    for heading in ("key", "seed", "epochs", "state", "command"):
        table.add_column(heading)
    for row in rows:
        hindrance = _hindrance(row, dataset, device_type)
        for seed in row.seeds:
            state = hindrance or series.state(row, seed)
            table.add_row(row.key, str(seed), str(row.recipe.epochs), state, series.command(row, seed))
    table_console().print(table)
