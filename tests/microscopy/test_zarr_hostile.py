"""Zarr stores that are damaged, or made to harm: refused with one sentence before memory is spent."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nephros.errors import FileError, MissingDependency
from nephros.microscopy.reader import open_stack
from tests.microscopy.zarr_samples import write_image

VOLUME = np.random.default_rng(0).integers(1, 4000, (3, 20, 20)).astype(np.uint16)


def change(path: Path, **values: Any) -> None:
    """Change keys of a metadata file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_multiscale(store: Path, **values: Any) -> None:
    attributes = json.loads((store / ".zattrs").read_text())
    attributes["multiscales"][0] |= values
    (store / ".zattrs").write_text(json.dumps(attributes))


ARRAY_V2: dict[str, tuple[dict[str, Any], str]] = {
    "a pickle": ({"filters": [{"id": "pickle"}]}, "compressed with 'pickle'"),
    "a codec that needs code": ({"compressor": {"id": "json2"}}, "compressed with 'json2'"),
    "objects": ({"dtype": "|O"}, "pixels of type"),
    "records": ({"dtype": [["a", "<u2"], ["b", "<u2"]]}, "pixels of type several values"),
    "text": ({"dtype": "<U8"}, "pixels of type <U8"),
    "complex numbers": ({"dtype": "<c8"}, "pixels of type <c8"),
    "no such type": ({"dtype": "<q9"}, "incomplete or damaged"),
    "a huge chunk": ({"chunks": [4096, 65536, 65536]}, "too large for memory"),
    "more chunks than memory holds": ({"shape": [10**7, 10**7, 10**7], "chunks": [1, 1, 1]}, "chunks"),
    "huge slices": ({"shape": [3, 10**6, 10**6], "chunks": [1, 8192, 8192]}, "too large for memory"),
    "sizes below zero": ({"shape": [-3, 20, 20]}, "incomplete or damaged"),
    "chunks of nothing": ({"chunks": [0, 16, 16]}, "contradict"),
    "another number of dimensions": ({"shape": [20, 20], "chunks": [16, 16]}, "3 axes"),
    "contradicting dimensions": ({"chunks": [16, 16]}, "contradict"),
    "sizes that are text": ({"shape": "3x20x20"}, "incomplete or damaged"),
    "no slices": ({"shape": [0, 20, 20]}, "chunks|is empty"),
    "a version of the future": ({"zarr_format": 4}, "incomplete or damaged"),
    "no separator": ({"dimension_separator": "../"}, "incomplete or damaged"),
}


@pytest.mark.parametrize("name", ARRAY_V2)
def test_arrays_that_are_not_read(name: str, tmp_path: Path) -> None:
    values, message = ARRAY_V2[name]
    store = write_image(tmp_path / "a.zarr", VOLUME)
    change(store / "0" / ".zarray", **values)
    with pytest.raises(FileError, match=message):
        list(open_stack(store).slices())


ARRAY_V3: dict[str, tuple[dict[str, Any], str]] = {
    "text": ({"data_type": "string"}, "pixels of type string"),
    "a structure": ({"data_type": {"name": "structured"}}, "pixels of type several values"),
    "an unknown codec": ({"codecs": [{"name": "numcodecs.pickle"}]}, "compressed with 'numcodecs.pickle'"),
    "an unknown codec in a shard": (
        {"codecs": [{"name": "sharding_indexed", "configuration": {
            "chunk_shape": [1, 1, 1], "codecs": [{"name": "pickle"}], "index_codecs": []}}]},
        "compressed with 'pickle'",
    ),
    "a huge chunk in a shard": (
        {"codecs": [{"name": "sharding_indexed", "configuration": {
            "chunk_shape": [9999, 9999, 9999], "codecs": [], "index_codecs": []}}]},
        "too large for memory",
    ),
    "another grid": ({"chunk_grid": {"name": "rectangular", "configuration": {}}}, "incomplete or damaged"),
    "no grid": ({"chunk_grid": None}, "incomplete or damaged"),
    "a transformer": ({"storage_transformers": [{"name": "x"}]}, "incomplete or damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAY_V3)
def test_arrays_of_version_3_that_are_not_read(name: str, tmp_path: Path) -> None:
    values, message = ARRAY_V3[name]
    store = write_image(tmp_path / "a.zarr", VOLUME, zarr_format=3)
    change(store / "0" / "zarr.json", **values)
    with pytest.raises(FileError, match=message):
        list(open_stack(store).slices())


GROUPS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a level outside": (
        lambda store: change_multiscale(store, datasets=[{"path": "../secret"}]),
        "not within the store",
    ),
    "an absolute level": (lambda store: change_multiscale(store, datasets=[{"path": "/etc"}]), "not within the store"),
    "a level that is a number": (
        lambda store: change_multiscale(store, datasets=[{"path": 7}]),
        "not within the store",
    ),
    "no levels": (lambda store: change_multiscale(store, datasets=[]), "incomplete or damaged"),
    "a level that is missing": (lambda store: change_multiscale(store, datasets=[{"path": "9"}]), "lacks the array 9"),
    "axes twice": (lambda store: change_multiscale(store, axes=["z", "y", "y"]), "incomplete or damaged"),
    "axes that are text": (lambda store: change_multiscale(store, axes="zyx"), "^((?!Traceback).)*$"),
    "other axes": (lambda store: change_multiscale(store, axes=["angle", "y", "x"]), "`axes`"),
    "attributes that are a list": (lambda store: (store / ".zattrs").write_text("[]"), "damaged .zattrs"),
    "attributes that are cut": (lambda store: (store / ".zattrs").write_text('{"multi'), "damaged .zattrs"),
    "attributes without an end": (lambda store: (store / ".zattrs").write_text("[" * 100_000), "damaged .zattrs"),
    "no images": (lambda store: (store / ".zattrs").write_text("{}"), "no image by its OME-Zarr metadata"),
    "images that are a number": (lambda store: change(store / ".zattrs", multiscales=3), "incomplete or damaged"),
    "channels that are a number": (lambda store: change(store / ".zattrs", omero=3), "incomplete or damaged"),
}


@pytest.mark.parametrize("name", GROUPS)
def test_groups_that_are_not_read(name: str, tmp_path: Path) -> None:
    damage, message = GROUPS[name]
    store = write_image(tmp_path / "a.zarr", VOLUME)
    write_image(tmp_path / "secret", VOLUME)
    damage(store)
    if name == "axes that are text":
        assert open_stack(store).shape == VOLUME.shape  # letters are names of axes, too
        return
    with pytest.raises(FileError, match=message):
        open_stack(store)


def test_an_empty_folder_with_the_name_of_a_store(tmp_path: Path) -> None:
    (tmp_path / "a.ome.zarr").mkdir()
    with pytest.raises(FileError, match=r"neither zarr\.json nor \.zattrs"):
        open_stack(tmp_path / "a.ome.zarr")


def test_links_lead_within_the_store_only(tmp_path: Path) -> None:
    store = write_image(tmp_path / "a.zarr", VOLUME)
    chunk = store / "0" / "0" / "0" / "0"
    moved = chunk.rename(store / "moved")
    chunk.symlink_to(moved)
    assert np.array_equal(np.stack(list(open_stack(store).slices())), VOLUME)
    moved.rename(tmp_path / "outside")
    chunk.unlink()
    chunk.symlink_to(tmp_path / "outside")
    with pytest.raises(FileError, match="link that leads out of the store"):
        open_stack(store)
    link = tmp_path / "link.zarr"
    chunk.unlink()
    (tmp_path / "outside").rename(chunk)
    link.symlink_to(store)  # the store itself may be elsewhere
    assert open_stack(link).shape == VOLUME.shape


def test_chunks_that_are_damaged(tmp_path: Path) -> None:
    store = write_image(tmp_path / "a.zarr", VOLUME)
    chunk = store / "0" / "1" / "0" / "0"
    for content in (b"", b"\0" * 40, chunk.read_bytes()[:-3], os.urandom(1000)):
        chunk.write_bytes(content)
        with pytest.raises(FileError, match="damaged chunk in slice 1"):
            list(open_stack(store).slices())
    chunk.unlink()
    os.mkfifo(chunk)
    assert "lacks 1 of 12 chunks" in open_stack(store).notes[0]
    with pytest.raises(FileError, match="not a regular file"):
        list(open_stack(store).slices())


@pytest.mark.slow
def test_a_chunk_that_grows_beyond_memory(tmp_path: Path) -> None:
    store = write_image(tmp_path / "a.zarr", VOLUME)
    change(store / "0" / ".zarray", compressor={"id": "gzip", "level": 1})
    (store / "0" / "0" / "0" / "0").write_bytes(gzip.compress(bytes(1 << 26)) * 70)  # 4.7 GB of zeros in one file
    with pytest.raises(FileError):
        list(open_stack(store).slices())


def test_a_library_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_image(tmp_path / "a.zarr", VOLUME)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"nephros\[formats\]"):
        open_stack(store)
