"""Runs a study's tasks on a Ray cluster. Ray places tasks and reports losses; the driver keeps the schedule.

A node needs the driver's versions of nephros and torch, and access to the checkpoints. Results are equal to the last bit if
the nodes' processors are alike.
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

from nephros.data.dataset import Dataset
from nephros.data.split import Split
from nephros.environment import package_versions
from nephros.errors import IncompatibleError, InvalidArgument, NephrosError, require_extra
from nephros.training.history import EpochMetrics
from nephros.tuning.checkpoint_store import CheckpointStore
from nephros.tuning.executors import EpochDone, EventHandler, TaskEvent, WorkerLost
from nephros.tuning.settings import StudySettings
from nephros.tuning.study_state import ConfigKey
from nephros.tuning.trial import Task, outcome_from_dict

with require_extra("A Ray cluster needs Ray: pip install 'nephros[cluster]'.", "ray"):
    import ray
    from ray import exceptions as ray_exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from nephros.tuning.ray_worker import SENTINEL, RemoteStudy

_WORKER_LOST_ERRORS = (
    ray_exceptions.WorkerCrashedError,
    ray_exceptions.NodeDiedError,
    ray_exceptions.LocalRayletDiedError,
    ray_exceptions.OutOfMemoryError,  # Ray kills a worker before its node runs out of memory
    ray_exceptions.ObjectLostError,
)
_PINNED_PACKAGES = ("nephros", "torch")
"""Packages that need the same version on all nodes."""
_RECOUNT_INTERVAL_S = 10.0
"""Seconds between two counts of the cluster's resources."""
_MAX_ATTEMPTS = 3
"""Attempts to connect to a busy head node."""

_connected = False
"""Whether `connect` joined the cluster, not the caller."""


def connect(address: str, checkpoint_dir: str, settings: StudySettings) -> None:
    """Join the cluster, unless this process is in one already.

    Raises InvalidArgument when nodes can't reach `checkpoint_dir` or the cluster can't be joined, and IncompatibleError when
    no node is large enough for a trial.
    """
    global _connected
    if "://" not in checkpoint_dir or checkpoint_dir.startswith("memory:"):
        expected = (
            "a URL that all nodes of `ray_address` reach, such as s3://BUCKET/STUDY or file:///SHARED/STUDY (a folder that all "
            "of them mount)"
        )
        raise InvalidArgument("checkpoint_dir", checkpoint_dir, expected)
    if not ray.is_initialized():
        _connect(address)
        _connected = True
    if not count_slots(settings.threads_per_trial, float(settings.device_type == "cuda")):
        disconnect()
        gpu = " and a GPU" if settings.device_type == "cuda" else ""
        raise IncompatibleError(
            f"The cluster at {address} has no node with {settings.threads_per_trial} CPUs{gpu}, which each trial of this "
            "study needs: add one, or start a study with fewer `threads_per_trial`."
        )


def disconnect() -> None:
    """Leave the cluster, if `connect` joined it."""
    global _connected
    if _connected:
        ray.shutdown()
        _connected = False


def _connect(address: str) -> None:
    target = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
    try:
        if target != "auto":
            _check_reachable(target)
        _ray_init(target)
    except Exception as error:
        expected = (
            "the address of a running Ray cluster of this version (ray://HOST:10001; on its machines HOST:6379 or auto)"
        )
        raise InvalidArgument(
            "ray_address", address, expected, hint=f"Joining it failed: {_error_summary(error)}."
        ) from None


def _ray_init(address: str) -> None:
    # Otherwise Ray tries for a quarter of an hour to reach a cluster that is gone.
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    for attempts_left in reversed(range(_MAX_ATTEMPTS)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Ray's advice to developers
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:
            ray.shutdown()  # a process that is half connected could join no other cluster
            # A busy head gives up on its process for this client after half a minute.
            if not (attempts_left and isinstance(error, ConnectionAbortedError)):
                raise


def _check_reachable(address: str) -> None:
    """Raise an error at once when nothing listens at the address."""
    host, _, port = address.removeprefix("ray://").partition("/")[0].rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("it is not HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


class RayExecutor:
    """Runs tasks wherever a Ray cluster has room."""

    def __init__(
        self, address: str, settings: StudySettings, dataset: Dataset, store: CheckpointStore, workers: int | None
    ) -> None:
        """Join the cluster and send it the data; raises what `connect` raises.

        `workers` tasks run at once: by default as many as the nodes have room for, recounted as the cluster grows or shrinks.
        When there are more workers than GPUs, they share the GPUs.
        """
        self._address, self._store, self._workers = address, store, workers
        self._in_flight: dict[Any, ConfigKey] = {}
        self._pending_take: Any = None
        self._versions = {package: package_versions()[package] for package in _PINNED_PACKAGES}
        connect(address, store.root, settings)
        try:
            self._cpus, self._gpus = settings.threads_per_trial, gpu_share(settings.device_type, workers)
            self._update_size()
            self._token = uuid.uuid4().hex
            store.save(SENTINEL, {"token": self._token})
            study = RemoteStudy(
                _without_test_split(dataset), settings.device_type, settings.threads_per_trial, store.root
            )
            self._study_ref = ray.put(study)
            # Takes no CPU from tasks, and lives on the driver's node, so that it can't be lost alone.
            affinity = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            self._mailbox: Any = _mailbox_actor().options(num_cpus=0, scheduling_strategy=affinity).remote()
            self._run_remote = _remote_function().options(
                num_cpus=self._cpus, num_gpus=self._gpus, max_retries=0, scheduling_strategy="SPREAD"
            )
        except BaseException:
            self.close()
            raise

    def submit(self, task: Task) -> None:
        """Submit the task to Ray, which runs it where there is room."""
        ref = self._run_remote.remote(
            self._versions, self._token, [self._study_ref], dataclasses.asdict(task), self._mailbox
        )
        self._in_flight[ref] = task.key

    def wait(self, on_event: EventHandler, timeout: float) -> None:
        """Pass on events; OSError or NephrosError when a node can't run tasks or the cluster is gone."""
        try:
            if time.monotonic() > self._counted_at + _RECOUNT_INTERVAL_S:
                self._update_size()
            events = self._collect_events(timeout)
        except ray_exceptions.RayTaskError:
            raise
        except (ray_exceptions.RayError, ConnectionError) as error:
            raise NephrosError(
                f"The cluster at {self._address} is gone ({_error_summary(error)}): resume the study when it is back, or without "
                "it."
            ) from None
        for event in events:
            on_event(event)

    def _collect_events(self, timeout: float) -> list[TaskEvent]:
        """Return all events available once the first arrives, or after `timeout` seconds."""
        if self._pending_take is None and self._mailbox is not None:
            self._pending_take = self._mailbox.take.remote()
        refs = [*self._in_flight, *([] if self._pending_take is None else [self._pending_take])]
        ready, _ = ray.wait(refs, num_returns=1, timeout=timeout)
        if ready:
            ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        events: list[TaskEvent] = []
        if self._pending_take in ready:
            ready.remove(self._pending_take)
            events += self._epoch_events()
        return events + [self._task_event(ref) for ref in ready]

    def _epoch_events(self) -> list[TaskEvent]:
        take_ref, self._pending_take = self._pending_take, None
        try:
            rows = ray.get(take_ref)
        except ray_exceptions.RayActorError:
            self._mailbox = None  # from now on epochs come only with the outcomes
            return []
        in_flight = set(self._in_flight.values())
        return [EpochDone(tuple(key), EpochMetrics(**row)) for key, row in rows if tuple(key) in in_flight]

    def _task_event(self, ref: Any) -> TaskEvent:
        key = self._in_flight.pop(ref)
        try:
            reply = ray.get(ref)
        except _WORKER_LOST_ERRORS:
            return WorkerLost(key)
        if "outcome" in reply:
            return outcome_from_dict(reply["outcome"])
        message = f"Node {reply['node']}: {reply['error_message']}"
        raise OSError(reply["errno"], message, reply["file"]) if reply["errno"] else NephrosError(message)

    def _update_size(self) -> None:
        """Count the room for trials; in a cluster without any, one task waits for the next node."""
        self.size = self._workers or max(1, count_slots(self._cpus, self._gpus))
        self._counted_at = time.monotonic()

    def close(self) -> None:
        """Kill running tasks, lest they write checkpoints beside a later driver's, and leave the cluster."""
        with contextlib.suppress(ray_exceptions.RayError, ConnectionError):
            for ref in self._in_flight:
                ray.cancel(ref, force=True)
            if self._in_flight:
                ray.wait(list(self._in_flight), num_returns=len(self._in_flight), timeout=10)
        self._in_flight.clear()
        with contextlib.suppress(OSError):
            self._store.delete(SENTINEL)
        disconnect()


def gpu_share(device: str, workers: int | None) -> float:
    """Return the fraction of a GPU that each trial gets."""
    if device != "cuda":
        return 0.0
    gpus = ray.cluster_resources().get("GPU", 0.0)
    return 1 / math.ceil(max(1.0, (workers or 1) / gpus)) if gpus else 1.0


def count_slots(cpus: int, gpus: float) -> int:
    """Return how many trials the nodes have room for."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    slots = [int(node.get("CPU", 0) // cpus) for node in nodes]
    if gpus:
        slots = [min(n, int(node.get("GPU", 0) / gpus + 1e-6)) for n, node in zip(slots, nodes, strict=True)]
    return sum(slots)


def _error_summary(error: Exception) -> str:
    """Return the first sentence of Ray's message, or the last line of a traceback from the head."""
    text = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    lines = text.strip().split("\n")
    line = lines[-1] if "Traceback (most recent call last):" in lines else lines[0]
    return line.split(". ", 1)[0].rstrip(".")


def _without_test_split(dataset: Dataset) -> Dataset:
    """Return the data as plain arrays, which a node's processes share, without the test split, which no trial may see."""
    empty_test = Split(dataset.test.images[:0], dataset.test.labels[:0])
    # A memory-mapped file would be copied into every process.
    splits = [Split(np.asarray(split.images), split.labels) for split in (dataset.train, dataset.val, empty_test)]
    return dataclasses.replace(dataset, train=splits[0], val=splits[1], test=splits[2])


def _mailbox_actor() -> Any:
    """Return the actor class to which running tasks send their epochs for the driver: Ray returns only finished tasks."""

    class Mailbox:
        def __init__(self) -> None:
            import asyncio

            self._rows: list[Any] = []
            self._available = asyncio.Event()

        async def put(self, key: list[int], row: dict[str, Any]) -> None:
            self._rows.append((key, row))
            self._available.set()

        async def take(self) -> list[Any]:
            await self._available.wait()
            self._available.clear()
            rows, self._rows = self._rows, []
            return rows

    return ray.remote(Mailbox)


def _remote_function() -> Any:
    """Return the remote function that nodes run."""

    def remote_task(
        required_versions: dict[str, str], token: str, study_ref: list[Any], task: dict[str, Any], mailbox: Any
    ) -> dict[str, Any]:
        try:
            from nephros.environment import set_process_defaults

            set_process_defaults()
            from nephros.tuning.ray_worker import run_task
        except ImportError as error:
            import platform

            message = f"it can't use nephros ({error}): pip install 'nephros[cluster]' there, in the driver's version."
            return {"error_message": message, "errno": None, "file": None, "node": platform.node()}
        return run_task(required_versions, token, study_ref, task, mailbox)

    return ray.remote(remote_task)
