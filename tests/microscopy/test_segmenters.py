"""Segmenters of other packages, by stand-ins that have the documented calls: the packages are too large for the tests."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tifffile

import nephros
from nephros.errors import FileError, InvalidArgument, MissingDependency, UnknownName
from nephros.microscopy import segmenters
from nephros.microscopy.reader import open_stack
from nephros.microscopy.segmenters import segment_with
from nephros.microscopy.stack import Stack, StackOptions, installed_segmenters
from tests.command_line import assert_usage_error
from tests.microscopy.microscope_samples import tissue

PIXELS, MASK = tissue((6, 48, 48))


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    tifffile.imwrite(tmp_path / "K4.tif", PIXELS[1], photometric="minisblack")
    return open_stack(tmp_path / "K4.tif", axes="ZYX")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Put stand-ins of cellpose, stardist and csbdeep in place, which return the mask, and list their calls."""
    calls: list[Any] = []

    class CellposeModel:
        def __init__(self, gpu: bool = False) -> None:
            calls.append(gpu)

        def eval(self, x: Any, **options: Any) -> tuple[Any, list[Any], Any]:
            calls.append((x, options))
            return MASK, [], None

    class StarDist2D:
        @classmethod
        def from_pretrained(cls, name: str) -> Any:
            calls.append(name)
            return cls()

        def predict_instances(self, image: Any, n_tiles: tuple[int, int], **options: Any) -> tuple[Any, dict[str, Any]]:
            z = len(calls) - 1
            print("as StarDist does")
            assert options == {"show_tile_progress": False}
            calls.append((image.shape, n_tiles))
            ids = np.unique(MASK[z])
            return np.searchsorted(ids, MASK[z]).astype(np.int32), {}

    contents: dict[str, dict[str, Any]] = {
        "cellpose": {"models": ModuleType("cellpose.models")},
        "cellpose.models": {"CellposeModel": CellposeModel},
        "stardist": {},
        "stardist.models": {"StarDist2D": StarDist2D},
        "csbdeep": {},
        "csbdeep.utils": {"normalize": lambda values, low, high: values},
    }
    for name, values in contents.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    vars(sys.modules["cellpose"])["models"] = sys.modules["cellpose.models"]
    return calls


def test_cellpose_takes_the_volume(stack: Stack, calls: list[Any], tmp_path: Path) -> None:
    segment_with("cellpose", stack, tmp_path / "mask.tif", (1.0, 0.5, 0.5), progress=lambda items, what, total: items)
    assert np.array_equal(tifffile.imread(tmp_path / "mask.tif"), MASK)
    volume, options = calls[1]
    assert np.array_equal(volume, PIXELS[1])
    assert options == {"do_3D": True, "z_axis": 0, "anisotropy": 2.0}


def test_stardist_takes_slices_which_are_joined(
    stack: Stack, calls: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segment_with("stardist", stack, tmp_path / "mask.tif", (1.0, 0.5, 0.5), progress=lambda items, what, total: items)
    result = tifffile.imread(tmp_path / "mask.tif")
    assert np.array_equal(result > 0, MASK > 0)
    assert len(np.unique(result)) < 1 + sum(len(np.unique(plane)) - 1 for plane in MASK)
    assert capsys.readouterr().out == ""  # where predictions go
    assert calls == ["2D_versatile_fluo", *[((48, 48), (1, 1))] * 6]


def test_too_large_for_cellpose(
    stack: Stack, calls: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segmenters, "available_memory", lambda: 1000)
    with pytest.raises(FileError, match="too large for cellpose"):
        segment_with("cellpose", stack, tmp_path / "m.tif", (1, 1, 1), progress=lambda items, what, total: items)


@pytest.mark.parametrize("name", ["cellpose", "stardist"])
def test_a_package_that_is_not_installed(
    name: str, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "csbdeep", None)
    out = Path(str(stack.path)).with_name("cells.npz")
    argv = ["data", "prepare", str(stack.path), "--axes", "ZYX", "--voxel-size", "1,0.5,0.5", "--segment", name]
    assert_usage_error([*argv, "--out", str(out)], capsys, f"pip install {name}")
    assert not out.exists()
    with pytest.raises(MissingDependency):
        nephros.prepare(str(stack.path), out, axes="ZYX", voxel_size=(1, 0.5, 0.5), segment=name)


@pytest.mark.parametrize("name", ["cellpose", "stardist"])
def test_a_model_that_can_not_be_downloaded(
    name: str, stack: Stack, calls: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(sys.modules["cellpose.models"], "CellposeModel", fail)
    monkeypatch.setattr(sys.modules["stardist.models"].StarDist2D, "from_pretrained", fail)
    with pytest.raises(FileError, match=r"Name or service not known.*internet"):
        segment_with(name, stack, tmp_path / "m.tif", (1, 1, 1), progress=lambda items, what, total: items)


def test_an_installation_that_can_not_be_imported(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cellpose.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cellpose", raising=False)
    with pytest.raises(MissingDependency, match="torchvision::nms"):
        segment_with("cellpose", stack, tmp_path / "m.tif", (1, 1, 1), progress=lambda items, what, total: items)


def test_a_segmenter_and_a_mask_exclude_each_other() -> None:
    with pytest.raises(UnknownName, match="rough, cellpose, stardist"):
        StackOptions(segment="otsu")
    with pytest.raises(InvalidArgument) as error:
        StackOptions(segment="rough", mask="mask.tif")
    assert error.value.parameter == "segment"


def test_only_segmenters_with_their_packages_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cellpose", "stardist", "csbdeep", "tensorflow"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    importlib.invalidate_caches()
    assert installed_segmenters() == ["rough"]
    for name, expected in (("cellpose", 2), ("stardist", 2), ("csbdeep", 2), ("tensorflow", 3)):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('it is not imported')")
        importlib.invalidate_caches()
        assert len(installed_segmenters()) == expected
    assert installed_segmenters() == ["rough", "cellpose", "stardist"]
