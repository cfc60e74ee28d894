"""A real Ray cluster of two nodes on this machine: the same records as in one process, whatever dies on the way."""

from __future__ import annotations

import contextlib
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
from nephros.errors import UserError
from nephros.tuning import ray_executor
from nephros.tuning.checkpoint_store import Store
from nephros.tuning.executors import EpochDone, Event, Hear, Lost
from nephros.tuning.plan import plan
from nephros.tuning.ray_executor import Cluster, connect, places, share
from nephros.tuning.ray_worker import SIGN
from nephros.tuning.study_state import Records
from nephros.tuning.trial import Outcome, Task
from nephros.workflows.tune import resume_study, tune
from tests.conftest import made_up, write_npz
from tests.tuning.conftest import RECIPE, SPACE, SmallStudy, timeless

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    # Ray's own cluster utility leaves its log files open.
    pytest.mark.filterwarnings("ignore:unclosed file.*/session_:ResourceWarning"),
]
LIMIT = 90.0
PATIENCE = "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S"
PLAN: dict[str, Any] = {"max_epochs": 9, "eta": 3, "brackets": "s=2"}


class Machines:
    """Two nodes of one CPU each, beside a head that takes no trials."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.folder = tempfile.mkdtemp(prefix="ray-")  # Ray's sockets need a short path, and pytest's is a long one
        head: dict[str, Any] = {
            "num_cpus": 0,
            "include_dashboard": False,
            "ray_client_server_port": port,
            "temp_dir": self.folder,
        }
        head["env_vars"] = {PATIENCE: "120"}  # seconds: of tests beside this one, some keep the machine busy
        # Ray notes its address in its usual folder too, and fails where nobody has used Ray before.
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

    def kill_at_work(self) -> bool:
        """Kill a node in the middle of a task; return whether it did one."""
        raylet = self._raylets[-1]
        for pid, parent in self.at_work().items():
            if parent == raylet:
                os.kill(pid, signal.SIGSTOP)  # so that the task can't end first
                self.kill()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                return True
        return False

    def at_work(self) -> dict[int, int]:
        """Return the processes that do one of our tasks, each with its node's."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent in self._raylets and (folder / "cmdline").read_bytes().startswith(b"ray::advance"):
                    found[int(folder.name)] = parent
        return found

    @property
    def _raylets(self) -> list[int]:
        return [node.all_processes["raylet"][0].process.pid for node in self.nodes]


@pytest.fixture(scope="module")
def _machines() -> Iterator[Machines]:
    machines = Machines()
    yield machines
    ray.shutdown()
    machines.cluster.shutdown()
    shutil.rmtree(machines.folder, ignore_errors=True)


@pytest.fixture
def machines(_machines: Machines) -> Machines:
    _machines.restore()
    ray.shutdown()
    return _machines


@pytest.fixture
def joined(_machines: Machines) -> Machines:
    """Two nodes, and this process connected to them, so that tests need not each wait for new processes."""
    _machines.restore()
    if not ray.is_initialized():
        ray.init(address=_machines.address, log_to_driver=False)
    return _machines


@pytest.fixture(scope="module")
def busy() -> Dataset:
    """Cells enough that a study takes some seconds."""
    return made_up(n=1600)


class Study(SmallStudy):
    """A small study with its checkpoints at a URL."""

    def __init__(self, folder: Path, dataset: Dataset, **changes: Any) -> None:
        super().__init__(folder, dataset, **{**PLAN, **changes})
        self.store = Store(f"file://{folder}/checkpoints")

    def pool(self, machines: Machines, workers: int | None = None) -> Cluster:
        return Cluster(machines.address, self.settings, self.dataset, self.store, workers)


@pytest.fixture(scope="module")
def quiet(busy: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Records:
    """The busy study in one process, without Ray."""
    return Study(tmp_path_factory.mktemp("quiet"), busy).run()


class Hooked(Cluster):
    """A pool that calls `hook` with every event before the driver hears it."""

    hook: Callable[[Event], None]

    def wait(self, hear: Hear, seconds: float) -> None:
        def both(event: Event) -> None:
            self.hook(event)
            hear(event)

        super().wait(both, seconds)


def _task(study: SmallStudy, until: int, index: int = 0) -> Task:
    return Task((0, index), {**RECIPE.to_dict(), "epochs": until}, until)


@pytest.mark.parametrize("way", ["address", "client"])
def test_a_cluster_of_two_nodes_finds_what_one_process_does(
    way: str, machines: Machines, cells: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"max_epochs": 4, "eta": 2, "space": SPACE, "device": "cpu", "say": lambda text: None}
    alone = tune(RECIPE, cells, name="alone", workers=1, **options)
    there = tune(
        RECIPE,
        cells,
        name="there",
        cluster=getattr(machines, way),
        checkpoints=f"file://{tmp_path}/shared",
        **options,
    )
    assert timeless(there) == timeless(alone)
    assert there.over
    assert there.judged == alone.judged
    assert not ray.is_initialized()
    kept = [path.name for path in (tmp_path / "shared" / "there").iterdir()]
    assert kept
    assert SIGN not in kept


def test_epochs_are_told_while_a_task_runs(joined: Machines, busy: Dataset, tmp_path: Path) -> None:
    study = Study(tmp_path, busy)
    pool = study.pool(joined)
    assert pool.size == 2
    events: list[Event] = []
    pool.start(_task(study, 3))
    until = time.monotonic() + LIMIT
    while not any(isinstance(event, Outcome) for event in events) and time.monotonic() < until:
        pool.wait(events.append, 1.0)
    pool.close()
    assert [event.row.epoch for event in events if isinstance(event, EpochDone)][:2] == [1, 2]
    assert isinstance(events[-1], Outcome)
    assert len(events[-1].rows) == 3


def test_a_node_killed_in_mid_rung_costs_nothing_but_time(
    joined: Machines, busy: Dataset, quiet: Records, tmp_path: Path
) -> None:
    study = Study(tmp_path, busy)
    pool = Hooked(joined.address, study.settings, busy, study.store, None)
    seen: list[Event] = []

    def hook(event: Event) -> None:
        seen.append(event)
        if len(joined.nodes) == 2 and len(seen) >= 2:
            joined.kill_at_work()

    pool.hook = hook
    records = study.run(pool)
    assert len(joined.nodes) == 1
    assert any(isinstance(event, Lost) for event in seen)
    assert timeless(records) == timeless(quiet)


def test_a_process_killed_for_memory_is_a_loss_not_a_failure(joined: Machines, busy: Dataset, tmp_path: Path) -> None:
    study = Study(tmp_path, busy)
    pool = study.pool(joined, workers=1)
    pool.start(_task(study, 500))
    heard: list[Event] = []
    while not heard:
        pool.wait(heard.append, 1.0)
    for pid in joined.at_work():
        os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + LIMIT
    while not isinstance(heard[-1], Lost) and time.monotonic() < until:
        pool.wait(heard.append, 1.0)
    pool.close()
    assert heard[-1] == Lost((0, 0))
    assert study.store.load("0-0.pt") is not None


DRIVER = """
import sys
from nephros.workflows.tune import tune
from tests.tuning.conftest import RECIPE, SPACE
from tests.tuning.test_ray_executor import PLAN
data, address, checkpoints = sys.argv[1:]
tune(RECIPE, data, name="killed", space=SPACE, device="cpu", cluster=address, checkpoints=checkpoints, **PLAN)
"""


def test_a_driver_killed_leaves_no_orphans_and_its_successor_ends_the_same(
    machines: Machines, busy: Dataset, quiet: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_npz(tmp_path / "squares.npz", busy)
    shared = tmp_path / "shared"
    words = [sys.executable, "-c", DRIVER, str(data), machines.address, f"file://{shared}"]
    root = str(Path(__file__).parents[2])
    driver = subprocess.Popen(words, env={**os.environ, "PYTHONPATH": root}, stdout=subprocess.DEVNULL)
    until = time.monotonic() + LIMIT
    while len(list(shared.rglob("*.pt"))) < 4 and time.monotonic() < until:
        assert driver.poll() is None
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    killed = time.monotonic()
    while machines.at_work() and time.monotonic() < killed + LIMIT:
        time.sleep(0.05)
    assert time.monotonic() - killed < 20
    records = resume_study("killed", cluster=machines.address, say=lambda text: None)
    assert timeless(records) == timeless(quiet)
    assert {path.suffix for path in (shared / "killed").iterdir()} == {".pt"}


def test_close_kills_what_runs(joined: Machines, busy: Dataset, tmp_path: Path) -> None:
    study = Study(tmp_path, busy)
    pool = study.pool(joined, workers=2)
    for index in range(2):
        pool.start(_task(study, 500, index))
    heard: list[Event] = []
    while len(heard) < 2:
        pool.wait(heard.append, 1.0)
    pool.close()
    assert not joined.at_work()


def test_a_full_disk_is_not_the_configurations_fault(joined: Machines, cells: Dataset, tmp_path: Path) -> None:
    study = Study(tmp_path, cells)
    pool = study.pool(joined)
    shutil.rmtree(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").write_text("a file where the folder was")
    with pytest.raises(OSError, match="checkpoints"):
        study.run(pool)
    (tmp_path / "checkpoints").unlink()
    assert not any(config.error for config in study.storage().records().configs.values())


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
    ("what", "sentence"),
    [
        ("nephros", r"Node .*: it can't use nephros \(No module named 'nephros'\)"),
        ("torch", r"Node .*: it has torch 2\.0\.0 where the driver has .*: install one version everywhere"),
    ],
)
def test_a_node_of_another_kind_is_named(
    what: str, sentence: str, joined: Machines, cells: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"WHAT = {what!r}\n{SITE}")
    joined.add(PYTHONPATH=str(tmp_path))
    try:
        study = Study(tmp_path, cells)
        with pytest.raises(UserError, match=sentence):
            study.run(study.pool(joined))
    finally:
        joined.kill()


def test_a_node_that_sees_other_checkpoints_is_named(joined: Machines, cells: Dataset, tmp_path: Path) -> None:
    study = Study(tmp_path, cells)
    pool = study.pool(joined)
    study.store.save(SIGN, {"token": "of another place"})
    with pytest.raises(UserError, match="is not the place there that it is here"):
        study.run(pool)


def test_a_trial_that_fits_on_no_node(
    machines: Machines, cells: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"cluster": machines.address, "checkpoints": f"file://{tmp_path}/shared", "threads": 2}
    with pytest.raises(UserError, match="has no node of 2 CPUs, which a trial of this study takes: add one"):
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
    assert [share("cuda", workers) for workers in (None, 2, 3, 4, 7)] == [1, 1, 1, 1 / 2, 1 / 3]
    assert share("cpu", 7) == 0
    assert [places(1, gpus) for gpus in (0.0, 1.0, 1 / 2, 1 / 3)] == [27, 3, 5, 6]
    assert places(2, 0.0) == 13


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere", "ray://nowhere.invalid:10001"])
def test_nobody_at_the_address(address: str, tmp_path: Path) -> None:
    ray.shutdown()
    began = time.monotonic()
    with pytest.raises(
        UserError, match=r"--cluster .* can't be joined \(.*\): give the address of a running Ray cluster"
    ):
        connect(address, f"file://{tmp_path}", plan(RECIPE, device="cpu"))
    assert time.monotonic() - began < 20


def test_a_head_too_busy_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real head gives up after PATIENCE, which no test can wait for: what it then says is said here."""
    said = (
        "Initialization failure from server:\nTraceback (most recent call last):\nRuntimeError: Proxy failed. See logs"
    )
    asked: list[int] = []

    def init(**_: Any) -> None:
        asked.append(1)
        if len(asked) != 2:
            raise ConnectionAbortedError(said)

    monkeypatch.setattr(ray, "init", init)
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"ray://127.0.0.1:{head.getsockname()[1]}"
        ray_executor._join(address)
        assert len(asked) == 2
        with pytest.raises(UserError, match=r"can't be joined \(RuntimeError: Proxy failed\)"):
            ray_executor._join(address)
        assert len(asked) == 5


@pytest.mark.parametrize("place", ["", "/shared/study", "memory://study"])
def test_checkpoints_must_be_where_nodes_reach_them(place: str) -> None:
    with pytest.raises(UserError, match="--cluster needs --checkpoints at a URL that all nodes reach"):
        connect("auto", place, plan(RECIPE, device="cpu"))


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "nephros.tuning.ray_executor")
    monkeypatch.delitem(sys.modules, "nephros.tuning.ray_worker")
    with pytest.raises(UserError, match=r"--cluster needs Ray: pip install 'nephros\[cluster\]'"):
        import nephros.tuning.ray_executor  # noqa: F401
