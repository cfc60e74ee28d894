"""Checkpoints in a folder, at a file:// URL and on a filesystem that only fsspec reaches."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from nephros.errors import InvalidArgument
from nephros.tuning.checkpoint_store import CheckpointStore, best_checkpoint_name, checkpoint_name

STATE: dict[str, Any] = {"history": [{"epoch": 1, "val_auc": 0.5}], "weights": torch.arange(5.0), "next": 2}


@pytest.fixture(params=["folder", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CheckpointStore]:
    roots = {
        "folder": f"{tmp_path}/checkpoints",
        "file": f"file://{tmp_path}/checkpoints/",
        "memory": f"memory://{uuid.uuid4().hex}/checkpoints",
    }
    store = CheckpointStore(roots[request.param])
    yield store
    fsspec.filesystem("memory").store.clear()


def _stored_files(store: CheckpointStore) -> dict[str, bytes]:
    """Return all files of the store, half-written ones included."""
    filesystem, path = fsspec.core.url_to_fs(store.root)
    return {
        file_path.rsplit("/", 1)[-1]: filesystem.cat_file(file_path) for file_path in filesystem.ls(path, detail=False)
    }


def _equals_state(state: dict[str, Any] | None) -> bool:
    return (
        state is not None
        and torch.equal(state["weights"], STATE["weights"])
        and {**state, "weights": 0} == {**STATE, "weights": 0}
    )


def test_a_state_is_loaded_as_it_was_saved(store: CheckpointStore) -> None:
    assert store.load("2-0.pt") is None
    store.save("2-0.pt", {"next": 1})
    store.save("2-0.pt", STATE)
    assert _equals_state(store.load("2-0.pt"))
    assert list(_stored_files(store)) == ["2-0.pt"]


def test_another_process_sees_it(store: CheckpointStore) -> None:
    other = CheckpointStore(store.root)
    assert other.names() == []
    store.save("2-0.pt", STATE)
    assert other.names() == ["2-0.pt"]
    assert _equals_state(other.load("2-0.pt"))


def test_a_damaged_checkpoint_counts_as_missing(store: CheckpointStore) -> None:
    store.save("2-0.pt", STATE)
    filesystem, path = fsspec.core.url_to_fs(store.root)
    filesystem.pipe_file(f"{path}/2-0.pt", _stored_files(store)["2-0.pt"][:-100])
    assert store.load("2-0.pt") is None
    filesystem.pipe_file(f"{path}/2-0.pt", b"")
    assert store.load("2-0.pt") is None


def test_checkpoints_can_be_copied_and_deleted(store: CheckpointStore) -> None:
    store.save(checkpoint_name(2, 0), STATE)
    store.copy(checkpoint_name(2, 0), best_checkpoint_name(2, 0, 3))
    store.delete(checkpoint_name(2, 0))
    assert store.names() == ["best-2-0-3.pt"]
    assert _equals_state(store.load("best-2-0-3.pt"))
    store.save(checkpoint_name(2, 1), {"next": 1})
    store.copy(checkpoint_name(2, 1), best_checkpoint_name(2, 0, 3))
    assert store.load("best-2-0-3.pt") == {"next": 1}


def test_missing_checkpoints_raise_nothing(store: CheckpointStore) -> None:
    store.remove_temporary_files()
    store.delete("2-0.pt")
    store.copy("2-0.pt", "best-2-0-3.pt")
    assert store.names() == []
    store.save("2-1.pt", STATE)
    store.delete("2-0.pt")
    store.copy("2-0.pt", "best-2-0-3.pt")
    assert store.names() == ["2-1.pt"]


def test_files_of_killed_processes_are_no_checkpoints_and_are_removed(store: CheckpointStore) -> None:
    store.save("2-0.pt", STATE)
    filesystem, path = fsspec.core.url_to_fs(store.root)
    for name in (".2-0.pt.x7.tmp", ".2-1.pt.x8.tmp"):
        filesystem.pipe_file(f"{path}/{name}", b"half")
    filesystem.pipe_file(f"{path}/notes.txt", b"the user's own")
    assert store.names() == ["2-0.pt"]
    store.remove_temporary_files()
    assert sorted(_stored_files(store)) == ["2-0.pt", "notes.txt"]


def test_a_failed_write_leaves_the_earlier_checkpoint(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save("2-0.pt", STATE)

    def raise_disk_full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nephros.files.os.fsync", raise_disk_full)
    monkeypatch.setattr(MemoryFileSystem, "mv", raise_disk_full)
    with pytest.raises(OSError, match="No space left") as excinfo:
        store.save("2-0.pt", {"next": 3})
    assert excinfo.value.errno == errno.ENOSPC
    assert _equals_state(store.load("2-0.pt"))
    assert store.names() == ["2-0.pt"]


def test_errors_of_a_remote_filesystem_become_oserrors(monkeypatch: pytest.MonkeyPatch) -> None:
    class HttpError(Exception):
        """An error as gcsfs raises it, which is no OSError."""

    def raise_http_error(*args: object, **kwargs: object) -> None:
        raise HttpError("503, try later")

    store = CheckpointStore("memory://study")
    for name in ("pipe_file", "cat_file", "cp_file", "ls"):
        monkeypatch.setattr(MemoryFileSystem, name, raise_http_error)
    for operation in (
        lambda: store.save("2-0.pt", STATE),
        lambda: store.load("2-0.pt"),
        lambda: store.copy("2-0.pt", "best-2-0-3.pt"),
        store.names,
        store.remove_temporary_files,
    ):
        with pytest.raises(OSError, match="HttpError: 503, try later"):
            operation()


def test_a_cached_listing_is_not_trusted(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # s3fs says that a file is missing if its folder was listed before another process wrote it.
    monkeypatch.setattr(type(store._filesystem), "exists", lambda *args, **kwargs: False)
    store.save("2-0.pt", STATE)
    store.copy("2-0.pt", "best-2-0-3.pt")
    assert store.names() == ["2-0.pt", "best-2-0-3.pt"]
    store.delete("2-0.pt")
    assert store.names() == ["best-2-0-3.pt"]


def test_an_unusable_url_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgument, match="Protocol not known") as excinfo:
        CheckpointStore("nowhere://study")
    assert (excinfo.value.parameter, excinfo.value.value) == ("checkpoint_dir", "nowhere://study")

    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(InvalidArgument, match="Install s3fs to access S3"):
        CheckpointStore("s3://study")
