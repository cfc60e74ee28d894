"""A study's progress: a live table on a terminal, and a log message per rung."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nephros.console import TextConsole, shows_bars
from nephros.text_tables import pluralize, terminal_table
from nephros.training.progress import format_duration
from nephros.tuning.hyperband import Bracket, RungState, is_failed
from nephros.tuning.settings import StudySettings
from nephros.tuning.study_state import StudyState
from nephros.tuning.trial import Task

logger = logging.getLogger(__name__)


class StudyProgress:
    """A StudyCallback that shows progress; use it as a context manager around a run."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or TextConsole(stderr=True)
        self._live = Live(console=self.console, auto_refresh=False) if shows_bars(self.console) else None
        self._baseline: tuple[float, int] | None = None
        self._refreshed_at = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def on_update(self, study_state: StudyState, running: list[Task]) -> None:
        """Redraw the table, at most four times per second."""
        now = time.monotonic()
        if self._baseline is None:
            self._baseline = now, study_state.trained_epochs
        if self._live and now - self._refreshed_at > 0.25:
            self._refreshed_at = now
            summary = Text(self._summary(study_state, running), style="bold")
            self._live.update(Group(progress_table(study_state), summary), refresh=True)

    def on_rung_end(self, study_state: StudyState, bracket: Bracket, rung_state: RungState) -> None:
        """Log a line for a closed rung, with an estimate of the time left."""
        scores = [score for score in rung_state.scores.values() if score is not None and not is_failed(score)]
        n_failed = len(rung_state.members) - len(scores)
        best_text = f"best {study_state.settings.metric} {abs(max(scores)):.4f}" if scores else "all failed"
        message = f"bracket s={bracket.s}: {len(rung_state.members)} at {pluralize(rung_state.rung.epochs, 'epoch')}, {best_text}"
        message += f", {n_failed} failed" if n_failed else ""
        message += f", {len(rung_state.promoted)} promoted" if rung_state.promoted else ", bracket finished"
        logger.info("%s  |  %s", message, self._summary(study_state, []))

    def _summary(self, study_state: StudyState, running: list[Task]) -> str:
        parts = [f"{study_state.trained_epochs}/{study_state.planned_epochs} epochs"]
        if running:
            parts.append(
                f"running {', '.join(f's{task.key[0]}#{task.key[1]} to {task.stop_epoch}' for task in running[:8])}"
            )
        best = study_state.best
        if best is not None:
            parts.append(f"best {study_state.settings.metric} {best.value:.4f} (s{best.key[0]}#{best.key[1]})")
        seconds_left = self._seconds_left(study_state)
        if seconds_left is not None:
            parts.append(f"{format_duration(seconds_left)} left")
        return "  ".join(parts)

    def _seconds_left(self, study_state: StudyState) -> float | None:
        """Return the estimated seconds left, from the epochs of this process; None before the first."""
        if self._baseline is None or study_state.trained_epochs == self._baseline[1]:
            return None
        seconds_per_epoch = (time.monotonic() - self._baseline[0]) / (study_state.trained_epochs - self._baseline[1])
        return seconds_per_epoch * max(0, study_state.planned_epochs - study_state.trained_epochs)


def progress_table(study_state: StudyState) -> Table:
    """Return a table of a study's rungs, each with its progress and its best score so far."""
    table = Table(
        "bracket", "rung", "configurations", "epochs", "done", "best", title=f"study {study_state.settings.name}"
    )
    for bracket in study_state.settings.planned_brackets:
        rung_states = study_state.rung_states(bracket)
        for i, rung in enumerate(bracket.rungs):
            name = f"s={bracket.s}" if i == 0 else ""
            if i >= len(rung_states):
                table.add_row(name, str(i), f"({rung.n_configs})", str(rung.epochs), "", "", style="dim")
                continue
            rung_state = rung_states[i]
            scores = [score for score in rung_state.scores.values() if score is not None and not is_failed(score)]
            best_text = f"{abs(max(scores)):.4f}" if scores else ""
            done = f"{len(rung_state.scores)}/{len(rung_state.members)}"
            table.add_row(name, str(i), str(len(rung_state.members)), str(rung.epochs), done, best_text)
    return table


def plan_table(settings: StudySettings) -> Table:
    """Return a table of the brackets and rungs that a study will run, with their cost in epochs."""
    rows = []
    for bracket in settings.planned_brackets:
        rungs = ", ".join(f"{rung.n_configs} at {rung.epochs}" for rung in bracket.rungs)
        rows.append([f"s={bracket.s}", rungs, f"{bracket.total_epochs:,}", f"{bracket.restarted_epochs:,}"])
    if len(settings.planned_brackets) > 1:
        configs = sum(bracket.n_configs for bracket in settings.planned_brackets)
        total = sum(bracket.total_epochs for bracket in settings.planned_brackets)
        restarted = sum(bracket.restarted_epochs for bracket in settings.planned_brackets)
        rows.append(["all", f"{configs} configurations", f"{total:,}", f"{restarted:,}"])
    numeric = ("total epochs", "if rungs restarted")
    return terminal_table(_title(settings), ("bracket", "configurations at epochs", *numeric), rows, numeric=numeric)


def _title(settings: StudySettings) -> str:
    return f"Hyperband, R = {settings.max_epochs}, eta = {settings.eta}, ranked by {settings.metric}"
