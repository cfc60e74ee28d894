"""A real Ray cluster of two nodes on this machine: the same results as in one process, whatever dies on the way."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs Ray: pip install 'nephros[cluster]'")

import ray
from ray._private.utils import get_ray_address_file
from ray.cluster_utils import Cluster as LocalCluster

from nephros.data.dataset import Dataset
from nephros.errors import IncompatibleError, InvalidArgument, MissingDependency, NephrosError
from nephros.tuning import ray_executor
from nephros.tuning.checkpoint_store import CheckpointStore
from nephros.tuning.executors import EpochDone, EventHandler, TaskEvent, WorkerLost
from nephros.tuning.ray_executor import RayExecutor, connect, count_slots, gpu_share
from nephros.tuning.ray_worker import SENTINEL
from nephros.tuning.settings import plan_study
from nephros.tuning.study_state import StudyState
from nephros.tuning.trial import Outcome, Task
from nephros.workflows.tune import resume_study, tune
from tests.conftest import squares_dataset, write_npz
from tests.tuning.conftest import RECIPE, SPACE, SmallStudy, reproducible_part

pytestmark = [
    pytest.mark.slow,
    # Ray's own cluster utility leaves its log files open.
    pytest.mark.filterwarnings("ignore:unclosed file.*/session_:ResourceWarning"),
]
LIMIT = 90.0
PATIENCE = "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"
PLAN: dict[str, Any] = {"max_epochs": 9, "eta": 3, "brackets": "s=2"}


class LocalRayNodes:
    """Two nodes with one CPU each, and a head that runs no trials."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.folder = tempfile.mkdtemp(prefix="ray-")  # Ray's sockets need a short path, which pytest's isn't
        head: dict[str, Any] = {
            "num_cpus": 0,
            "include_dashboard": False,
            "ray_client_server_port": port,
            "temp_dir": self.folder,
        }
        head["env_vars"] = {PATIENCE: "120"}  # seconds: tests running in parallel may keep the machine busy
        # Ray writes its address to its default folder too, and fails where that is missing.
        Path(get_ray_address_file(None)).parent.mkdir(parents=True, exist_ok=True)
        self.cluster = LocalCluster(initialize_head=True, head_node_args=head)
        self.address, self.client = str(self.cluster.address), f"ray://127.0.0.1:{port}"
        self.nodes: list[Any] = []
        self.restore()

    def restore(self) -> None:
        while len(self.nodes) < 2:
            self.add()

    def add(self, **environment: str) -> None:
        self.nodes.append(self.cluster.add_node(num_cpus=1, env_vars=environment))

    def kill(self) -> None:
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def kill_busy_node(self) -> bool:
        """Kill a node in the middle of a task; return whether it was running one."""
        raylet = self._raylets[-1]
        for pid, parent in self.busy_processes().items():
            if parent == raylet:
                os.kill(pid, signal.SIGSTOP)  # so that the task can't finish first
                self.kill()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                return True
        return False

    def busy_processes(self) -> dict[int, int]:
        """Return the processes that run a task, each with its node's process."""
        processes = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent in self._raylets and (folder / "cmdline").read_bytes().startswith(b"ray::remote_task"):
                    processes[int(folder.name)] = parent
        return processes

    @property
    def _raylets(self) -> list[int]:
        return [node.all_processes["raylet"][0].process.pid for node in self.nodes]


@pytest.fixture(scope="module")
def _machines() -> Iterator[LocalRayNodes]:
    machines = LocalRayNodes()
    yield machines
    ray.shutdown()
    machines.cluster.shutdown()
    shutil.rmtree(machines.folder, ignore_errors=True)


@pytest.fixture
def machines(_machines: LocalRayNodes) -> LocalRayNodes:
    _machines.restore()
    ray.shutdown()
    return _machines


@pytest.fixture
def connected_machines(_machines: LocalRayNodes) -> LocalRayNodes:
    """Return two nodes to which this process is connected, so that not every test waits for new processes."""
    _machines.restore()
    if not ray.is_initialized():
        ray.init(address=_machines.address, log_to_driver=False)
    return _machines


@pytest.fixture(scope="module")
def busy() -> Dataset:
    """Return enough cells for a study to take some seconds."""
    return squares_dataset(n=1600)


class UrlStudy(SmallStudy):
    """A small study with its checkpoints at a URL."""

    def __init__(self, folder: Path, dataset: Dataset, **changes: Any) -> None:
        super().__init__(folder, dataset, **{**PLAN, **changes})
        self.store = CheckpointStore(f"file://{folder}/checkpoints")

    def executor(self, machines: LocalRayNodes, workers: int | None = None) -> RayExecutor:
        return RayExecutor(machines.address, self.settings, self.dataset, self.store, workers)


@pytest.fixture(scope="module")
def busy_reference(busy: Dataset, tmp_path_factory: pytest.TempPathFactory) -> StudyState:
    """Return the final state of the busy study in one process, without Ray."""
    return UrlStudy(tmp_path_factory.mktemp("reference"), busy).run()


class HookedExecutor(RayExecutor):
    """A RayExecutor that calls `hook` with every event before the scheduler gets it."""

    hook: Callable[[TaskEvent], None]

    def wait(self, on_event: EventHandler, timeout: float) -> None:
        def hook_and_forward(event: TaskEvent) -> None:
            self.hook(event)
            on_event(event)

        super().wait(hook_and_forward, timeout)


def _task(study: SmallStudy, stop_epoch: int, index: int = 0) -> Task:
    return Task((0, index), {**RECIPE.to_dict(), "epochs": stop_epoch}, stop_epoch)


@pytest.mark.parametrize("address_kind", ["address", "client"])
def test_a_cluster_of_two_nodes_gets_the_result_of_one_process(
    address_kind: str, machines: LocalRayNodes, cells: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"max_epochs": 4, "eta": 2, "space": SPACE, "device": "cpu"}
    one_process = tune(RECIPE, cells, name="alone", workers=1, **options)
    on_cluster = tune(
        RECIPE,
        cells,
        name="there",
        ray_address=getattr(machines, address_kind),
        checkpoint_dir=f"file://{tmp_path}/shared",
        **options,
    )
    assert reproducible_part(on_cluster) == reproducible_part(one_process)
    assert on_cluster.finished
    assert on_cluster.best_metrics == one_process.best_metrics
    assert not ray.is_initialized()
    checkpoints = [path.name for path in (tmp_path / "shared" / "there").iterdir()]
    assert checkpoints
    assert SENTINEL not in checkpoints


def test_epochs_are_reported_while_a_task_runs(
    connected_machines: LocalRayNodes, busy: Dataset, tmp_path: Path
) -> None:
    study = UrlStudy(tmp_path, busy)
    executor = study.executor(connected_machines)
    assert executor.size == 2
    deadline = time.monotonic() + LIMIT
    events: list[TaskEvent] = []
    indices = itertools.count()  # a task that is done already has no epochs
    # On a busy machine the first tasks end before the actor that collects epochs has started.
    while not any(isinstance(event, EpochDone) for event in events) and time.monotonic() < deadline:
        events.clear()
        executor.submit(_task(study, 3, next(indices)))
        while not any(isinstance(event, Outcome) for event in events) and time.monotonic() < deadline:
            executor.wait(events.append, 1.0)
    executor.close()
    epochs = [event.metrics.epoch for event in events if isinstance(event, EpochDone)]
    assert epochs == list(range(1, len(epochs) + 1))
    assert epochs
    assert isinstance(events[-1], Outcome)
    assert len(events[-1].history) == 3


def test_a_node_killed_in_mid_rung_costs_only_time(
    connected_machines: LocalRayNodes, busy: Dataset, busy_reference: StudyState, tmp_path: Path
) -> None:
    study = UrlStudy(tmp_path, busy)
    executor = HookedExecutor(connected_machines.address, study.settings, busy, study.store, None)
    events: list[TaskEvent] = []

    def hook(event: TaskEvent) -> None:
        events.append(event)
        if len(connected_machines.nodes) == 2 and len(events) >= 2:
            connected_machines.kill_busy_node()

    executor.hook = hook
    study_state = study.run(executor)
    assert len(connected_machines.nodes) == 1
    assert any(isinstance(event, WorkerLost) for event in events)
    assert reproducible_part(study_state) == reproducible_part(busy_reference)


def test_a_process_killed_for_memory_is_a_loss_not_a_failure(
    connected_machines: LocalRayNodes, busy: Dataset, tmp_path: Path
) -> None:
    study = UrlStudy(tmp_path, busy)
    executor = study.executor(connected_machines, workers=1)
    executor.submit(_task(study, 500))
    events: list[TaskEvent] = []
    while not events:
        executor.wait(events.append, 1.0)
    for pid in connected_machines.busy_processes():
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + LIMIT
    while not isinstance(events[-1], WorkerLost) and time.monotonic() < deadline:
        executor.wait(events.append, 1.0)
    executor.close()
    assert events[-1] == WorkerLost((0, 0))
    assert study.store.load("0-0.pt") is not None


DRIVER = """
import sys
from nephros.workflows.tune import tune
from tests.tuning.conftest import RECIPE, SPACE
from tests.tuning.test_ray_executor import PLAN
data, address, checkpoints = sys.argv[1:]
tune(RECIPE, data, name="killed", space=SPACE, device="cpu", ray_address=address, checkpoint_dir=checkpoints, **PLAN)
"""


def test_a_killed_driver_leaves_no_orphans_and_the_study_resumes(
    machines: LocalRayNodes, busy: Dataset, busy_reference: StudyState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_npz(tmp_path / "squares.npz", busy)
    shared = tmp_path / "shared"
    command = [sys.executable, "-c", DRIVER, str(data), machines.address, f"file://{shared}"]
    root = str(Path(__file__).parents[2])
    driver = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": root}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + LIMIT
    while len(list(shared.rglob("*.pt"))) < 4 and time.monotonic() < deadline:
        assert driver.poll() is None
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    killed_at = time.monotonic()
    while machines.busy_processes() and time.monotonic() < killed_at + LIMIT:
        time.sleep(0.05)
    assert time.monotonic() - killed_at < 20
    study_state = resume_study("killed", ray_address=machines.address)
    assert reproducible_part(study_state) == reproducible_part(busy_reference)
    assert {path.suffix for path in (shared / "killed").iterdir()} == {".pt"}


def test_close_kills_running_tasks(connected_machines: LocalRayNodes, busy: Dataset, tmp_path: Path) -> None:
    study = UrlStudy(tmp_path, busy)
    executor = study.executor(connected_machines, workers=2)
    for index in range(2):
        executor.submit(_task(study, 500, index))
    events: list[TaskEvent] = []
    while len(events) < 2:
        executor.wait(events.append, 1.0)
    executor.close()
    assert not connected_machines.busy_processes()


def test_a_full_disk_is_not_blamed_on_the_configuration(
    connected_machines: LocalRayNodes, cells: Dataset, tmp_path: Path
) -> None:
    study = UrlStudy(tmp_path, cells)
    executor = study.executor(connected_machines)
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").write_text("a file where the folder was")
    with pytest.raises(OSError, match="checkpoints"):
        study.run(executor)
    (tmp_path / "checkpoints").unlink()
    assert not any(config.error for config in study.storage().load_state().configs.values())


SITE = """
import importlib.metadata, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "nephros":
            raise ModuleNotFoundError("No module named 'nephros'")
if WHAT == "nephros":
    sys.meta_path.insert(0, Missing())
else:
    real = importlib.metadata.version
    importlib.metadata.version = lambda name: "2.0.0" if name == "torch" else real(name)
"""


@pytest.mark.parametrize(
    ("package", "message"),
    [
        ("nephros", r"Node .*No module named 'nephros'"),
        ("torch", r"Node .* torch 2\.0\.0"),
    ],
)
def test_a_node_with_other_packages_is_named(
    package: str, message: str, connected_machines: LocalRayNodes, cells: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"WHAT = {package!r}\n{SITE}")
    connected_machines.add(PYTHONPATH=str(tmp_path))
    try:
        study = UrlStudy(tmp_path, cells)
        with pytest.raises(NephrosError, match=message):
            study.run(study.executor(connected_machines))
    finally:
        connected_machines.kill()


def test_a_node_that_sees_other_checkpoints_is_named(
    connected_machines: LocalRayNodes, cells: Dataset, tmp_path: Path
) -> None:
    study = UrlStudy(tmp_path, cells)
    executor = study.executor(connected_machines)
    study.store.save(SENTINEL, {"token": "of another place"})
    with pytest.raises(NephrosError, match=r"Node .*checkpoints"):
        study.run(executor)


def test_a_trial_too_large_for_every_node_is_refused(
    machines: LocalRayNodes, cells: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {
        "ray_address": machines.address,
        "checkpoint_dir": f"file://{tmp_path}/shared",
        "threads_per_trial": 2,
    }
    with pytest.raises(IncompatibleError, match="2 CPUs"):
        tune(RECIPE, cells, space=SPACE, device="cpu", **options)
    assert not ray.is_initialized()
    assert list(tmp_path.iterdir()) == []


def test_workers_share_gpus_when_there_are_more_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}},
        {"Alive": True, "Resources": {"CPU": 3.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 16.0}},
        {"Alive": False, "Resources": {"CPU": 8.0, "GPU": 8.0}},
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 27.0, "GPU": 3.0})
    assert [gpu_share("cuda", workers) for workers in (None, 2, 3, 4, 7)] == [1, 1, 1, 1 / 2, 1 / 3]
    assert gpu_share("cpu", 7) == 0
    assert [count_slots(1, gpus) for gpus in (0.0, 1.0, 1 / 2, 1 / 3)] == [27, 3, 5, 6]
    assert count_slots(2, 0.0) == 13


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere", "ray://nowhere.invalid:10001"])
def test_an_address_where_nothing_listens_is_refused_at_once(address: str, tmp_path: Path) -> None:
    ray.shutdown()
    start = time.monotonic()
    with pytest.raises(InvalidArgument) as excinfo:
        connect(address, f"file://{tmp_path}", plan_study(RECIPE, device="cpu"))
    assert (excinfo.value.parameter, excinfo.value.value) == ("ray_address", address)
    assert time.monotonic() - start < 20


def test_a_busy_head_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real head gives up after PATIENCE, too long for a test; this simulates its reply."""
    reply = (
        "Initialization failure from server:\nTraceback (most recent call last):\nRuntimeError: Proxy failed. See logs"
    )
    attempts: list[int] = []

    def init(**_: Any) -> None:
        attempts.append(1)
        if len(attempts) != 2:
            raise ConnectionAbortedError(reply)

    monkeypatch.setattr(ray, "init", init)
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"ray://127.0.0.1:{head.getsockname()[1]}"
        ray_executor._connect(address)
        assert len(attempts) == 2
        with pytest.raises(InvalidArgument, match="RuntimeError: Proxy failed") as excinfo:
            ray_executor._connect(address)
        assert (excinfo.value.parameter, excinfo.value.value) == ("ray_address", address)
        assert len(attempts) == 5


@pytest.mark.parametrize("checkpoint_dir", ["", "/shared/study", "memory://study"])
def test_checkpoints_must_be_where_nodes_reach_them(checkpoint_dir: str) -> None:
    with pytest.raises(InvalidArgument) as excinfo:
        connect("auto", checkpoint_dir, plan_study(RECIPE, device="cpu"))
    assert (excinfo.value.parameter, excinfo.value.value) == ("checkpoint_dir", checkpoint_dir)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "nephros.tuning.ray_executor")
    monkeypatch.delitem(sys.modules, "nephros.tuning.ray_worker")
    with pytest.raises(MissingDependency, match=r"nephros\[cluster\]"):
        import nephros.tuning.ray_executor  # noqa: F401
