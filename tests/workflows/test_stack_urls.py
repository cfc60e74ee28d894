"""Stacks behind URLs in prepare, predict, finetune and overlay, from servers on this machine."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

import nephros
from nephros.data.images import decoder as decoder_module
from nephros.errors import FileError, InvalidArgument
from nephros.isolation.pool import WorkerPool
from nephros.microscopy import zarr_files
from nephros.microscopy.synthetic import SyntheticStack
from nephros.workflows.overlay import overlay
from tests.command_line import assert_usage_error, run_cli
from tests.microscopy.zarr_samples import write_image, write_tissue
from tests.url_servers import StatusHandler, serve, serve_folder, serve_s3

S3_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the stores P1_K1 (with labels) and P2_K2 (with its mask in a store of its own)."""
    folder = tmp_path_factory.mktemp("stores") / "kidney"
    write_tissue(folder / "P1_K1.ome.zarr", shape=(8, 64, 64))
    write_tissue(folder / "P2_K2.ome.zarr", (), shape=(8, 64, 64))
    mask = np.stack([mask for _, mask in SyntheticStack((8, 64, 64)).slices()]).astype(np.uint16)
    write_image(folder / "P2_K2_mask.ome.zarr", mask)
    tifffile.imwrite(folder / "P2_K2_mask.tif", mask, photometric="minisblack")
    ids = np.unique(mask)[1:].tolist()
    for name in ("P1_K1", "P2_K2"):
        (folder / f"{name}.csv").write_text("Label,Class\n" + "\n".join(f"{i},{('ring', 'disc')[i % 2]}" for i in ids))
    return folder


@pytest.fixture
def url(stores: Path) -> Iterator[str]:
    with serve_folder(stores.parent) as address:
        yield f"{address}/kidney"


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def use_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return a function that makes new processes take a server for S3, with or without keys to it."""
    pools: list[WorkerPool] = []

    def use(address: str, *, has_keys: bool = True) -> None:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", *S3_KEYS):
            monkeypatch.delenv(name, raising=False)
        settings = {"AWS_ENDPOINT_URL": address, "AWS_EC2_METADATA_DISABLED": "true", **(S3_KEYS if has_keys else {})}
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            settings[name] = str(tmp_path / "none")
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        pools.append(WorkerPool(2, modules=decoder_module.WORKER_MODULES))
        monkeypatch.setattr(decoder_module, "default_pool", lambda: pools[-1])

    yield use
    for pool in pools:
        pool.close()


@pytest.mark.slow
def test_prepare_takes_stores_behind_urls(
    url: str, stores: Path, working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = nephros.prepare(stores / "P1_K1.ome.zarr", "local.npz", channel="DAPI")
    argv = ["data", "prepare", f"{url}/P1_K1.ome.zarr", "--channel", "DAPI", "--out", "remote.npz"]
    status, out, _ = run_cli(argv, capsys)
    assert (status, "its label image nuclei is the mask" in out) == (0, True)
    with np.load("remote.npz") as arrays:
        assert np.array_equal(arrays["images"], local.images)
        assert set(arrays["stack"].tolist()) == {"P1_K1"}
    values = json.loads(Path("remote.json").read_text())
    assert values["stack"]["path"] == f"{url}/P1_K1.ome.zarr"
    assert values["mask"]["path"] == f"{url}/P1_K1.ome.zarr/labels/nuclei"


@pytest.mark.slow
def test_several_stores_behind_urls(url: str, stores: Path, working_folder: Path) -> None:
    stacks = [f"{url}/P1_K1.ome.zarr", f"{url}/P2_K2.ome.zarr"]
    for name in ("P1_K1", "P2_K2"):
        (working_folder / f"{name}.csv").write_bytes((stores / f"{name}.csv").read_bytes())
        (working_folder / f"{name}_mask.tif").write_bytes((stores / "P2_K2_mask.tif").read_bytes())
    result = nephros.prepare(
        stacks, "cells.npz", channel=1, mask="{stem}_mask.tif", classes="{stem}.csv", patient="{patient}_*"
    )
    with np.load("cells.npz") as arrays:
        assert set(zip(arrays["stack"].tolist(), arrays["patient"].tolist(), strict=True)) == {
            ("P1_K1", "P1"),
            ("P2_K2", "P2"),
        }
    assert len(result.stacks) == 2
    by_url = nephros.prepare(stacks[1:], "url.npz", channel=1, mask=f"{url}/{{stem}}_mask.ome.zarr")
    assert np.array_equal(by_url.ids, result.ids[result.stack == "P2_K2"])
    with pytest.raises(InvalidArgument) as error:
        nephros.prepare(stacks, "x.npz", channel=1, classes=f"{url}/{{stem}}.csv")
    assert error.value.parameter == "classes"
    with pytest.raises(InvalidArgument, match="given once"):
        nephros.prepare([stacks[0], f"{stacks[0]}/"], "x.npz", channel=1)


@pytest.mark.slow
def test_predict_and_overlay(url: str, stores: Path, working_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack = f"{url}/P2_K2.ome.zarr"
    argv = ["predict", stack, "--channel", "DAPI", "--mask", f"{url}/{{stem}}_mask.ome.zarr", "--out", "K2"]
    status, _, err = run_cli(argv, capsys)
    assert status == 0, err
    with open("K2/cells.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    mask = tifffile.imread(stores / "P2_K2_mask.tif")
    assert [int(row["id"]) for row in rows] == np.unique(mask)[1:].tolist()
    assert json.loads(Path("K2/cells.json").read_text())["stack"] == stack
    nephros.prepare(stack, "cells.npz", channel=1, mask=stores / "P2_K2_mask.tif")
    nephros.predict("cells.npz").save("predictions.csv")
    assert overlay("cells.json", "predictions.csv", "tissue.png").is_file()
    with pytest.raises(FileError, match="is not the store that"):
        overlay("cells.json", "predictions.csv", "tissue.png", stack=f"{url}/P1_K1.ome.zarr")


@pytest.mark.slow
@pytest.mark.parametrize("has_keys", [True, False])
def test_a_store_in_s3(stores: Path, working_folder: Path, use_s3: Callable[..., None], has_keys: bool) -> None:
    local = nephros.prepare(stores / "P1_K1.ome.zarr", "local.npz", channel="DAPI")
    with serve_s3(stores.parent) as address:
        use_s3(address, has_keys=has_keys)
        remote = nephros.prepare("s3://kidney/P1_K1.ome.zarr", "remote.npz", channel="DAPI")
        assert np.array_equal(remote.images, local.images)
        with pytest.raises(FileError, match=r"neither zarr\.json nor \.zattrs"):
            nephros.prepare("s3://kidney/K9.ome.zarr", "x.npz")
    with serve_s3(stores.parent, is_public=False) as address:
        use_s3(address, has_keys=has_keys)
        with pytest.raises(FileError, match="its server refuses access"):
            nephros.prepare("s3://kidney/P1_K1.ome.zarr", "x.npz")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_a_url_that_stalls_costs_one_sentence(
    scheme: str,
    working_folder: Path,
    use_s3: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(zarr_files, "URL_TIMEOUT_S", 0.5)
    with serve(StatusHandler) as address:
        use_s3(address)
        stack = f"{address}/stall/K4.ome.zarr" if scheme == "http" else "s3://stall/K4.ome.zarr"
        expected = f"{stack} can't be read: the server sent nothing for 0.5 seconds"
        assert_usage_error(["data", "prepare", stack, "--out", "cells.npz"], capsys, expected)
        status, out, err = run_cli(["predict", stack], capsys)
        assert (status, expected in out) == (2, True), err


@pytest.mark.parametrize("command", [["data", "prepare"], ["predict"], ["finetune"]])
@pytest.mark.parametrize("text", ["https://", "s3://b/a?x=1"])
def test_urls_that_no_store_has(
    command: list[str], text: str, working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = (
        ["--out", "cells.npz"] if command[0] == "data" else ["--classes", "x.csv"] if command[0] == "finetune" else []
    )
    assert_usage_error([*command, text, *files], capsys, text, "plain URL of an OME-Zarr store")
