"""What the nodes of a Ray cluster do: a task after another, each process on data that it opened once."""

from __future__ import annotations

import dataclasses
import platform
from dataclasses import dataclass
from errno import EIO
from typing import Any

import ray
import torch

from nephros import device as devices
from nephros.data.dataset import Dataset
from nephros.environment import package_versions
from nephros.errors import NephrosError
from nephros.training.history import EpochMetrics
from nephros.tuning.checkpoint_store import CheckpointStore
from nephros.tuning.trial import TrialRunner, outcome_to_dict, task_from_dict

SENTINEL = "cluster"
"""Name of the file beside the checkpoints by which a node sees that it reaches the driver's place."""


@dataclass(frozen=True)
class RemoteStudy:
    """What every node needs, sent once to each."""

    dataset: Dataset
    device: str
    threads: int
    checkpoints: str


_runners: dict[str, tuple[TrialRunner, int]] = {}
"""Of this process, by token: Ray gives it one task after another."""


def run_task(
    required_versions: dict[str, str], token: str, study_ref: list[Any], task: dict[str, Any], mailbox: Any
) -> dict[str, Any]:
    """Do a task on a node, and return its outcome, or the trouble that keeps any task from being done there."""
    try:
        runner, threads = _runners[token] if token in _runners else _set_up(required_versions, token, study_ref)
        torch.set_num_threads(threads)

        def on_epoch(row: EpochMetrics) -> None:
            if mailbox is not None:
                mailbox.put.remote(task["key"], dataclasses.asdict(row))

        return {"outcome": outcome_to_dict(runner.run_task(task_from_dict(task), on_epoch))}
    except OSError as error:
        message, errno, file = error.strerror or str(error), error.errno or EIO, error.filename
    except NephrosError as error:
        message, errno, file = str(error), None, None
    return {"error_message": message, "errno": errno, "file": file, "node": platform.node()}


def _set_up(required_versions: dict[str, str], token: str, study_ref: list[Any]) -> tuple[TrialRunner, int]:
    """Set a process up for a study; UserError when this node could not give the driver's answers."""
    for package, version in required_versions.items():
        if package_versions()[package] != version:
            raise NephrosError(
                f"it has {package} {package_versions()[package]} where the driver has {version}, which may compute "
                "otherwise: install one version everywhere."
            )
    remote_study: RemoteStudy = ray.get(study_ref[0])
    store = CheckpointStore(remote_study.checkpoints)
    sentinel = store.load(SENTINEL)
    if sentinel is None or sentinel["token"] != token:
        raise NephrosError(
            f"--checkpoints {remote_study.checkpoints} is not the place there that it is here: give a URL that all nodes "
            "reach, or mount the folder on all of them."
        )
    _runners.clear()
    _runners[token] = (
        TrialRunner(remote_study.dataset, devices.resolve_device(remote_study.device), store),
        remote_study.threads,
    )
    return _runners[token]
