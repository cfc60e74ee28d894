"""Multiply-adds that the networks of the frontier took to train: their own, and with all that they were made of.

A training image counts three times the network's multiply-adds: once forward, twice backward; each teacher's answer for a view
of an image counts once. A network is made of those whose weights it started from and of its teachers, and so are they; what
several of them have in common counts once.
"""

from __future__ import annotations

import csv
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from nephros.runs import RunFolder
from nephros.training.history import count_images_seen, read_history

CPU_SEEDS = ("nephros", "nephros-1")
"""Two seeds of one recipe."""
CPU_TEACHER, CPU_STUDENT = "nephros-distilled", "nephros-fast"
"""As they were bundled when a CPU had trained them; the seeds taught the first, and it the second."""
BUNDLED = {
    "de73036d": CPU_TEACHER,
    "f4310d92": CPU_STUDENT,
    "9953c7a3": "student-128",
    "bcff26e8": "student-64",
    "a1241b92": "second-128",
    "d2e409a6": "second-64",
    "f22b2ff6": "third-64",
    "6b353a3f": "second-32",
}
"""First digits of the digest of a bundled model's file, by which a run names it -> the network that it was, or is."""
TEACHER_VIEWS = 5
"""Views of an image for which teachers were asked, whatever the student's, when these networks were trained."""


@dataclass(frozen=True)
class TrainingCost:
    """Multiply-adds of a network's training, with its teachers' answers, and the networks that it was made of."""

    multiply_adds: float
    parents: tuple[str, ...] = ()


def training_costs(results: Path) -> dict[str, TrainingCost]:
    """Return the cost of each network that has its record in `results`, and of those that a CPU trained."""
    folders = {folder.name: RunFolder.open(folder) for folder in sorted((results / "frontier-runs").iterdir())}
    forward = {name: float(folder.info().multiply_adds) for name, folder in folders.items()}
    student, seed, teacher = _cpu_networks(results)
    forward[CPU_TEACHER] = float(teacher["multiply_adds"])
    one_seed, with_seeds = (float(row["training_multiply_adds_with_teachers"]) for row in (seed, teacher))
    n_images = sum(next(iter(folders.values())).info().class_counts["train"])
    answers = TEACHER_VIEWS * n_images * forward[CPU_TEACHER]
    trained = 3.0 * float(student["multiply_adds"]) * int(student["epochs"]) * n_images
    costs = {
        **dict.fromkeys(CPU_SEEDS, TrainingCost(one_seed)),
        CPU_TEACHER: TrainingCost(with_seeds - len(CPU_SEEDS) * one_seed, CPU_SEEDS),
        CPU_STUDENT: TrainingCost(trained + answers, (CPU_TEACHER,)),
    }
    for name, folder in folders.items():
        info = folder.info()
        teachers = [_network(teacher["run"], teacher["weights_sha256"], folders) for teacher in info.teachers]
        starts = [_network(info.init["source"], info.init["sha256"], folders)] if info.init else []
        trained = 3.0 * forward[name] * count_images_seen(read_history(folder.file("history.csv")))
        answers = TEACHER_VIEWS * n_images * sum(forward[teacher] for teacher in teachers)
        costs[name] = TrainingCost(trained + answers, (*starts, *teachers))
    return costs


def cost_of_all(name: str, costs: dict[str, TrainingCost]) -> float:
    """Return the multiply-adds of a network's training and of all that it was made of, each counted once."""
    return sum(costs[network].multiply_adds for network in _lineage(name, costs))


def _lineage(name: str, costs: dict[str, TrainingCost]) -> set[str]:
    return {name}.union(*(_lineage(parent, costs) for parent in costs[name].parents))


def _network(source: str, digest: str, known: Container[str]) -> str:
    """Return the network that a run names as a teacher or a start: a run of the table, or a bundled model of its time."""
    return name if (name := Path(source).name) in known else BUNDLED[digest[:8]]


def _cpu_networks(results: Path) -> list[dict[str, str]]:
    """Return the rows of the student, of a seed and of the teacher."""
    rows = []
    for table, column, name in (
        ("frontier-earlier.csv", "network", f"{CPU_STUDENT} (on a CPU)"),
        ("compute.csv", "run", "nephros-0"),
        ("compute.csv", "run", f"{CPU_TEACHER}-0"),
    ):
        with open(results / table, encoding="utf-8", newline="") as file:
            rows += [row for row in csv.DictReader(file) if row[column] == name]
    return rows
