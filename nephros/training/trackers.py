"""Experiment trackers as callbacks: TensorBoard, MLflow and Weights & Biases. Each is an extra of its name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Protocol

from nephros.errors import InvalidArgument, require_extra
from nephros.evaluation.metrics import Metrics
from nephros.recipe import Recipe
from nephros.runs import RunFolder
from nephros.training.callbacks import Callback
from nephros.training.history import EpochMetrics

SCALARS = (
    "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_macro_f1", "val_auc", "images_per_second",
)  # fmt: skip
"""Fields of EpochMetrics that trackers get after each epoch."""
FINAL_METRICS = ("accuracy", "auc", "macro_f1", "loss", "expected_calibration_error")
"""Fields of Metrics that trackers get for val and, where it was scored, test at the end, such as ``final/val_accuracy``."""


class Tracker(Callback, Protocol):
    """A callback that writes to a tracker."""

    def close(self, error: BaseException | None) -> None:
        """End the tracker's own run, which would stay open: as failed where an error, or an interruption, ended training."""


class TensorBoardTracker:
    """Writes event files to RUN/tensorboard, for `tensorboard --logdir RUN`."""

    def __init__(self, folder: RunFolder, recipe: Recipe) -> None:
        with require_extra("TensorBoard is not installed: pip install 'nephros[tensorboard]'.", "tensorboard"):
            from torch.utils.tensorboard import SummaryWriter
        self._writer: Any = SummaryWriter(str(folder.root / "tensorboard"))
        self._writer.add_text("recipe", f"```\n{flat_fields(recipe)}\n```")

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        """Write the epoch's metrics, with the epoch as the step."""
        for name, value in _epoch_scalars(epoch).items():
            self._writer.add_scalar(name, value, epoch.epoch)
        self._writer.flush()

    def on_train_end(self, run: RunFolder) -> None:
        """Write the final metrics."""
        for name, value in final_scalars(run).items():
            self._writer.add_scalar(name, value)

    def close(self, error: BaseException | None) -> None:
        """Close the file."""
        self._writer.close()


class MLflowTracker:
    """Logs a run of MLflow, wherever MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say."""

    def __init__(self, folder: RunFolder, recipe: Recipe) -> None:
        with require_extra("MLflow is not installed: pip install 'nephros[mlflow]'.", "mlflow"):
            import mlflow
        self._client: Any = mlflow
        mlflow.start_run(run_name=folder.root.name, nested=True)  # within a run that the caller has open, if any
        mlflow.log_params(flat_fields(recipe))

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        """Log the epoch's metrics, with the epoch as the step."""
        self._client.log_metrics(_epoch_scalars(epoch), step=epoch.epoch)

    def on_train_end(self, run: RunFolder) -> None:
        """Log the final metrics."""
        self._client.log_metrics(final_scalars(run))

    def close(self, error: BaseException | None) -> None:
        """End MLflow's run."""
        status = "FINISHED" if error is None else "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        self._client.end_run(status)


class WandbTracker:
    """Logs a run of Weights & Biases, as WANDB_PROJECT, WANDB_MODE and its other variables say; its files go to RUN/wandb."""

    def __init__(self, folder: RunFolder, recipe: Recipe) -> None:
        with require_extra("Weights & Biases is not installed: pip install 'nephros[wandb]'.", "wandb"):
            import wandb
        self._run: Any = wandb.init(name=folder.root.name, dir=str(folder.root), config=recipe.to_dict())

    def on_epoch_end(self, epoch: EpochMetrics, history: list[EpochMetrics]) -> None:
        """Log the epoch's metrics, with the epoch as the step."""
        self._run.log(_epoch_scalars(epoch), step=epoch.epoch)

    def on_train_end(self, run: RunFolder) -> None:
        """Store the final metrics in the summary."""
        self._run.summary.update(final_scalars(run))

    def close(self, error: BaseException | None) -> None:
        """Finish the run."""
        self._run.finish(exit_code=0 if error is None else 1)


TRACKERS: dict[str, Callable[[RunFolder, Recipe], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MLflowTracker,
    "wandb": WandbTracker,
}
"""Name, as `nephros.train` takes it, -> the tracker."""
_MODULES = {"tensorboard": "torch.utils.tensorboard", "mlflow": "mlflow", "wandb": "wandb"}


def check_tracker(log: str | None) -> None:
    """Raise InvalidArgument for a tracker that doesn't exist, and MissingDependency for one that is not installed."""
    if log is None:
        return
    if log not in TRACKERS:
        raise InvalidArgument("log", log, f"one of {', '.join(TRACKERS)}")
    import importlib

    with require_extra(f"{log} is not installed: pip install 'nephros[{log}]'.", log):
        importlib.import_module(_MODULES[log])


def _epoch_scalars(epoch: EpochMetrics) -> dict[str, float]:
    values = {name: float(getattr(epoch, name)) for name in SCALARS}
    return {name: value for name, value in values.items() if value == value}  # a split may lack what AUC needs


def final_scalars(run: RunFolder) -> dict[str, float]:
    """Return the final metrics of a run's scored splits by name."""
    values: dict[str, float] = {}
    for split in ("val", "test"):
        with contextlib.suppress(Exception):
            metrics = Metrics.from_run(run, split)
            scores = {name: getattr(metrics, name) for name in FINAL_METRICS}
            values |= {f"final/{split}_{name}": float(score) for name, score in scores.items() if score is not None}
    return values


def flat_fields(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe's fields by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in recipe.to_dict().items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            flat[key] = value
    return flat
