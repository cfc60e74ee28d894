"""Runs beside one another and beside published results, as a value."""

from __future__ import annotations

from dataclasses import dataclass

from nephros.evaluation.leaderboard import LeaderboardRow
from nephros.evaluation.significance import PairedComparison


@dataclass(frozen=True)
class Comparison:
    """What `nephros compare` shows."""

    split: str
    """test or val."""
    title: str
    """The runs' data; several, where they differ, joined by semicolons."""
    rows: list[LeaderboardRow]
    """Runs and published results, the highest accuracy first."""
    paired_tests: list[tuple[str, str, PairedComparison]]
    """(better run, another, how they differ), the best run against each other one on the same images."""
    notes: list[str]
    """What a reader must know before setting the rows beside each other."""
