"""The worker side of a Ray cluster: each process runs one task after another on data that it opens once."""

from __future__ import annotations

import dataclasses
import platform
from dataclasses import dataclass
from errno import EIO
from typing import Any

import ray
import torch

from nephros.data.dataset import Dataset
from nephros.device import resolve_device
from nephros.environment import package_versions
from nephros.errors import IncompatibleError, NephrosError
from nephros.training.history import EpochMetrics
from nephros.tuning.checkpoint_store import CheckpointStore
from nephros.tuning.trial import TrialRunner, outcome_to_dict, task_from_dict

SENTINEL = "cluster"
"""Name of a file beside the checkpoints that shows a node whether it sees the driver's checkpoints."""


@dataclass(frozen=True)
class RemoteStudy:
    """What every node needs, sent to each once."""

    dataset: Dataset
    device: str
    threads: int
    checkpoint_dir: str


_runners: dict[str, tuple[TrialRunner, int]] = {}
"""This process's runners and their threads, by token."""


def run_task(
    required_versions: dict[str, str], token: str, study_ref: list[Any], task: dict[str, Any], mailbox: Any
) -> dict[str, Any]:
    """Run a task on a node; return a message with its outcome, or with the error that keeps the node from running any task."""
    try:
        runner, threads = _runners[token] if token in _runners else _set_up(required_versions, token, study_ref)
        torch.set_num_threads(threads)

        def on_epoch(metrics: EpochMetrics) -> None:
            if mailbox is not None:
                mailbox.put.remote(task["key"], dataclasses.asdict(metrics))

        return {"outcome": outcome_to_dict(runner.run_task(task_from_dict(task), on_epoch))}
    except OSError as error:
        message, errno, file = error.strerror or str(error), error.errno or EIO, error.filename
    except NephrosError as error:
        message, errno, file = str(error), None, None
    return {"error_message": message, "errno": errno, "file": file, "node": platform.node()}


def _set_up(required_versions: dict[str, str], token: str, study_ref: list[Any]) -> tuple[TrialRunner, int]:
    """Set up this process for a study; IncompatibleError when its results could differ from the driver's."""
    for package, version in required_versions.items():
        if package_versions()[package] != version:
            raise IncompatibleError(
                f"it has {package} {package_versions()[package]} where the driver has {version}, which may compute "
                "differently: install the same version everywhere."
            )
    remote_study: RemoteStudy = ray.get(study_ref[0])
    store = CheckpointStore(remote_study.checkpoint_dir)
    sentinel = store.load(SENTINEL)
    if sentinel is None or sentinel["token"] != token:
        raise IncompatibleError(
            f"it sees other files at {remote_study.checkpoint_dir} than the driver: choose a `checkpoint_dir` that all nodes "
            "reach, or mount the folder on all of them."
        )
    _runners.clear()
    _runners[token] = (
        TrialRunner(remote_study.dataset, resolve_device(remote_study.device), store),
        remote_study.threads,
    )
    return _runners[token]
