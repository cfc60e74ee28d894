"""Showing a run's progress: a live bar on a terminal, one plain line an epoch elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.text import Text
from torch import Tensor

from nephros.training.history import Epoch


def clock(seconds: float) -> str:
    """Return minutes and seconds, such as 4:05."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


class _Status(ProgressColumn):
    """The newest figures, as the task's fields say them."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields["status"]))


class NoProgress:
    """A Listener that shows nothing."""

    def step(self, epoch: int, images: int, loss: Tensor) -> None:
        """Do nothing."""

    def epoch(self, row: Epoch, rows: list[Epoch]) -> None:
        """Do nothing."""


class ShowProgress:
    """A Listener for people; use it as a context manager around a run."""

    _REFRESH = 0.25
    """Seconds between updates of the bar: reading the loss waits for a GPU."""

    def __init__(self, epochs: int, images: int, console: Console | None = None) -> None:
        self.epochs, self.images = epochs, images
        self.console = console or Console(stderr=True)
        self.live = self.console.is_terminal
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"), BarColumn(), TaskProgressColumn(), _Status(), console=self.console
        )
        self._task = self._bar.add_task("train", total=epochs * images, epoch=f"1/{epochs}", status="")
        self._seen, self._validated = 0, ""
        self._start = self._shown = time.perf_counter()
        self._skipped = 0

    def __enter__(self) -> Self:
        if self.live:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def resumed(self, rows: list[Epoch]) -> None:
        """Take note of the epochs that an earlier process did."""
        self._skipped = len(rows) * self.images
        self._bar.update(self._task, completed=self._skipped)
        self.console.print(f"resuming after epoch {len(rows)}/{self.epochs}", highlight=False)

    def step(self, epoch: int, images: int, loss: Tensor) -> None:
        """Move the bar, at most four times a second."""
        self._seen += images
        now = time.perf_counter()
        if not self.live or now - self._shown < self._REFRESH:
            return
        self._shown = now
        rate = self._seen / (now - self._start)
        left = (self.epochs * self.images - self._skipped - self._seen) / rate
        status = f"loss {loss.item():.4f}{self._validated}  {rate:,.0f} images/s  {clock(left)} left"
        self._bar.update(
            self._task, completed=self._skipped + self._seen, epoch=f"{epoch}/{self.epochs}", status=status
        )

    def epoch(self, row: Epoch, rows: list[Epoch]) -> None:
        """Print the epoch's figures."""
        self._validated = f"  val accuracy {row.val_accuracy:.4f}"
        self._bar.update(self._task, completed=len(rows) * self.images)
        took = (time.perf_counter() - self._start) / max(1, len(rows) - self._skipped // self.images)
        self.console.print(
            f"epoch {row.epoch}/{self.epochs}  loss {row.train_loss:.4f}  accuracy {row.train_accuracy:.4f}  "
            f"val loss {row.val_loss:.4f}  val accuracy {row.val_accuracy:.4f}  "
            f"{row.images_per_second:,.0f} images/s  {clock(took * (self.epochs - row.epoch))} left",
            highlight=False,
            soft_wrap=True,
        )
