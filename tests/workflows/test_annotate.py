"""`nephros annotate`: cells and labels into a project and out of it, by the command, without a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nephros
from nephros.errors import InvalidArgument
from tests.command_line import Capture, assert_usage_error, run_cli
from tests.conftest import square_images


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    images, labels = square_images(12, 2, 0)
    np.savez(tmp_path / "crops.npz", images=images, labels=labels)
    return tmp_path / "crops.npz"


def test_python_adds_imports_and_exports(tmp_path: Path, crops: Path) -> None:
    nephros.annotate(tmp_path / "kidney", crops, labels=crops, annotator="Ann", serve=False)
    nephros.annotate(tmp_path / "kidney", [crops], export=tmp_path / "labels.csv")
    project = nephros.Project.open(tmp_path / "kidney")
    assert project.n_cells == 12
    assert project.labels.annotators() == [("Ann", 12)]
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 13
    project.close()


@pytest.mark.parametrize(
    ("parameter", "options"),
    [
        ("mask", {"mask": "mask.tif"}),
        ("voxel_size", {"voxel_size": (1.0, 0.5, 0.5)}),
        ("annotator", {"annotator": "Ann"}),
        ("export", {"export": "labels.xlsx"}),
    ],
)
def test_options_that_would_be_ignored_are_refused(tmp_path: Path, parameter: str, options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        nephros.annotate(tmp_path / "kidney", serve=False, **options)  # type: ignore[arg-type]
    assert caught.value.parameter == parameter
    assert not (tmp_path / "kidney").exists()


def test_the_command_adds_imports_and_exports(tmp_path: Path, crops: Path, capsys: Capture) -> None:
    root = str(tmp_path / "kidney")
    status, _, err = run_cli(
        ["annotate", root, str(crops), "--labels", str(crops), "--annotator", "Ann", "--no-serve"], capsys
    )
    assert (status, "12 cells added" in err, "12 labels set" in err) == (0, True, True), err
    status, _, err = run_cli(["annotate", root, "--export", str(tmp_path / "labels.npz")], capsys)
    assert status == 0, err
    with np.load(tmp_path / "labels.npz") as file:
        assert len(file["train_images"]) == 12


def test_mistakes_are_one_sentence(tmp_path: Path, crops: Path, capsys: Capture) -> None:
    root = str(tmp_path / "kidney")
    assert_usage_error(["annotate"], capsys, "PROJECT")
    assert_usage_error(["annotate", root, "--no-serve"], capsys, "--no-serve")
    assert_usage_error(["annotate", root, "--mask", "m.tif", "--no-serve", "--labels", "x.csv"], capsys, "--mask")
    assert_usage_error(["annotate", str(tmp_path), str(crops), "--no-serve"], capsys, "crops.npz")
    assert_usage_error(["annotate", str(crops), "--export", "labels.csv"], capsys, "crops.npz is not a project")
    assert_usage_error(["annotate", root, str(tmp_path / "none.npz"), "--no-serve"], capsys, "none.npz")
    assert_usage_error(["annotate", root, "--export", "labels.csv"], capsys, "is not a project")
    assert not (tmp_path / "kidney").exists()
    assert run_cli(["annotate", root, str(crops), "--no-serve"], capsys)[0] == 0
    assert_usage_error(
        ["annotate", root, "--export", str(tmp_path / "labels.npz")], capsys, "No cell", "has a label yet"
    )
    assert_usage_error(["annotate", root, "--labels", str(tmp_path / "none.csv"), "--no-serve"], capsys, "none.csv")
