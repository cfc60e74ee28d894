"""Progress of a training run: a live bar on a terminal, and a log line per epoch."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.text import Text
from torch import Tensor

from nephros.console import shows_bars
from nephros.text_tables import format_minutes
from nephros.training.history import EpochMetrics

logger = logging.getLogger(__name__)

STEPS_BEFORE_ESTIMATE = 100
"""Steps of a run after which its duration is known well enough to say."""


def format_duration(seconds: float) -> str:
    """Return minutes and seconds, such as 4:05."""
    minutes, remainder = divmod(round(seconds), 60)
    return f"{minutes}:{remainder:02d}"


class _StatusColumn(ProgressColumn):
    """Shows the latest figures, from the task's field `status`."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields["status"]))


class NullCallback:
    """A StepCallback that does nothing."""

    def on_step_end(self, epoch: int, n_images: int, loss: Tensor) -> None:
        """Do nothing."""

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        """Do nothing."""


class ProgressCallback:
    """A StepCallback that shows progress; use it as a context manager around a run.

    Epochs are logged. On a terminal a bar also shows the position within the run and the latest loss.
    """

    _REFRESH_SECONDS = 0.25
    """Seconds between updates of the bar: reading the loss makes the CPU wait for a GPU."""

    def __init__(self, epochs: int, images_per_epoch: int, console: Console | None = None) -> None:
        self.epochs, self.images_per_epoch = epochs, images_per_epoch
        self.console = console or Console(stderr=True)
        self.interactive = shows_bars(self.console)
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TaskProgressColumn(),
            _StatusColumn(),
            console=self.console,
        )
        self._task = self._bar.add_task("train", total=epochs * images_per_epoch, epoch=f"1/{epochs}", status="")
        self._images_done, self._val_status = 0, ""
        self._start = self._last_refresh = time.perf_counter()
        self._images_resumed = self._n_steps = 0

    def __enter__(self) -> Self:
        if self.interactive:
            self._bar.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.interactive:
            self._bar.stop()

    def on_resume(self, history: list[EpochMetrics]) -> None:
        """Count the epochs that an earlier process trained."""
        self._images_resumed = len(history) * self.images_per_epoch
        self._bar.update(self._task, completed=self._images_resumed)
        logger.info("resuming after epoch %d/%d", len(history), self.epochs)

    def on_step_end(self, epoch: int, n_images: int, loss: Tensor) -> None:
        """Move the bar, at most four times per second; once, say how long the run will take."""
        self._images_done += n_images
        self._n_steps += 1
        now = time.perf_counter()
        if self._n_steps == STEPS_BEFORE_ESTIMATE:
            self._log_estimate(now)
        if not self.interactive or now - self._last_refresh < self._REFRESH_SECONDS:
            return
        self._last_refresh = now
        images_per_second = self._images_done / (now - self._start)
        images_left = self.epochs * self.images_per_epoch - self._images_resumed - self._images_done
        time_left = format_duration(images_left / images_per_second)
        self._bar.update(
            self._task,
            completed=self._images_resumed + self._images_done,
            epoch=f"{epoch}/{self.epochs}",
            status=f"loss {loss.item():.4f}{self._val_status}  {images_per_second:,.0f} images/s  {time_left} left",
        )

    def _log_estimate(self, now: float) -> None:
        n_images = self.epochs * self.images_per_epoch - self._images_resumed
        if self._images_done >= min(n_images, self.images_per_epoch):  # the lines of epochs say how much time is left
            return
        seconds = (now - self._start) * n_images / self._images_done
        logger.info(
            f"training will take about {format_minutes(seconds / 60)} on this machine, and validation some more (measured over "
            f"{STEPS_BEFORE_ESTIMATE} steps, {self._images_done / (now - self._start):,.0f} images/s)"
        )

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        """Log the epoch's metrics."""
        self._val_status = f"  val accuracy {epoch.val_accuracy:.4f}"
        self._bar.update(self._task, completed=len(history) * self.images_per_epoch)
        epochs_done = max(1, len(history) - self._images_resumed // self.images_per_epoch)
        seconds_per_epoch = (time.perf_counter() - self._start) / epochs_done
        time_left = format_duration(seconds_per_epoch * (self.epochs - epoch.epoch))
        logger.info(
            f"epoch {epoch.epoch}/{self.epochs}  loss {epoch.train_loss:.4f}  accuracy {epoch.train_accuracy:.4f}  "
            f"val loss {epoch.val_loss:.4f}  val accuracy {epoch.val_accuracy:.4f}  "
            f"{epoch.images_per_second:,.0f} images/s  {time_left} left"
        )
