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
from nephros.environment import versions
from nephros.errors import UserError
from nephros.training.history import Epoch
from nephros.tuning.checkpoint_store import Store
from nephros.tuning.trial import Bench, outcome_to_dict, task_from_dict

SIGN = "cluster"
"""Name of the file beside the checkpoints by which a node sees that it reaches the driver's place."""


@dataclass(frozen=True)
class Study:
    """What every node needs, sent once to each."""

    dataset: Dataset
    device: str
    threads: int
    checkpoints: str


_benches: dict[str, tuple[Bench, int]] = {}
"""Of this process, by token: Ray gives it one task after another."""


def work(wanted: dict[str, str], token: str, study: list[Any], task: dict[str, Any], post: Any) -> dict[str, Any]:
    """Do a task on a node, and return its outcome, or the trouble that keeps any task from being done there."""
    try:
        bench, threads = _benches[token] if token in _benches else _open(wanted, token, study)
        torch.set_num_threads(threads)

        def tell(row: Epoch) -> None:
            if post is not None:
                post.put.remote(task["key"], dataclasses.asdict(row))

        return {"outcome": outcome_to_dict(bench.advance(task_from_dict(task), tell))}
    except OSError as error:
        trouble, errno, file = error.strerror or str(error), error.errno or EIO, error.filename
    except UserError as error:
        trouble, errno, file = str(error), None, None
    return {"trouble": trouble, "errno": errno, "file": file, "node": platform.node()}


def _open(wanted: dict[str, str], token: str, study: list[Any]) -> tuple[Bench, int]:
    """Set a process up for a study; UserError when this node could not give the driver's answers."""
    for part, version in wanted.items():
        if versions()[part] != version:
            raise UserError(
                f"it has {part} {versions()[part]} where the driver has {version}, which may compute otherwise: install one "
                "version everywhere."
            )
    held: Study = ray.get(study[0])
    store = Store(held.checkpoints)
    sign = store.load(SIGN)
    if sign is None or sign["token"] != token:
        raise UserError(
            f"--checkpoints {held.checkpoints} is not the place there that it is here: give a URL that all nodes reach, or "
            "mount the folder on all of them."
        )
    _benches.clear()
    _benches[token] = Bench(held.dataset, devices.choose(held.device), store), held.threads
    return _benches[token]
