"""The transfer experiment in jobs: one per source that is to be trained, and one per task and number of labels, for its draws."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from pathlib import Path

from nephros.data.load import find_local_file, load_dataset
from nephros.experiments.transfer import (
    LABELS_PER_CLASS,
    N_DRAWS,
    TransferRow,
    TransferTask,
    draw_labels,
    task_splits,
)
from nephros.workflows.transfer import read_rows, reproduce_transfer

QUICK_METHODS = ("head",)
Cell = tuple[str, int, int]
"""Task, labels per class, and number of the draw."""


def draw_folder(runs: Path, task: str, size: int) -> Path:
    """Return the folder of the draws of a number of labels."""
    return runs / "draws" / f"{task}-{size}"


def rows_so_far(runs: Path, earlier: Path | None) -> list[TransferRow]:
    """Return the rows of all draws that are done: those of a file, if given, and those in RUNS."""
    files = [*([earlier] if earlier is not None else []), *sorted(runs.glob("draws/*/transfer/rows.csv"))]
    rows: dict[Cell, list[TransferRow]] = {}
    for file in files:
        by_cell: dict[Cell, list[TransferRow]] = {}
        for row in read_rows(file):
            by_cell.setdefault(row.cell, []).append(row)
        rows = {**by_cell, **rows}
    return list(itertools.chain(*rows.values()))


def missing_cells(tasks: Sequence[TransferTask], done: Collection[Cell]) -> list[Cell]:
    """Return the draws that are to be made, in the order of their worth.

    The tasks of the source that has fewest draws come first, those that train theirs before others, and of each source the first
    draw of every number of labels. Data sets that are not here are left out, and so are numbers of labels that a class lacks.
    """

    def group(task: TransferTask) -> tuple[int, bool, str]:
        kind = (task.source, task.data, task.knows_classes)
        alike = {other.key for other in tasks if (other.source, other.data, other.knows_classes) == kind}
        return sum(cell[0] in alike for cell in done), not task.trains_its_source, task.source + task.data

    cells = []
    for _, alike in itertools.groupby(sorted(tasks, key=group), key=group):
        sizes = {task.key: _possible_sizes(task) for task in alike}
        cells += [
            (key, size, draw)
            for draw in range(N_DRAWS)
            for size in LABELS_PER_CLASS
            for key in sizes
            if size in sizes[key]
        ]
    return [cell for cell in cells if cell not in done]


def _possible_sizes(task: TransferTask) -> tuple[int, ...]:
    if task.classes:
        return LABELS_PER_CLASS
    if find_local_file(task.data) is None:
        return ()
    pool, _, _ = task_splits(task, load_dataset(task.data))
    return tuple(size for size in LABELS_PER_CLASS if draw_labels(pool, size, 0) is not None)


def train_source(task: str, runs: Path, data: str, device: str, quick: bool) -> None:
    """Train the source of a task, or resume it."""
    epochs = 1 if quick else None
    reproduce_transfer(data, only=[task], runs=runs, out=runs, device=device, labels_per_class=(), epochs=epochs)


def run_draws(task: str, size: int, draws: Sequence[int], runs: Path, data: str, device: str, quick: bool) -> None:
    """Run all methods on draws of a number of labels, in a folder of theirs that shares the task's source."""
    folder, source = draw_folder(runs, task, size), runs / "transfer" / task
    (folder / "transfer").mkdir(parents=True, exist_ok=True)
    link = folder / "transfer" / task
    if source.exists() and not link.exists():
        link.symlink_to(source.resolve())
    reproduce_transfer(
        data,
        only=[task],
        runs=folder,
        out=folder,
        device=device,
        epochs=1 if quick else None,
        labels_per_class=(size,),
        draws=draws,
        methods=QUICK_METHODS if quick else None,
    )
