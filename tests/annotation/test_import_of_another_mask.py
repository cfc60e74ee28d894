"""Labels that were given with another mask of the same stack: they go to the nuclei at their positions, or nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from nephros.annotation.export import export_labels
from nephros.annotation.label_import import import_labels
from nephros.annotation.project import Project
from nephros.errors import FileError
from tests.annotation.conftest import VOXEL_SIZE, write_stack

CLASSES = ("tubule", "podocyte", "endothelium")


def _class_of_id(project: Project) -> dict[int, str]:
    """Return the class of each labeled nucleus by its id in the mask."""
    names = {label_class.id: label_class.name for label_class in project.labels.classes()}
    labels = project.labels.current().tolist()
    ids = project.table.indices.tolist()
    return {nucleus: names[label] for nucleus, label in zip(ids, labels, strict=True) if label >= 0}


def _write_mask(path: Path, mask: NDArray[np.int32]) -> Path:
    tifffile.imwrite(path, mask, imagej=False, photometric="minisblack")
    return path


@pytest.fixture
def labeled(tmp_path: Path) -> Project:
    """Return a project of a stack whose nuclei are all labeled."""
    stack, mask, _ = write_stack(tmp_path)
    project = Project.create(tmp_path / "kidney")
    project.add_cells(stack, mask=str(mask))
    for name in CLASSES:
        project.labels.add_class(name)
    project.labels.apply([(cell, cell % len(CLASSES)) for cell in range(project.n_cells)], "ann")
    return project


def _project(labeled: Project, mask: NDArray[np.int32]) -> Project:
    """Return a new project of the same stack with another mask."""
    folder = labeled.root.parent
    project = Project.create(folder / "corrected")
    project.add_cells(folder / "K4.ome.tif", mask=str(_write_mask(folder / "corrected.tif", mask)))
    return project


def _permutation(labeled: Project) -> NDArray[np.int32]:
    """Return the new id of each former one, which another nucleus had."""
    ids = labeled.table.indices
    lookup = np.zeros(ids.max() + 1, np.int32)
    lookup[ids] = np.roll(ids, 7)
    return lookup


@pytest.mark.parametrize("suffix", ["csv", "geojson"])
@pytest.mark.parametrize("with_uuids", [True, False])
def test_labels_stay_with_their_nuclei_where_the_ids_are_others(
    labeled: Project, tmp_path: Path, suffix: str, with_uuids: bool
) -> None:
    new_id = _permutation(labeled)
    project = _project(labeled, new_id[tifffile.imread(tmp_path / "K4_mask.tif")])
    file = tmp_path / f"labels.{suffix}"
    export_labels(labeled, suffix, file)  # type: ignore[arg-type]
    if not with_uuids and suffix == "geojson":  # as where most nuclei are of other stacks, and QuPath made the ids
        collection = json.loads(file.read_text(encoding="utf-8"))
        for feature in collection["features"]:
            feature["id"] = "00000000-0000-0000-0000-000000000000"
        file.write_text(json.dumps(collection))
    report = import_labels(project, file)
    expected = {int(new_id[nucleus]): name for nucleus, name in _class_of_id(labeled).items()}
    imported = _class_of_id(project)
    assert imported.items() <= expected.items()
    assert len(imported) >= 0.9 * len(expected)  # fewer where nuclei are above each other, or touch
    assert any("another mask" in note for note in report.notes)
    assert report.n_labels + report.n_missing == len(expected)


@pytest.mark.parametrize("suffix", ["csv", "geojson"])
def test_a_few_other_ids_do_not_scramble_the_rest(labeled: Project, tmp_path: Path, suffix: str) -> None:
    ids = labeled.table.indices
    new_id = np.arange(ids.max() + 1, dtype=np.int32)
    new_id[ids[:2]] = ids[1::-1]  # two have each other's id, and the last one is gone
    new_id[ids[-1]] = 0
    project = _project(labeled, new_id[tifffile.imread(tmp_path / "K4_mask.tif")])
    export_labels(labeled, suffix, tmp_path / f"labels.{suffix}")  # type: ignore[arg-type]
    report = import_labels(project, tmp_path / f"labels.{suffix}")
    expected = _class_of_id(labeled) | dict(zip(ids[:2].tolist(), CLASSES[1::-1], strict=True))
    del expected[int(ids[-1])]
    assert _class_of_id(project) == expected
    assert report.n_missing == 1


@pytest.mark.parametrize("suffix", ["csv", "geojson"])
def test_the_same_mask_has_no_notes(labeled: Project, tmp_path: Path, suffix: str) -> None:
    project = _project(labeled, tifffile.imread(tmp_path / "K4_mask.tif"))
    export_labels(labeled, suffix, tmp_path / f"labels.{suffix}")  # type: ignore[arg-type]
    report = import_labels(project, tmp_path / f"labels.{suffix}")
    assert (report.n_missing, report.notes) == (0, ())
    assert _class_of_id(project) == _class_of_id(labeled)


@pytest.mark.parametrize("suffix", ["csv", "geojson"])
def test_labels_of_another_stack_of_the_same_name_are_refused(labeled: Project, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "other").mkdir()
    stack, mask, _ = write_stack(tmp_path / "other", shape=(20, 112, 136), seed=9)  # whose nuclei are on a grid, too
    for path in (stack, mask):
        part = tifffile.imread(path)[3:17, 11:107, 11:131]
        tifffile.imwrite(path, part, photometric="minisblack", metadata={"axes": "ZYX"}, ome=path == stack)
    project = Project.create(tmp_path / "corrected")
    project.add_cells(stack, mask=str(mask), voxel_size=VOXEL_SIZE)
    export_labels(labeled, suffix, tmp_path / f"labels.{suffix}")  # type: ignore[arg-type]
    with pytest.raises(FileError, match="this stack"):
        import_labels(project, tmp_path / f"labels.{suffix}")
    assert project.labels.last_seq == 0


def test_a_column_cell_alone_holds_ids_in_the_mask(labeled: Project, tmp_path: Path) -> None:
    project = _project(labeled, tifffile.imread(tmp_path / "K4_mask.tif"))
    first, second = project.table.indices[:2].tolist()
    (tmp_path / "classes.csv").write_text(f"cell,class\n{first},tubule\n{second},podocyte\n")
    report = import_labels(project, tmp_path / "classes.csv")
    assert _class_of_id(project) == {first: "tubule", second: "podocyte"}
    assert any("column cell" in note for note in report.notes)


def test_a_column_cell_counts_the_cells_of_a_project_without_stacks(tmp_path: Path) -> None:
    np.savez(tmp_path / "crops.npz", images=np.random.default_rng(0).integers(0, 255, (4, 28, 28), np.uint8))
    project = Project.create(tmp_path / "kidney")
    project.add_cells(tmp_path / "crops.npz")
    (tmp_path / "classes.csv").write_text("cell,class\n0,tubule\n3,podocyte\n")
    import_labels(project, tmp_path / "classes.csv")
    assert project.labels.current().tolist() == [0, -1, -1, 1]
