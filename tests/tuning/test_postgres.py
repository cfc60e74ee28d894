"""The small study in a real PostgreSQL server, which may go away and come back."""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from nephros.commands.parser import recorded_command
from nephros.data.dataset import Dataset
from nephros.errors import InvalidArgument, LockedError, NephrosError
from nephros.tuning.database import storage_url, url_without_password
from nephros.tuning.executors import EventHandler, InProcessExecutor, TaskEvent
from nephros.tuning.optuna_storage import StudyStorage
from nephros.tuning.study_state import StudyState
from nephros.tuning.trial import TrialRunner
from nephros.workflows.tune import tune
from tests.conftest import squares_dataset
from tests.tuning.conftest import RECIPE, SPACE, SmallStudy, reproducible_part

pytestmark = pytest.mark.slow


class Server:
    """A PostgreSQL server for these tests."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._folder = binaries, folder
        # The server refuses to run as root.
        self._user = "postgres" if os.getuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._run("initdb", "-A", "trust", "-U", "nephros", "-E", "UTF8", "-D", str(folder / "data"))
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://nephros:secret@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self._folder / "log")
        self._run("pg_ctl", "start", "-w", "-D", str(self._folder / "data"), "-l", log, "-o", options)

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self._folder / "data"))

    def _run(self, program: str, *args: str) -> None:
        # Its own output goes to no pipe, which the server would hold open.
        subprocess.run(
            [str(self._binaries / program), *args], user=self._user, cwd="/", check=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    candidates = [*glob.glob("/usr/lib/postgresql/*/bin/initdb"), shutil.which("initdb")]
    binaries = [candidate for candidate in candidates if candidate]
    if not binaries:
        pytest.skip("no PostgreSQL server is installed here")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        postgres = Server(Path(binaries[-1]).parent, Path(folder))
        yield postgres
        postgres.stop()


class InPostgres(SmallStudy):
    """The small study, stored in the server."""

    url = ""

    def storage(self) -> StudyStorage:
        storage = StudyStorage(storage_url(self.url), self.settings.name)
        storage.retry_seconds = 60
        return storage


def study(server: Server, folder: Path, cells: Dataset, name: str) -> InPostgres:
    small_study = InPostgres(folder, cells, name=name)
    small_study.url = server.url
    return small_study


class ActionExecutor(InProcessExecutor):
    """An executor that starts a thread at its n-th event."""

    def __init__(self, runner: TrialRunner, n: int, action: threading.Thread) -> None:
        super().__init__(runner, 1)
        self._events_left, self._action = n, action

    def wait(self, on_event: EventHandler, timeout: float) -> None:
        def act_and_forward(event: TaskEvent) -> None:
            self._events_left -= 1
            if self._events_left == 0:
                self._action.start()
                time.sleep(0.5)
            on_event(event)

        super().wait(act_and_forward, timeout)


class TakeoverExecutor(ActionExecutor):
    """An executor that tries to take the study over once the server is back and written to again."""

    make_storage: Callable[[], StudyStorage]
    refused = False

    def wait(self, on_event: EventHandler, timeout: float) -> None:
        super().wait(on_event, timeout)
        if self._events_left < -12 and not self.refused:
            self._action.join()
            time.sleep(8)
            with pytest.raises(LockedError, match="away"):
                self.make_storage().lock.acquire()
            self.refused = True


def test_the_result_is_that_of_a_file(
    server: Server, tmp_path: Path, cells: Dataset, reference_state: StudyState
) -> None:
    assert reproducible_part(study(server, tmp_path, cells, "plain").run()) == reproducible_part(reference_state)


def test_a_server_that_goes_away_and_comes_back_loses_nothing(
    server: Server, tmp_path: Path, cells: Dataset, reference_state: StudyState, caplog: pytest.LogCaptureFixture
) -> None:
    def restart_server() -> None:
        server.stop()
        time.sleep(3)
        server.start()

    small_study, outage = study(server, tmp_path, cells, "away"), threading.Thread(target=restart_server)
    executor = TakeoverExecutor(small_study.runner, 6, outage)
    executor.make_storage = small_study.storage
    study_state = small_study.run(executor)
    outage.join()
    assert executor.refused  # the lock came back with the server
    assert reproducible_part(study_state) == reproducible_part(reference_state)
    assert any("training continues" in message for message in caplog.messages)


def test_a_server_that_stays_away_is_named_and_the_study_resumes(
    server: Server, tmp_path: Path, cells: Dataset, reference_state: StudyState, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_study = study(server, tmp_path, cells, "gone")
    storage = small_study.storage
    monkeypatch.setattr(small_study, "storage", lambda: _with_short_retry(storage()))
    with pytest.raises(NephrosError, match=r"1 seconds.*nephros\.resume_study\('gone'\)") as excinfo:
        small_study.run(ActionExecutor(small_study.runner, 6, threading.Thread(target=server.stop)))
    assert "secret" not in str(excinfo.value)
    server.start()
    assert reproducible_part(small_study.run()) == reproducible_part(reference_state)


def _with_short_retry(storage: StudyStorage) -> StudyStorage:
    storage.retry_seconds = 1
    return storage


def test_a_second_driver_is_refused(server: Server, tmp_path: Path, cells: Dataset) -> None:
    small_study = study(server, tmp_path, cells, "two")
    first, second = small_study.storage(), small_study.storage()
    first.lock.acquire()
    with pytest.raises(LockedError, match="two"):
        second.lock.acquire()
    first.lock.release()
    second.lock.acquire()
    second.lock.release()


def test_two_processes_may_create_the_tables_at_once(server: Server) -> None:
    code = (
        "import sys; from nephros.tuning.database import storage_url; "
        "from nephros.tuning.optuna_storage import StudyStorage; "
        "StudyStorage(storage_url(sys.argv[1]), sys.argv[2]); print('created')"
    )
    name = f"fresh{os.getpid()}"
    engine = sqlalchemy.create_engine(storage_url(server.url), poolclass=sqlalchemy.NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sqlalchemy.text(f"create database {name}"))
    url = server.url.rsplit("/", 1)[0] + f"/{name}"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, url, f"s{i}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for i in range(2)
    ]
    for process in processes:
        out, errors = process.communicate(timeout=120)
        assert out.decode().strip() == "created", errors.decode()


def test_an_unreachable_server_is_named_without_the_password() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(InvalidArgument) as excinfo:
        StudyStorage(storage_url(f"postgresql://me:secret@127.0.0.1:{port}/none"), "any")
    assert "secret" not in str(excinfo.value)
    assert excinfo.value.parameter == "storage"
    assert str(port) in str(excinfo.value.value)


def test_passwords_are_never_stored(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"max_epochs": 1, "space": SPACE, "device": "cpu"}
    storage = f"{server.url}?connect_timeout=9"
    command = recorded_command("tune", [f"--storage={storage}", "--name", "kept"])
    tune(RECIPE, squares_dataset(n=32), name="kept", storage=storage, command=command, **options)
    written = [path for path in (tmp_path / "studies" / "kept").rglob("*") if path.is_file()]
    assert len(written) > 3
    for path in written:
        assert b"secret" not in path.read_bytes(), path
    assert "secret" not in StudyStorage(storage_url(server.url), "kept").load_settings().command
    assert (
        url_without_password(storage_url("postgresql://me@host/base?password=secret"))
        == "postgresql+psycopg2://me@host/base"
    )
    assert url_without_password(storage_url("postgresql://me:secret@host/base")) == "postgresql+psycopg2://me@host/base"
