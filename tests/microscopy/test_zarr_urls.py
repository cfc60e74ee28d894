"""OME-Zarr stores behind URLs, read from servers on this machine."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nephros.errors import FileError, InvalidArgument
from nephros.microscopy.location import StackUrl, is_url, locate
from nephros.microscopy.reader import open_stack
from nephros.microscopy.stack_files import find_stack_files
from nephros.microscopy.zarr_files import open_zarr_files, read_json
from tests.microscopy.zarr_samples import VOXEL_SIZE, write_image
from tests.url_servers import StatusHandler, serve, serve_folder

VOLUME = np.random.default_rng(0).integers(1, 4000, (2, 4, 40, 36)).astype(np.uint16)


@pytest.fixture
def folder_url(tmp_path: Path) -> Iterator[str]:
    with serve_folder(tmp_path) as url:
        yield url


@pytest.fixture
def status_url() -> Iterator[str]:
    with serve(StatusHandler) as url:
        yield url


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"zarr_format": 3, "shards": (1, 4, 32, 32), "chunks": (1, 2, 16, 16)}])
def test_a_store_behind_a_url(options: Any, folder_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = write_image(tmp_path / "K4.ome.zarr", VOLUME, "CZYX", channels=("GFP", "DAPI"), **options)
    url = f"{folder_url}/K4.ome.zarr/"
    stack = open_stack(url, "DAPI")
    assert (stack.path, stack.path.name) == (StackUrl(url[:-1]), "K4.ome.zarr")
    assert (stack.voxel_size, stack.notes) == (VOXEL_SIZE, ())
    assert np.array_equal(np.stack(list(stack.slices())), VOLUME[1])
    array = store / "0" / ("c" if options else "")
    shutil.rmtree(array / "1")
    with pytest.raises(FileError, match="none of the chunks"):
        list(stack.slices())
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(np.stack(list(open_stack(url, "GFP").slices())), VOLUME[0])
    assert not caplog.records
    chunk = array / "0" / "0" / "0" / "0"
    chunk.unlink()
    with caplog.at_level(logging.WARNING):
        values = np.stack(list(open_stack(url, "GFP").slices()))
    assert not values[0, :16, :16].any()
    n_files = 4 if options else 4 * 9
    assert f"lacks 1 of {n_files} chunks" in caplog.text


def test_ranges_of_a_server_that_knows_none(folder_url: str, tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "chunk").write_bytes(bytes(range(100)))
    (tmp_path / "a.zarr" / "zarr.json").write_text('{"node_type": "group"}')
    files = open_zarr_files(locate(f"{folder_url}/a.zarr"))
    assert files.read("chunk", (10, 5)) == bytes(range(10, 15))
    assert files.read("chunk", (-5, None)) == bytes(range(95, 100))
    assert files.read("missing") is None
    assert files.exists("chunk")
    assert read_json(files, "zarr.json") == {"node_type": "group"}
    with pytest.raises(FileError, match="not within the store"):
        files.read("../secret")


@pytest.mark.parametrize("status", [403, 401])
def test_a_server_that_refuses(status: int, status_url: str) -> None:
    with pytest.raises(FileError, match="its server refuses access"):
        open_stack(f"{status_url}/{status}/a.zarr")


def test_a_server_that_has_no_such_store(status_url: str) -> None:
    with pytest.raises(FileError, match=r"neither zarr\.json nor \.zattrs"):
        open_stack(f"{status_url}/404/a.zarr")
    with pytest.raises(FileError, match="error 503"):
        open_stack(f"{status_url}/503/a.zarr")


def test_a_server_that_stalls(status_url: str) -> None:
    files = open_zarr_files(locate(f"{status_url}/stall/a.zarr"), url_timeout_s=0.5)
    with pytest.raises(FileError, match=r"sent nothing for 0\.5 seconds"):
        files.read("zarr.json")


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(FileError, match="can't be read"):
        open_zarr_files(locate("http://127.0.0.1:9/a.zarr"), url_timeout_s=5).read("zarr.json")


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "https://user:word@host/a.zarr",
        "https://host/../a",
        "https://host/a::file:///etc",
        "s3://b/a?x=1",
        "https://h/a#b",
    ],
)
def test_urls_that_no_store_has(url: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        open_stack(url)
    assert (error.value.parameter, error.value.value) == ("stack", url)


@pytest.mark.parametrize(
    "path", ["file:///etc", "ftp://host/a.zarr", "gs://bucket/a.zarr", "memory://a", "a.zarr", Path("https:")]
)
def test_other_text_is_a_path(path: str | Path) -> None:
    assert not is_url(path)
    with pytest.raises(FileError):
        open_stack(path)
    if "://" in str(path):
        with pytest.raises(InvalidArgument) as error:
            find_stack_files([path])
        assert error.value.parameter == "stack"
