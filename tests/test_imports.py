"""Imports without garbage collection leave the collector as the program had it."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from nephros.imports import collection_paused


@pytest.fixture(autouse=True)
def _collector_as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_collection_pauses_within_the_block_only() -> None:
    with collection_paused():
        assert not gc.isenabled()
        with collection_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), collection_paused():
        raise ImportError
    assert gc.isenabled()


def test_a_program_that_collects_no_garbage_keeps_that() -> None:
    gc.disable()
    with collection_paused():
        pass
    assert not gc.isenabled()


def test_garbage_of_the_block_is_found_later() -> None:
    class Node:
        itself: object

    with collection_paused():
        node = Node()
        node.itself = node
        reference = weakref.ref(node)
        del node
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert reference() is None


def test_frozen_objects_of_the_program_stay_frozen() -> None:
    gc.freeze()
    count = gc.get_freeze_count()
    with collection_paused():
        pass
    assert gc.get_freeze_count() > count / 2 > 0  # some are freed meanwhile; to unfreeze leaves none


def output_of(code: str) -> str:
    """Return what Python code prints in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_a_command_ends_without_a_search_for_garbage() -> None:
    code = (
        "import atexit, gc, sys\n"
        "from nephros.cli import main\n"
        "atexit.register(lambda: print('at the end', gc.get_freeze_count() > 0))  # runs after what is registered later\n"
        "main(['--version'])"
    )
    assert output_of(code).splitlines()[-1] == "at the end True"


def test_large_imports_run_no_collection_of_all_objects() -> None:
    code = (
        "import gc, nephros\n"
        "before = gc.get_stats()[2]['collections']\n"
        "nephros.load_classifier\n"
        "print(gc.get_stats()[2]['collections'] - before, gc.isenabled())"
    )
    assert output_of(code).split() == ["0", "True"]
