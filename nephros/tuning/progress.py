"""Showing a study while it runs: a live table on a terminal, a line for each rung elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nephros.training.progress import clock
from nephros.tuning.hyperband import Bracket, Standing, failed
from nephros.tuning.settings import Settings
from nephros.tuning.study_state import Records
from nephros.tuning.trial import Task


class ShowStudy:
    """A Watcher for people; use it as a context manager around a run."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self._start: tuple[float, int] | None = None
        self._shown = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def changed(self, records: Records, running: list[Task]) -> None:
        """Draw the table anew, at most four times a second."""
        now = time.monotonic()
        if self._start is None:
            self._start = now, records.epochs
        if self._live and now - self._shown > 0.25:
            self._shown = now
            left = Text(self._summary(records, running), style="bold")
            self._live.update(Group(progress_table(records), left), refresh=True)

    def closed(self, records: Records, bracket: Bracket, standing: Standing) -> None:
        """Print a line for a rung that is over; after the first, with what the whole study will take."""
        scores = [score for score in standing.scores.values() if score is not None and not failed(score)]
        lost = len(standing.members) - len(scores)
        top = f"best {records.settings.metric} {abs(max(scores)):.4f}" if scores else "none left"
        words = f"bracket s={bracket.s}: {len(standing.members)} at {_epochs(standing.rung.epochs)}, {top}"
        words += f", {lost} failed" if lost else ""
        words += f", {len(standing.promoted or ())} go on" if standing.promoted else ", bracket over"
        self.console.print(f"{words}  |  {self._summary(records, [])}", highlight=False, soft_wrap=True)

    def _summary(self, records: Records, running: list[Task]) -> str:
        parts = [f"{records.epochs}/{records.planned_epochs} epochs"]
        if running:
            parts.append(
                f"running {', '.join(f's{task.key[0]}#{task.key[1]} to {task.until}' for task in running[:8])}"
            )
        best = records.best
        if best is not None:
            parts.append(f"best {records.settings.metric} {best.value:.4f} (s{best.key[0]}#{best.key[1]})")
        left = self._left(records)
        if left is not None:
            parts.append(f"{clock(left)} left")
        return "  ".join(parts)

    def _left(self, records: Records) -> float | None:
        """Return an estimate of the seconds left, from the epochs that this process has seen."""
        if self._start is None or records.epochs == self._start[1]:
            return None
        pace = (time.monotonic() - self._start[0]) / (records.epochs - self._start[1])
        return pace * max(0, records.planned_epochs - records.epochs)


def _epochs(n: int) -> str:
    return f"{n} epoch{'s' if n > 1 else ''}"


def progress_table(records: Records) -> Table:
    """Return the rungs of a study, with how far each is and its best score so far."""
    table = Table("bracket", "rung", "configurations", "epochs", "done", "best", title=f"study {records.settings.name}")
    for bracket in records.settings.plan:
        standings = records.standings(bracket)
        for i, rung in enumerate(bracket.rungs):
            name = f"s={bracket.s}" if i == 0 else ""
            if i >= len(standings):
                table.add_row(name, str(i), f"({rung.configs})", str(rung.epochs), "", "", style="dim")
                continue
            standing = standings[i]
            scores = [score for score in standing.scores.values() if score is not None and not failed(score)]
            top = f"{abs(max(scores)):.4f}" if scores else ""
            done = f"{len(standing.scores)}/{len(standing.members)}"
            table.add_row(name, str(i), str(len(standing.members)), str(rung.epochs), done, top)
    return table


def plan_table(settings: Settings) -> Table:
    """Return the brackets and rungs that a study will run, with their cost in epochs."""
    table = Table("bracket", "configurations at epochs", "epochs in all", "if rungs restarted", title=_title(settings))
    for bracket in settings.plan:
        rungs = ", ".join(f"{rung.configs} at {rung.epochs}" for rung in bracket.rungs)
        table.add_row(f"s={bracket.s}", rungs, f"{bracket.epochs:,}", f"{bracket.restarted_epochs:,}")
    if len(settings.plan) > 1:
        configs = sum(bracket.configs for bracket in settings.plan)
        total = sum(bracket.epochs for bracket in settings.plan)
        restarted = sum(bracket.restarted_epochs for bracket in settings.plan)
        table.add_row("all", f"{configs} configurations", f"{total:,}", f"{restarted:,}")
    return table


def _title(settings: Settings) -> str:
    return f"Hyperband, R = {settings.max_epochs}, eta = {settings.eta}"
