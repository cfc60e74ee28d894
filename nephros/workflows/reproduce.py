"""Running a plan of many training runs, one after another and resumable, and writing its tables as they come in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table

from nephros import device as devices
from nephros.console import table_console
from nephros.data.dataset import Dataset
from nephros.data.load import data_request, load
from nephros.errors import DivergedError, LockedError, NephrosError, did_you_mean
from nephros.experiments.plans import PlanRow, baselines_plan, labels_plan, nephros_plan
from nephros.experiments.results import load_seed_results
from nephros.reporting.reproduction.baselines import write_baselines_table, write_labels_table
from nephros.reporting.reproduction.nephros_tables import write_nephros_table
from nephros.runs import RunFolder
from nephros.workflows.train import resume, train

Say = Callable[[str], None]
PLANS = ("baselines", "labels", "nephros")
NEEDS_GPU = "needs a GPU"


def reproduce(
    plan: str = "baselines",
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
    """Run what is missing of a plan (baselines, labels or nephros) and return the files of its table of all finished runs.

    `only` picks rows by key. Runs lie in RUNS/PLAN/KEY-SEED; one that is complete is not run again, one that was cut off
    goes on, and one that another process is at is left to it, so that several may share a plan. `epochs` caps every run,
    to try a plan out. Unless `out` names a folder, tables go to results/, those of capped runs beside the runs. With
    `dry_run` the plan is printed and nothing is done. Raises UserError for input that can't be used.
    """
    torch_device = devices.resolve_device(device)
    if plan not in PLANS:
        raise NephrosError(f"There is no plan '{plan}': choose one of {', '.join(PLANS)}.")
    dataset = load(data)
    plans = {
        "baselines": lambda: baselines_plan(torch_device.type),
        "labels": lambda: labels_plan(len(dataset.train)),
        "nephros": nephros_plan,
    }
    rows = plans[plan]()
    rows = [row if epochs is None else _with_max_epochs(row, epochs) for row in rows]
    selected = _select_rows(rows, only)
    runs_dir = Path(runs).expanduser() / plan
    tables_dir = Path(out).expanduser() if out is not None else runs_dir if epochs is not None else Path("results")
    runner = _PlanRunner(plan, rows, data, device, runs_dir, tables_dir, epochs)
    if dry_run:
        _print_plan(runner, selected, dataset, torch_device.type)
        return []
    pending: list[tuple[PlanRow, int]] = []
    for row in selected:
        skip_reason = _skip_reason(row, dataset, torch_device.type)
        if skip_reason:
            say(f"{row.label}: left out, as it {skip_reason}")
        else:
            pending += [(row, seed) for seed in row.seeds]
    for number, (row, seed) in enumerate(pending, start=1):
        if runner.state(row, seed) in ("done", "diverged"):
            continue
        if teacher_problem := runner.teacher_problem(row):
            say(f"{row.label}: left out, {teacher_problem}")
            continue
        say(f"run {number} of {len(pending)}: {row.label}, seed {seed}")
        runner.run(row, seed, say)
        runner.write_tables()
    return runner.write_tables()


@dataclasses.dataclass(frozen=True)
class _PlanRunner:
    """A plan on some data, with the place of its runs and of its tables."""

    plan: str
    rows: list[PlanRow]
    data: str
    device: str
    runs_dir: Path
    tables_dir: Path
    epochs: int | None

    @property
    def flags(self) -> str:
        """What a user has to add to a command to have it on this data and device."""
        options = [("--data", self.data, "tissuemnist"), ("--device", self.device, "auto")]
        return " ".join(f"{flag} {value}" for flag, value, default in options if value != default)

    @property
    def source(self) -> str:
        """The data as run.json names it."""
        return str(data_request(self.data)["source"])

    def run_dir(self, row: PlanRow, seed: int) -> Path:
        """Return where a run lies."""
        return self.runs_dir / f"{row.key}-{seed}"

    def state(self, row: PlanRow, seed: int) -> str:
        """Return `pending`, `started`, `done` or `diverged`; UserError when the folder holds another run than the plan's."""
        root = self.run_dir(row, seed)
        if not RunFolder.exists(root):
            return "pending"
        folder = RunFolder.open(root)
        if not row.matches_run(folder, self.source, seed):
            raise NephrosError(
                f"{root} holds a run of another recipe, on other data or with other teachers than the plan's: "
                "name another folder with --runs."
            )
        return {"complete": "done", "diverged": "diverged"}.get(folder.info().status, "started")

    def teachers(self, row: PlanRow) -> list[Path]:
        """Return where the runs lie that a row learns from."""
        return [self.runs_dir / name for name in row.teachers]

    def teacher_problem(self, row: PlanRow) -> str:
        """Return why a row can't be taught yet, or ever; empty where it can."""
        by_dir = {self.run_dir(other, seed): (other, seed) for other in self.rows for seed in other.seeds}
        states = {root.name: self.state(*by_dir[root]) for root in self.teachers(row)}
        if diverged := [name for name, state in states.items() if state == "diverged"]:
            return f"since its teachers diverged: {', '.join(diverged)}"
        missing = [name for name, state in states.items() if state != "done"]
        if missing:
            return f"until its teachers are over: {', '.join(missing)} (--only {row.required_keys} trains them too)"
        return ""

    def command(self, row: PlanRow, seed: int) -> str:
        """Return what a user would type to make one run."""
        teacher_flags = f"--teachers {','.join(map(str, self.teachers(row)))}" if row.teachers else ""
        return row.command(seed, " ".join(flags for flags in (teacher_flags, self.flags) if flags))

    def run(self, row: PlanRow, seed: int, say: Say) -> None:
        """Begin a run or go on with it, to its end; one that diverges is marked as such."""
        root = self.run_dir(row, seed)
        try:
            if RunFolder.exists(root):
                resume(root, device=self.device)
                return
            data_options = row.data_options | ({"data_seed": seed} if row.data_options else {})
            command, teachers = self.command(row, seed), self.teachers(row)
            options = {"teachers": teachers, "test": True, "command": command, **data_options}
            train(row.with_seed(seed), self.data, out=root, device=self.device, **options)
        except LockedError:
            say(f"{row.label}, seed {seed}: left to the process that is training it")
        except DivergedError as error:
            say(f"warning: {row.label}, seed {seed}: {error}")
            folder = RunFolder.open(root)
            folder.write_info(dataclasses.replace(folder.info(), status="diverged"))

    def write_tables(self) -> list[Path]:
        """Write the plan's tables from whatever is finished by now; return their paths."""
        results = [load_seed_results(row, self.runs_dir, self.source) for row in self.rows]
        flags = " ".join(
            part for part in (self.flags, "" if self.epochs is None else f"--epochs {self.epochs}") if part
        )
        writers = {"baselines": write_baselines_table, "labels": write_labels_table, "nephros": write_nephros_table}
        return writers[self.plan](results, self.tables_dir, flags)


def _with_max_epochs(row: PlanRow, epochs: int) -> PlanRow:
    return dataclasses.replace(row, recipe=dataclasses.replace(row.recipe, epochs=min(epochs, row.recipe.epochs)))


def _select_rows(rows: list[PlanRow], only: Sequence[str]) -> list[PlanRow]:
    keys = [row.key for row in rows]
    for key in only:
        if key not in keys:
            raise NephrosError(
                f"--only {key}: the plan has no such row.{did_you_mean(key, keys)} It has {', '.join(keys)}."
            )
    return [row for row in rows if not only or row.key in only]


def _skip_reason(row: PlanRow, dataset: Dataset, device_type: str) -> str:
    """Return why a row can't be run here; empty where it can."""
    if row.needs_gpu and device_type == "cpu":
        return NEEDS_GPU
    n_train, n_train_val = len(dataset.train), len(dataset.train) + len(dataset.val)
    if row.data_options.get("subset", 0) > n_train or sum(row.data_options.get("resplit", ())) > n_train_val:
        return "needs more images than there are"
    return ""


def _print_plan(runner: _PlanRunner, rows: list[PlanRow], dataset: Dataset, device_type: str) -> None:
    table = Table(title=f"runs, in {runner.runs_dir}")
    for heading in ("key", "seed", "epochs", "state", "command"):
        table.add_column(heading)
    for row in rows:
        skip_reason = _skip_reason(row, dataset, device_type)
        for seed in row.seeds:
            state = skip_reason or runner.state(row, seed)
            table.add_row(row.key, str(seed), str(row.recipe.epochs), state, runner.command(row, seed))
    table_console().print(table)
