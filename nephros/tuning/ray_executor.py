"""A study's tasks as tasks of a Ray cluster; the schedule stays the driver's, and Ray only finds places and tells of losses.

A node needs the driver's versions of nephros and torch, and must reach the checkpoints. Answers are the same bits as long
as the nodes' processors are alike.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import socket
import time
import uuid
import warnings
from typing import Any

import numpy as np

from nephros.data.dataset import Dataset, Split
from nephros.environment import versions
from nephros.errors import UserError
from nephros.training.history import Epoch
from nephros.tuning.checkpoint_store import Store
from nephros.tuning.executors import EpochDone, Event, Hear, Lost
from nephros.tuning.settings import Settings
from nephros.tuning.study_state import Key
from nephros.tuning.trial import Task, outcome_from_dict

try:
    import ray
    from ray import exceptions as lost
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from nephros.tuning.ray_worker import SIGN, Study
except ImportError:
    raise UserError("--cluster needs Ray: pip install 'nephros[cluster]'.") from None

_DEATHS = (
    lost.WorkerCrashedError,
    lost.NodeDiedError,
    lost.LocalRayletDiedError,
    lost.OutOfMemoryError,  # Ray ends a worker before its node runs out of memory
    lost.ObjectLostError,
)
_SAME = ("nephros", "torch")
"""What must be of one version everywhere."""
_RECOUNT = 10.0
"""Seconds between two looks at what the cluster holds."""
_TRIES = 3
"""How often to ask a head that has no time for us."""

_joined = False
"""Whether it was `connect` that joined the cluster."""


def connect(address: str, checkpoints: str, settings: Settings) -> None:
    """Join the cluster, unless this process is in one; UserError when it, or the checkpoints, won't do for the study."""
    global _joined
    if "://" not in checkpoints or checkpoints.startswith("memory:"):
        raise UserError(
            f"--cluster needs --checkpoints at a URL that all nodes reach, such as s3://BUCKET/STUDY or file:///SHARED/STUDY "
            f"(a folder that all of them mount), not '{checkpoints}'."
        )
    if not ray.is_initialized():
        _join(address)
        _joined = True
    if not places(settings.threads, float(settings.device_type == "cuda")):
        leave()
        gpu = " and a GPU" if settings.device_type == "cuda" else ""
        raise UserError(
            f"The cluster at {address} has no node of {settings.threads} CPUs{gpu}, which a trial of this study takes: "
            "add one, or start a study of fewer --threads."
        )


def leave() -> None:
    """Leave the cluster, if it was `connect` that joined it."""
    global _joined
    if _joined:
        ray.shutdown()
        _joined = False


def _join(address: str) -> None:
    wanted = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    try:
        if wanted != "auto":
            _knock(wanted)
        _init(wanted)
    except Exception as error:
        raise UserError(
            f"--cluster {address} can't be joined ({_reason(error)}): give the address of a running Ray cluster of this "
            "version (ray://HOST:10001, or HOST:6379 or auto on one of its machines)."
        ) from None


def _init(address: str) -> None:
    # Ray would otherwise try for a quarter of an hour to reach a cluster that is no more.
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    for tries_left in reversed(range(_TRIES)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Ray's advice to programmers
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:
            ray.shutdown()  # half joined, this process could join nothing else
            # A head that is busy gives its own process for us up after half a minute.
            if not (tries_left and isinstance(error, ConnectionAbortedError)):
                raise


def _knock(address: str) -> None:
    """Raise an error at once where nobody listens at the address."""
    host, _, port = address.removeprefix("ray://").partition("/")[0].rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("it has no HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


class Cluster:
    """Does tasks wherever a Ray cluster has room."""

    def __init__(self, address: str, settings: Settings, dataset: Dataset, store: Store, workers: int | None) -> None:
        """Join the cluster and show it the data; UserError when that can't be, or no node has room for a trial.

        `workers` tasks run at once: by default as many as the nodes hold, counted anew while the cluster grows or shrinks.
        With more workers than GPUs, they share these.
        """
        self._address, self._store, self._workers = address, store, workers
        self._out: dict[Any, Key] = {}
        self._news: Any = None
        self._versions = {part: versions()[part] for part in _SAME}
        connect(address, store.root, settings)
        try:
            self._cpus, self._gpus = settings.threads, share(settings.device_type, workers)
            self._count()
            self._token = uuid.uuid4().hex
            store.save(SIGN, {"token": self._token})
            study = Study(_light(dataset), settings.device_type, settings.threads, store.root)
            self._study = ray.put(study)
            # Not in a task's way: it lives where the driver does, which can't be lost alone.
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            self._post: Any = _post().options(num_cpus=0, scheduling_strategy=here).remote()
            self._remote = _advance().options(
                num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0, scheduling_strategy="SPREAD"
            )
        except BaseException:
            self.close()
            raise

    def start(self, task: Task) -> None:
        """Give the task to Ray, which runs it where there is room."""
        ref = self._remote.remote(self._versions, self._token, [self._study], dataclasses.asdict(task), self._post)
        self._out[ref] = task.key

    def wait(self, hear: Hear, seconds: float) -> None:
        """Pass on what has happened; OSError or UserError when a node can't work, or the cluster is gone."""
        try:
            if time.monotonic() > self._counted + _RECOUNT:
                self._count()
            events = self._events(seconds)
        except lost.RayTaskError:
            raise
        except (lost.RayError, ConnectionError) as error:
            raise UserError(
                f"The cluster at {self._address} is gone ({_reason(error)}): go on with the study when it is back, or "
                "without it."
            ) from None
        for event in events:
            hear(event)

    def _events(self, seconds: float) -> list[Event]:
        """Return all that is known after the first news, or after `seconds`."""
        if self._news is None and self._post is not None:
            self._news = self._post.take.remote()
        refs = [*self._out, *([] if self._news is None else [self._news])]
        ready, _ = ray.wait(refs, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        events: list[Event] = []
        if self._news in ready:
            ready.remove(self._news)
            events += self._rows()
        return events + [self._result(ref) for ref in ready]

    def _rows(self) -> list[Event]:
        news, self._news = self._news, None
        try:
            told = ray.get(news)
        except lost.RayActorError:
            self._post = None  # no more news of single epochs: they come with the outcomes
            return []
        out = set(self._out.values())
        return [EpochDone(tuple(key), Epoch(**row)) for key, row in told if tuple(key) in out]

    def _result(self, ref: Any) -> Event:
        key = self._out.pop(ref)
        try:
            said = ray.get(ref)
        except _DEATHS:
            return Lost(key)
        if "outcome" in said:
            return outcome_from_dict(said["outcome"])
        trouble = f"Node {said['node']}: {said['trouble']}"
        raise OSError(said["errno"], trouble, said["file"]) if said["errno"] else UserError(trouble)

    def _count(self) -> None:
        """Count the places for trials; a cluster that has lost all of them keeps a task waiting for the next."""
        self.size = self._workers or max(1, places(self._cpus, self._gpus))
        self._counted = time.monotonic()

    def close(self) -> None:
        """Kill the tasks that are out, so that none writes a checkpoint beside a later driver's, and leave the cluster."""
        with contextlib.suppress(lost.RayError, ConnectionError):
            for ref in self._out:
                ray.cancel(ref, force=True)
            if self._out:
                ray.wait(list(self._out), num_returns=len(self._out), timeout=10)
        self._out.clear()
        with contextlib.suppress(OSError):
            self._store.delete(SIGN)
        leave()


def share(device: str, workers: int | None) -> float:
    """Return the part of a GPU that a trial gets."""
    if device != "cuda":
        return 0.0
    gpus = ray.cluster_resources().get("GPU", 0.0)
    return 1 / math.ceil(max(1.0, (workers or 1) / gpus)) if gpus else 1.0


def places(cpus: int, gpus: float) -> int:
    """Return how many trials the nodes hold."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    held = [int(node.get("CPU", 0) // cpus) for node in nodes]
    if gpus:
        held = [min(n, int(node.get("GPU", 0) / gpus + 1e-6)) for n, node in zip(held, nodes, strict=True)]
    return sum(held)


def _reason(error: Exception) -> str:
    """Return the first sentence of what Ray says; of a traceback from the head, what its last line says."""
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    lines = text.strip().split("\n")
    line = lines[-1] if "Traceback (most recent call last):" in lines else lines[0]
    return line.split(". ", 1)[0].rstrip(".")


def _light(dataset: Dataset) -> Dataset:
    """Return the data as plain arrays, which nodes share between processes; without the test split, which none may see."""
    hidden = Split(dataset.test.images[:0], dataset.test.labels[:0])
    # A mapped file would be copied into every process.
    plain = [Split(np.asarray(split.images), split.labels) for split in (dataset.train, dataset.val, hidden)]
    return dataclasses.replace(dataset, train=plain[0], val=plain[1], test=plain[2])


def _post() -> Any:
    """Return the actor where tasks leave their epochs for the driver: it alone can be told of a task that is under way."""

    class Post:
        def __init__(self) -> None:
            import asyncio

            self._rows: list[Any] = []
            self._news = asyncio.Event()

        async def put(self, key: list[int], row: dict[str, Any]) -> None:
            self._rows.append((key, row))
            self._news.set()

        async def take(self) -> list[Any]:
            await self._news.wait()
            self._news.clear()
            rows, self._rows = self._rows, []
            return rows

    return ray.remote(Post)


def _advance() -> Any:
    """Return the function that nodes run."""

    def advance(
        wanted: dict[str, str], token: str, study: list[Any], task: dict[str, Any], post: Any
    ) -> dict[str, Any]:
        try:
            from nephros.tuning.ray_worker import work
        except ImportError as error:
            import platform

            trouble = (
                f"it can't use nephros ({error}): pip install 'nephros[cluster]' there, in the version that is here."
            )
            return {"trouble": trouble, "errno": None, "file": None, "node": platform.node()}
        return work(wanted, token, study, task, post)

    return ray.remote(advance)
