"""The same study in a real PostgreSQL server, which may go away and come back."""

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

from nephros.data.dataset import Dataset
from nephros.errors import UserError
from nephros.tuning.executors import Event, Hear, Here
from nephros.tuning.optuna_storage import Storage, address, bare
from nephros.tuning.study_state import Records
from nephros.tuning.trial import Bench
from nephros.workflows.tune import tune
from tests.conftest import made_up
from tests.tuning.conftest import RECIPE, SPACE, SmallStudy, timeless

pytestmark = pytest.mark.slow


class Server:
    """A PostgreSQL server of the test's own."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._folder = binaries, folder
        # The server refuses to run as root.
        self._user = "postgres" if os.getuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._do("initdb", "-A", "trust", "-U", "nephros", "-E", "UTF8", "-D", str(folder / "data"))
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://nephros:secret@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self._folder / "log")
        self._do("pg_ctl", "start", "-w", "-D", str(self._folder / "data"), "-l", log, "-o", options)

    def stop(self) -> None:
        self._do("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self._folder / "data"))

    def _do(self, program: str, *words: str) -> None:
        # Its own output goes to no pipe, which the server would hold open.
        subprocess.run(
            [str(self._binaries / program), *words], user=self._user, cwd="/", check=True, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    places = [*glob.glob("/usr/lib/postgresql/*/bin/initdb"), shutil.which("initdb")]
    found = [place for place in places if place]
    if not found:
        pytest.skip("no PostgreSQL server is installed here")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        made = Server(Path(found[-1]).parent, Path(folder))
        yield made
        made.stop()


class InPostgres(SmallStudy):
    """The small study, stored in the server."""

    url = ""

    def storage(self) -> Storage:
        storage = Storage(address(self.url), self.settings.name, print)
        storage.patience = 60
        return storage


def study(server: Server, folder: Path, cells: Dataset, name: str) -> InPostgres:
    made = InPostgres(folder, cells, name=name)
    made.url = server.url
    return made


class Does(Here):
    """A pool that does something at its n-th event."""

    def __init__(self, bench: Bench, n: int, deed: threading.Thread) -> None:
        super().__init__(bench, 1)
        self._left, self._deed = n, deed

    def wait(self, hear: Hear, seconds: float) -> None:
        def heard(event: Event) -> None:
            self._left -= 1
            if self._left == 0:
                self._deed.start()
                time.sleep(0.5)
            hear(event)

        super().wait(heard, seconds)


class Held(Does):
    """A pool that, once the server has been away and a write has come through again, tries to take the study over."""

    rival: Callable[[], Storage]
    refused = False

    def wait(self, hear: Hear, seconds: float) -> None:
        super().wait(hear, seconds)
        if self._left < -12 and not self.refused:
            self._deed.join()
            time.sleep(8)
            with pytest.raises(UserError, match="Another process is running the study away"):
                self.rival().lease.take()
            self.refused = True


def test_the_answer_is_that_of_a_file(server: Server, tmp_path: Path, cells: Dataset, undisturbed: Records) -> None:
    assert timeless(study(server, tmp_path, cells, "plain").run()) == timeless(undisturbed)


def test_a_server_that_goes_away_and_comes_back_loses_nothing(
    server: Server, tmp_path: Path, cells: Dataset, undisturbed: Records, capsys: pytest.CaptureFixture[str]
) -> None:
    def away() -> None:
        server.stop()
        time.sleep(3)
        server.start()

    made, deed = study(server, tmp_path, cells, "away"), threading.Thread(target=away)
    pool = Held(made.bench, 6, deed)
    pool.rival = made.storage
    records = made.run(pool)
    deed.join()
    assert pool.refused  # the right to the study came back with the server
    assert timeless(records) == timeless(undisturbed)
    assert "does not answer; training goes on" in capsys.readouterr().out


def test_a_server_that_stays_away_is_named_and_the_study_resumes(
    server: Server, tmp_path: Path, cells: Dataset, undisturbed: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = study(server, tmp_path, cells, "gone")
    storage = made.storage
    monkeypatch.setattr(made, "storage", lambda: _impatient(storage()))
    with pytest.raises(
        UserError, match=r"has not answered for 1 seconds: mend it, then `nephros tune --resume gone`"
    ) as told:
        made.run(Does(made.bench, 6, threading.Thread(target=server.stop)))
    assert "secret" not in str(told.value)
    server.start()
    assert timeless(made.run()) == timeless(undisturbed)


def _impatient(storage: Storage) -> Storage:
    storage.patience = 1
    return storage


def test_one_driver_at_a_time(server: Server, tmp_path: Path, cells: Dataset) -> None:
    made = study(server, tmp_path, cells, "two")
    first, second = made.storage(), made.storage()
    first.lease.take()
    with pytest.raises(UserError, match="Another process is running the study two"):
        second.lease.take()
    first.lease.release()
    second.lease.take()
    second.lease.release()


def test_two_processes_may_make_the_tables_at_once(server: Server) -> None:
    code = (
        "import sys, nephros.tuning.optuna_storage as s; s.Storage(s.address(sys.argv[1]), sys.argv[2]); print('made')"
    )
    name = f"fresh{os.getpid()}"
    engine = sqlalchemy.create_engine(address(server.url), poolclass=sqlalchemy.NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sqlalchemy.text(f"create database {name}"))
    url = server.url.rsplit("/", 1)[0] + f"/{name}"
    both = [
        subprocess.Popen([sys.executable, "-c", code, url, f"s{i}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for i in range(2)
    ]
    for process in both:
        out, errors = process.communicate(timeout=120)
        assert out.decode().strip() == "made", errors.decode()


def test_a_server_that_is_not_there_is_one_sentence_without_the_password() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(UserError, match="does not answer") as told:
        Storage(address(f"postgresql://me:secret@127.0.0.1:{port}/none"), "any")
    assert "secret" not in str(told.value)
    assert "start its server" in str(told.value)


def test_passwords_are_not_written_down(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = f"nephros tune --storage={server.url}?connect_timeout=9 --name kept"
    quiet: dict[str, Any] = {"max_epochs": 1, "space": SPACE, "device": "cpu", "say": lambda text: None}
    storage = f"{server.url}?connect_timeout=9"
    tune(RECIPE, made_up(n=32), name="kept", storage=storage, command=words, **quiet)
    written = [path for path in (tmp_path / "studies" / "kept").rglob("*") if path.is_file()]
    assert len(written) > 3
    for path in written:
        assert b"secret" not in path.read_bytes(), path
    assert "secret" not in Storage(address(server.url), "kept").settings().command
    assert bare(address("postgresql://me@host/base?password=secret")) == "postgresql+psycopg2://me@host/base"
    assert bare(address("postgresql://me:secret@host/base")) == "postgresql+psycopg2://me@host/base"
