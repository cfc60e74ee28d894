"""Files and data sets that are named by path are found again after folders were moved, by their digests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nephros.data.dataset import Dataset
from nephros.data.load import data_request, load_dataset, load_request
from nephros.data.relocation import candidate_paths, find_moved, reopen_dataset
from nephros.errors import FileError, IncompatibleError, InvalidArgument
from nephros.files import file_digest
from tests.conftest import square_images, squares_dataset, write_npz


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with a stack in one subfolder and the file that names it in another."""
    root = tmp_path / "project"
    for name, content in (("raw/day 1/stack.tif", "pixels"), ("out/cells.json", "{}")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def locate(recorded: str | Path, sha256: str, beside: Path, given: Path | None = None) -> Path:
    return find_moved(recorded, sha256, beside, file_digest, parameter="stack", given=given)


def test_a_file_is_found_where_it_was_and_wherever_it_moved_with_what_names_it(project: Path) -> None:
    recorded, beside = project / "raw/day 1/stack.tif", project / "out/cells.json"
    digest = file_digest(recorded)
    assert locate(recorded, digest, beside) == recorded
    moved = project.rename(project.with_name("elsewhere"))
    assert locate(recorded, digest, moved / "out/cells.json") == moved / "raw/day 1/stack.tif"
    (moved / "raw/day 1/stack.tif").rename(moved / "out/stack.tif")  # beside the file that names it
    assert locate(recorded, digest, moved / "out/cells.json") == moved / "out/stack.tif"
    windows = r"D:\data\project\raw\day 1\stack.tif"
    assert locate(windows, digest, moved / "out/cells.json") == moved / "out/stack.tif"


def test_only_the_same_bytes_count(project: Path) -> None:
    recorded, beside = project / "raw/day 1/stack.tif", project / "out/cells.json"
    digest = file_digest(recorded)
    shutil.copy(recorded, project / "out/stack.tif")
    recorded.write_text("changed")
    assert locate(recorded, digest, beside) == project / "out/stack.tif"
    (project / "out/stack.tif").write_text("changed too")
    with pytest.raises(FileError, match=r"SHA-256 differs.*`stack`"):
        locate(recorded, digest, beside)
    with pytest.raises(FileError, match=r"SHA-256 differs"):
        locate(recorded, digest, beside, given=project / "out/stack.tif")


def test_what_is_gone_is_named_with_the_parameter_that_helps(project: Path, tmp_path: Path) -> None:
    recorded, beside = project / "raw/day 1/stack.tif", project / "out/cells.json"
    digest = file_digest(recorded)
    renamed = recorded.rename(tmp_path / "renamed.tif")
    with pytest.raises(FileError, match=r"stack\.tif, from which .*cells\.json.*`stack`"):
        locate(recorded, digest, beside)
    assert locate(recorded, digest, beside, given=renamed) == renamed
    with pytest.raises(FileError, match=r"none\.tif does not exist"):
        locate(recorded, digest, beside, given=tmp_path / "none.tif")


def test_few_folders_are_looked_at(tmp_path: Path) -> None:
    deep = tmp_path / "1/2/3/4/5/6/7"
    deep.mkdir(parents=True)
    paths = list(candidate_paths("/a/b/c/d/e/f.tif", deep))
    assert paths[0] == Path("/a/b/c/d/e/f.tif")
    assert len(paths) == len(set(paths)) <= 21
    assert deep / "f.tif" in paths
    assert deep.parent / "e/f.tif" in paths


def write_folder(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for k in range(5):
            Image.fromarray(rng.integers(0, 255, (12, 12), dtype=np.uint8)).save(root / name / f"{k}.png")
    return root


@pytest.mark.parametrize(
    "write",
    [lambda root: write_npz(root / "cells.npz", squares_dataset(48)), lambda root: write_folder(root / "cells")],
)
def test_a_data_set_is_found_near_a_run_or_where_a_user_says(write: Callable[[Path], Path], tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / "runs/one").mkdir(parents=True)
    path = write(root)
    dataset = load_dataset(path)
    request, provenance = data_request(path), dataset.provenance.to_dict()
    assert reopen_dataset(request, provenance, root / "runs/one").provenance.path == str(path)
    moved = root.rename(tmp_path / "elsewhere")
    reopened = reopen_dataset(request, provenance, moved / "runs/one")
    assert reopened.provenance.path == str(moved / path.name)
    assert np.array_equal(reopened.train.images, dataset.train.images)
    renamed = (moved / path.name).rename(tmp_path / f"renamed{path.suffix}")
    with pytest.raises(FileError, match=r"cells.*not near that folder.*`data`"):
        reopen_dataset(request, provenance, moved / "runs/one")
    assert reopen_dataset(request, provenance, moved / "runs/one", renamed).provenance.path == str(renamed)
    assert reopen_dataset(request, provenance, moved / "runs/one", dataset) is dataset


def test_subset_and_new_splits_are_drawn_again_from_the_moved_file(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "cells.npz", squares_dataset(48))
    request = data_request(path, seed=3, subset=20, resplit=(40, 20))
    dataset = load_request(request)
    moved = path.rename(tmp_path / "moved.npz")
    reopened = reopen_dataset(request, dataset.provenance.to_dict(), tmp_path, moved)
    assert np.array_equal(reopened.train.images, dataset.train.images)
    assert np.array_equal(reopened.val.labels, dataset.val.labels)


def test_other_data_is_refused_and_the_original_preferred(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "cells.npz", squares_dataset(48))
    request, provenance = data_request(path), load_dataset(path).provenance.to_dict()
    (tmp_path / "run").mkdir()
    shutil.copy(path, tmp_path / "run/cells.npz")
    write_npz(path, squares_dataset(40))
    assert reopen_dataset(request, provenance, tmp_path / "run").provenance.path == str(tmp_path / "run/cells.npz")
    (tmp_path / "run/cells.npz").unlink()
    with pytest.raises(IncompatibleError, match=r"cells\.npz is not the data of .*`data`"):
        reopen_dataset(request, provenance, tmp_path / "run")
    with pytest.raises(IncompatibleError, match=r"SHA-256 differs"):
        reopen_dataset(request, provenance, tmp_path / "run", path)


def test_images_in_other_splits_or_groups_are_other_data(tmp_path: Path) -> None:
    images, labels = square_images(48, 2, seed=0)
    splits = np.tile(["train", "val", "test"], 16)
    groups = np.arange(48) // 4
    dataset = Dataset.from_arrays(images, labels, splits=splits, groups=groups)
    request, provenance = data_request(""), dataset.provenance.to_dict()
    again = Dataset.from_arrays(images, labels, splits=splits, groups=groups)
    assert reopen_dataset(request, provenance, tmp_path, again) is again
    for other in (
        Dataset.from_arrays(images, labels, splits=np.roll(splits, 1), groups=groups),
        Dataset.from_arrays(images, labels, splits=splits, groups=groups // 2),
        Dataset.from_arrays(images, labels, seed=1),
    ):
        with pytest.raises(IncompatibleError, match="in other splits or groups"):
            reopen_dataset(request, provenance, tmp_path, other)


def test_a_data_set_by_name_is_found_where_its_file_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    write_npz(tmp_path / "data/breastmnist.npz", squares_dataset(48, classes=2))
    monkeypatch.setenv("NEPHROS_DATA", str(tmp_path / "data"))
    request, provenance = data_request("breastmnist"), load_dataset("breastmnist").provenance.to_dict()
    monkeypatch.delenv("NEPHROS_DATA")
    assert reopen_dataset(request, provenance, tmp_path).provenance.sha256 == provenance["sha256"]
    (tmp_path / "data/breastmnist.npz").unlink()
    with pytest.raises(FileError, match="BreastMNIST is not on this machine"):
        reopen_dataset(request, provenance, tmp_path)


def test_data_from_python_must_be_given_again(tiny_dataset: Dataset, tmp_path: Path) -> None:
    provenance = tiny_dataset.provenance.to_dict()
    with pytest.raises(InvalidArgument) as exc_info:
        reopen_dataset(data_request(""), provenance, tmp_path)
    assert exc_info.value.parameter == "data"
    assert reopen_dataset(data_request(""), provenance, tmp_path, tiny_dataset) is tiny_dataset
