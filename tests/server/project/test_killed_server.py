"""A server that is killed while labels stream in loses none that it has answered with status 200."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import sqlite3
import threading
from pathlib import Path

import pytest

from tests.killing import kill
from tests.server.live_server import LiveServer, run_server
from tests.server.project.conftest import N_CELLS, make_project
from tests.server.project.project_client import ProjectClient

N_KILLS, N_CLIENTS, N_ROUNDS_BEFORE_KILL = 20, 3, 12


@pytest.mark.slow
def test_twenty_kills_lose_no_saved_label(exported_model: Path, tmp_path: Path) -> None:
    root = make_project(tmp_path / "kidney", exported_model)
    saved: list[tuple[str, int, int, int]] = []
    for attempt in range(N_KILLS):
        with run_server(["--model", exported_model, "--reference-data", "none", "--project", root]) as server:
            client = ProjectClient(server)
            known = client.get("/project")["seq"]
            assert known >= max((seq for *_, seq in saved), default=0)
            saved += _label_until_killed(client, attempt)
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite")) as connection:
        rows = {
            seq: (annotator, cell, class_id)
            for seq, annotator, cell, class_id in connection.execute(
                "select seq, annotator, cell, class_id from changes"
            )
        }
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    assert len(saved) >= N_KILLS * N_ROUNDS_BEFORE_KILL
    assert len({seq for *_, seq in saved}) == len(saved)
    for annotator, cell, class_id, seq in saved:
        assert rows[seq] == (annotator, cell, class_id)


def _label_until_killed(client: ProjectClient, attempt: int) -> list[tuple[str, int, int, int]]:
    """Label from several connections, kill the server while they do, and return what it has said is saved."""
    saved: list[tuple[str, int, int, int]] = []
    enough = threading.Event()

    def label(number: int) -> None:
        annotator = f"annotator {number}"
        with contextlib.suppress(OSError, http.client.HTTPException, json.JSONDecodeError):
            for i in itertools.count():
                cell, class_id = (7 * i + number) % N_CELLS, (i + attempt) % 2
                seq = client.label(annotator, {cell: class_id})["seq"]
                saved.append((annotator, cell, class_id, seq))
                if len(saved) >= N_ROUNDS_BEFORE_KILL + attempt:
                    enough.set()

    threads = [threading.Thread(target=label, args=(number,)) for number in range(N_CLIENTS)]
    for thread in threads:
        thread.start()
    while not enough.wait(0.1):
        assert any(thread.is_alive() for thread in threads)
    kill([client.server.process.pid])
    for thread in threads:
        thread.join()
    return saved


@pytest.mark.slow
def test_a_server_that_is_interrupted_ends_its_event_streams(exported_model: Path, tmp_path: Path) -> None:
    root = make_project(tmp_path / "kidney", exported_model)
    args = ["--model", exported_model, "--reference-data", "none", "--project", root]
    with run_server(args) as server:
        client = ProjectClient(server)
        with client.events() as events:
            next(events)
            server.process.terminate()
            assert not [name for name, _ in events if name not in ("change", "job")]
        output = server.process.communicate(timeout=120)[0]
    assert server.process.returncode == 0
    assert output.splitlines()[-1] == "Server stopped."
    with run_server(args) as server:  # the folder is free again, and nothing is left of the first server
        assert _is_tidy(server, root)


def _is_tidy(server: LiveServer, root: Path) -> bool:
    return server.json("GET", "/project")[0] == 200 and not list(root.glob("uploads/*"))
