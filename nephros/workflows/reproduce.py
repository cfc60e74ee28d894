"""Carrying out a plan of training runs, resumable, with its tables written again after each run."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from nephros import device as devices
from nephros.data.dataset import Dataset
from nephros.data.load import data_request, is_builtin, load_dataset
from nephros.errors import DivergedError, IncompatibleError, InvalidArgument, LockedError, UnknownName
from nephros.experiments.plans import PlanRow, baselines_plan, labels_plan, nephros_plan, select_by_key
from nephros.experiments.results import load_seed_results
from nephros.recipe_io import get_recipe
from nephros.reporting.reproduction import write_baselines_table, write_labels_table, write_nephros_table
from nephros.runs import RunFolder
from nephros.workflows.resume import resume
from nephros.workflows.train import train
from nephros.workflows.transfer import planned_tasks, reproduce_transfer

PLANS = ("baselines", "labels", "nephros", "transfer")

logger = logging.getLogger(__name__)


def reproduce(
    plan: str = "baselines",
    data: str = "tissuemnist",
    *,
    only: Sequence[str] = (),
    runs: str | Path = "runs",
    out: str | Path | None = None,
    device: str = "auto",
    epochs: int | None = None,
) -> list[Path]:
    """Train what is missing of a plan, and write the table of all its finished runs; return the table's files.

    Finished runs are not repeated, interrupted ones continue, and a run that another process is training is left to it, so
    that several processes may share a plan.

    Args:
        plan: baselines, labels, nephros or transfer.
        data: name or path of the data.
        only: keys of the rows to train; by default all.
        runs: folder of the runs, which are RUNS/PLAN/KEY-SEED.
        out: folder of the tables; by default results/, or with `epochs` the folder of the plan's runs.
        device: auto, cpu or cuda.
        epochs: limit on every run's epochs, to try a plan out.

    Raises:
        UnknownName: `plan` or a key in `only` does not exist.
        IncompatibleError: a run folder holds another run than the plan's.
    """
    if plan == "transfer":
        return reproduce_transfer(data, only=only, runs=runs, out=out, device=device, epochs=epochs)
    runner = _PlanRunner.create(plan, data, runs, out, device, epochs)
    pending: list[tuple[PlanRow, int]] = []
    for row in runner.select(only):
        skip_reason = runner.skip_reason(row)
        if skip_reason:
            logger.info("%s: skipped, %s", row.label, skip_reason)
        else:
            pending += [(row, seed) for seed in row.seeds]
    for number, (row, seed) in enumerate(pending, start=1):
        if runner.state(row, seed) in ("done", "diverged"):
            continue
        if teacher_problem := runner.teacher_problem(row):
            logger.info("%s: skipped, %s", row.label, teacher_problem)
            continue
        logger.info("run %d of %d: %s, seed %d", number, len(pending), row.label, seed)
        runner.train(row, seed)
        runner.write_tables()
    return runner.write_tables()


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run of a plan, as `planned_runs` lists it."""

    key: str
    seed: int
    epochs: int
    state: str
    """pending, started, done, diverged, or why it is skipped here."""
    command: str
    """The command that trains it alone."""


def planned_runs(
    plan: str = "baselines",
    data: str = "tissuemnist",
    *,
    only: Sequence[str] = (),
    runs: str | Path = "runs",
    device: str = "auto",
    epochs: int | None = None,
) -> list[PlannedRun]:
    """Return the runs that `reproduce` with the same arguments would go through, without doing anything."""
    if plan == "transfer":
        return [
            PlannedRun(task.key, 0, get_recipe(task.source).epochs, state, task.command)
            for task, state in planned_tasks(only, runs)
        ]
    runner = _PlanRunner.create(plan, data, runs, None, device, epochs)
    return [
        PlannedRun(
            row.key,
            seed,
            row.recipe.epochs,
            runner.skip_reason(row) or runner.state(row, seed),
            runner.command(row, seed),
        )
        for row in runner.select(only)
        for seed in row.seeds
    ]


@dataclasses.dataclass(frozen=True)
class _PlanRunner:
    """A plan on some data, with the folders of its runs and tables."""

    plan: str
    rows: list[PlanRow]
    data: str
    dataset: Dataset
    device: str
    device_type: str
    runs_dir: Path
    tables_dir: Path
    epochs: int | None

    @classmethod
    def create(
        cls, plan: str, data: str, runs: str | Path, out: str | Path | None, device: str, epochs: int | None
    ) -> _PlanRunner:
        """Load the data and set the plan up; UnknownName for a plan that does not exist."""
        device_type = devices.resolve_device(device).type
        if plan not in PLANS:
            raise UnknownName("plan", plan, PLANS, hint=f"Choose from {', '.join(PLANS)}.")
        dataset = load_dataset(data)
        if plan == "baselines":
            rows = baselines_plan(device_type)
        else:
            rows = labels_plan(len(dataset.train)) if plan == "labels" else nephros_plan()
        rows = [row if epochs is None else _with_max_epochs(row, epochs) for row in rows]
        runs_dir = Path(runs).expanduser() / plan
        default_out = Path("results") if epochs is None else runs_dir
        tables_dir = default_out if out is None else Path(out).expanduser()
        return cls(plan, rows, data, dataset, device, device_type, runs_dir, tables_dir, epochs)

    def select(self, only: Sequence[str]) -> list[PlanRow]:
        """Return the rows with these keys, or all; UnknownName for a key that does not exist."""
        return select_by_key(self.rows, only, f"run of the plan {self.plan} named", "Its runs")

    def skip_reason(self, row: PlanRow) -> str:
        """Return why a row can't be trained here; empty where it can."""
        if row.needs_gpu and self.device_type == "cpu":
            return "needs a GPU"
        n_train, n_train_val = len(self.dataset.train), len(self.dataset.train) + len(self.dataset.val)
        if row.data_options.get("subset", 0) > n_train or sum(row.data_options.get("resplit", ())) > n_train_val:
            return "needs more images than the data has"
        return ""

    @property
    def flags(self) -> str:
        """Flags that a command needs for this data and device."""
        options = [("--data", self.data, "tissuemnist"), ("--device", self.device, "auto")]
        return " ".join(f"{flag} {value}" for flag, value, default in options if value != default)

    @property
    def source(self) -> str:
        """The data as run.json names it."""
        return str(data_request(self.data)["source"])

    def run_dir(self, row: PlanRow, seed: int) -> Path:
        """Return the folder of a run."""
        return self.runs_dir / f"{row.key}-{seed}"

    def state(self, row: PlanRow, seed: int) -> str:
        """Return pending, started, done or diverged; IncompatibleError when the folder holds another run than the plan's."""
        root = self.run_dir(row, seed)
        if not RunFolder.exists(root):
            return "pending"
        folder = RunFolder.open(root)
        if not row.matches_run(folder, self.source, seed, self.dataset.provenance.sha256):
            raise IncompatibleError(
                f"{root} holds a run of another recipe, on other data or with other teachers than the plan's: choose another "
                "folder for `runs`."
            )
        return {"complete": "done", "diverged": "diverged"}.get(folder.info().status, "started")

    def teachers(self, row: PlanRow) -> list[Path]:
        """Return the folders of the runs that a row is distilled from."""
        return [self.runs_dir / name for name in row.teachers]

    def teacher_problem(self, row: PlanRow) -> str:
        """Return why a row can't be distilled yet, or at all; empty where it can."""
        by_dir = {self.run_dir(other, seed): (other, seed) for other in self.rows for seed in other.seeds}
        states = {root.name: self.state(*by_dir[root]) for root in self.teachers(row)}
        if diverged := [name for name, state in states.items() if state == "diverged"]:
            return f"because its teachers diverged: {', '.join(diverged)}"
        missing = [name for name, state in states.items() if state != "done"]
        if missing:
            return f"because its teachers are not finished: {', '.join(missing)} (`only` {row.required_keys} trains them too)"
        return ""

    def command(self, row: PlanRow, seed: int) -> str:
        """Return the command that trains one run."""
        teacher_flags = f"--teachers {','.join(map(str, self.teachers(row)))}" if row.teachers else ""
        return row.command(seed, " ".join(flags for flags in (teacher_flags, self.flags) if flags))

    def train(self, row: PlanRow, seed: int) -> None:
        """Train a run to its end, from where it stopped; mark it when it diverges."""
        root = self.run_dir(row, seed)
        try:
            if RunFolder.exists(root):
                resume(root, None if is_builtin(self.data) else self.data, device=self.device)
                return
            data_options = row.data_options | ({"data_seed": seed} if row.data_options else {})
            command, teachers = self.command(row, seed), self.teachers(row)
            options = {"teachers": teachers, "test": True, "command": command, **data_options}
            train(row.with_seed(seed), self.data, out=root, device=self.device, **options)
        except LockedError:
            logger.info("%s, seed %d: left to the process that is training it", row.label, seed)
        except InvalidArgument as error:
            if error.parameter != "out" or not RunFolder.exists(root):
                raise
            logger.info("%s, seed %d: left to the process that began it meanwhile", row.label, seed)
        except DivergedError as error:
            logger.warning("%s, seed %d: %s", row.label, seed, error)
            folder = RunFolder.open(root)
            folder.write_info(dataclasses.replace(folder.info(), status="diverged"))

    def write_tables(self) -> list[Path]:
        """Write the plan's tables from the runs finished so far; return their paths."""
        sha256 = self.dataset.provenance.sha256
        results = [load_seed_results(row, self.runs_dir, self.source, sha256) for row in self.rows]
        epochs_flag = "" if self.epochs is None else f"--epochs {self.epochs}"
        flags = " ".join(part for part in (self.flags, epochs_flag) if part)
        writers = {"baselines": write_baselines_table, "labels": write_labels_table, "nephros": write_nephros_table}
        return writers[self.plan](results, self.tables_dir, flags)


def _with_max_epochs(row: PlanRow, epochs: int) -> PlanRow:
    return dataclasses.replace(row, recipe=dataclasses.replace(row.recipe, epochs=min(epochs, row.recipe.epochs)))
