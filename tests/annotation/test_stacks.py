"""Nuclei of stacks in a project: cut out by their mask, with their tissue around them, and back to QuPath."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from nephros.annotation.export import export_labels, write_training_data
from nephros.annotation.project import Project
from nephros.annotation.stack_copies import read_window
from nephros.data.load import load_dataset
from nephros.errors import FileError, InvalidArgument, NephrosError, UnknownName
from nephros.microscopy import segmenters
from nephros.microscopy.class_table import read_class_table
from nephros.microscopy.masks import open_mask
from tests.annotation.conftest import VOXEL_SIZE, write_stack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stacks")
    write_stack(folder)
    write_stack(folder, "K5", (9, 80, 64), seed=1)
    project = Project.create(folder / "kidney")
    project.add_cells([folder / "K4.ome.tif", folder / "K5.ome.tif"], mask="{stem}_mask.tif")
    project.close()
    return folder


@pytest.fixture
def project(folder: Path, tmp_path: Path) -> Project:
    shutil.copytree(folder / "kidney", tmp_path / "kidney")
    return Project.open(tmp_path / "kidney")


def test_nuclei_are_cells_with_a_place(project: Project, folder: Path) -> None:
    masks = [tifffile.imread(folder / f"{name}_mask.tif") for name in ("K4", "K5")]
    ids = [np.unique(mask)[1:] for mask in masks]
    assert [stack.n_cells for stack in project.info.stacks] == [len(ids[0]), len(ids[1])]
    assert project.n_cells == len(ids[0]) + len(ids[1])
    assert [stack.voxel_size for stack in project.info.stacks] == [VOXEL_SIZE] * 2
    location = project.location(len(ids[0]) + 2)
    assert location is not None
    assert (location.stack, location.id) == ("K5", ids[1][2])
    expected = ndimage.center_of_mass(masks[1] == ids[1][2])
    assert np.allclose((location.z, location.y, location.x), expected, atol=0.01)
    assert not (project.images() == 0).all(axis=(1, 2)).any()


def test_tissue_shows_the_nucleus_and_its_neighbors(project: Project, folder: Path) -> None:
    mask, stack = tifffile.imread(folder / "K4_mask.tif"), tifffile.imread(folder / "K4.ome.tif")
    for cell in range(project.info.stacks[0].n_cells):
        location, tissue = project.location(cell), project.tissue(cell)
        assert location is not None
        assert tissue is not None
        n_slices, height, width = tissue.slices.shape
        assert tissue.outline.shape == tissue.slices.shape
        window = (slice(tissue.top, tissue.top + height), slice(tissue.left, tissue.left + width))
        expected = np.stack([mask[z][window] for z in tissue.z]) == location.id
        assert np.array_equal(tissue.outline, expected)
        assert tissue.outline[tissue.center].any()
        assert tissue.z[tissue.center] == pytest.approx(location.z, abs=2)
        assert n_slices == len(tissue.z)
        original = np.stack([stack[z][window] for z in tissue.z]).astype(float)
        assert np.corrcoef(original.ravel(), tissue.slices.ravel())[0, 1] > 0.98
        for neighbor in tissue.neighbors:
            other = project.location(neighbor.cell)
            assert other is not None
            assert other.stack == "K4"
            assert neighbor.cell != cell
            assert (other.z, other.y, other.x) == (neighbor.z, neighbor.y, neighbor.x)
            assert 0 <= neighbor.y - tissue.top <= height
            assert 0 <= neighbor.x - tissue.left <= width
    with pytest.raises(InvalidArgument):
        project.tissue(project.n_cells)


def test_windows_of_a_copy_are_read_across_strips(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2**32, (3, 1030, 700), dtype=np.uint32)
    tifffile.imwrite(tmp_path / "a.tif", values, compression="zlib", photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert len(tif.pages[0].dataoffsets) > 5
    for top, bottom in ((0, 1), (0, 1030), (93, 94), (90, 400), (1029, 1030)):
        window = read_window(tmp_path / "a.tif", [0, 2], top, bottom, 13, 650)
        assert np.array_equal(window, values[[0, 2], top:bottom, 13:650])


def test_a_stack_stays_as_it_was_added(project: Project, folder: Path, tmp_path: Path) -> None:
    n_cells = project.n_cells
    added = project.add_cells(folder / "K4.ome.tif", mask="{stem}_mask.tif")
    assert (added.n_added, added.n_present) == (0, project.info.stacks[0].n_cells)
    assert project.add_cells(folder / "K4.ome.tif").n_added == 0  # whatever segmentation would say
    shutil.copy(folder / "K4_mask.tif", tmp_path / "other.tif")  # the same nuclei
    assert project.add_cells(folder / "K4.ome.tif", mask=str(tmp_path / "other.tif")).n_added == 0
    assert project.add_cells(folder / "K4.ome.tif", channel=0, level=0, voxel_size=VOXEL_SIZE).n_added == 0
    assert project.n_cells == n_cells


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("channel", 1),
        ("voxel_size", (1.0, 0.4, 0.4)),
        ("min_volume", 30.0),
        ("white_level", 200.0),
        ("segment", "rough"),
        ("axes", "ZXY"),
    ],
)
@pytest.mark.parametrize("in_folder", [False, True])
def test_a_stack_is_not_added_again_with_other_options(
    tmp_path: Path, parameter: str, value: object, in_folder: bool
) -> None:
    """Nothing would change, and the wrong cells would stay without a word."""
    (tmp_path / "data").mkdir()
    stack, _, values = write_stack(tmp_path / "data", shape=(9, 80, 64))
    channels = np.stack([tifffile.imread(stack), np.flip(values, 2).astype(np.uint8)], axis=1)
    sides = {f"PhysicalSize{axis}": side for axis, side in zip("ZYX", VOXEL_SIZE, strict=True)}
    tifffile.imwrite(stack, channels, metadata={"axes": "ZCYX", **sides}, ome=True)
    project = Project.create(tmp_path / "kidney")
    source = tmp_path / "data" if in_folder else stack
    added = {"channel": 0} | ({"axes": "ZCYX"} if parameter == "axes" else {})
    project.add_cells(source, mask="{stem}_mask.tif", **added)  # type: ignore[arg-type]
    before, n_cells = (project.root / "project.json").read_bytes(), project.n_cells
    assert project.add_cells(source, mask="{stem}_mask.tif", **added).n_added == 0  # type: ignore[arg-type]
    options = added | ({} if parameter == "segment" else {"mask": "{stem}_mask.tif"}) | {parameter: value}
    with pytest.raises(NephrosError) as caught:
        project.add_cells(source, **options)  # type: ignore[arg-type]
    if not in_folder:
        assert isinstance(caught.value, InvalidArgument)
        assert caught.value.parameter == parameter
        assert stack.name in str(caught.value)
    assert (project.n_cells, (project.root / "project.json").read_bytes()) == (n_cells, before)


@pytest.mark.parametrize("in_folder", [False, True])
def test_a_mask_that_was_corrected_in_place_is_refused(tmp_path: Path, in_folder: bool) -> None:
    (tmp_path / "data").mkdir()
    stack, mask, values = write_stack(tmp_path / "data", shape=(9, 80, 64))
    project = Project.create(tmp_path / "kidney")
    source = tmp_path / "data" if in_folder else stack
    n_cells = project.add_cells(source, mask="{stem}_mask.tif").n_added
    values[values == values.max()] = 0
    tifffile.imwrite(mask, values, imagej=False, photometric="minisblack")
    with pytest.raises(InvalidArgument) as caught:
        project.add_cells(source, mask="{stem}_mask.tif")
    assert caught.value.parameter == "mask"
    assert project.n_cells == n_cells


def test_a_stack_that_changed_is_refused(tmp_path: Path) -> None:
    stack, mask, _ = write_stack(tmp_path, shape=(9, 80, 64))
    project = Project.create(tmp_path / "kidney")
    project.add_cells(stack, mask=str(mask))
    write_stack(tmp_path, shape=(9, 80, 64), seed=5)
    with pytest.raises(FileError, match="changed"):
        project.add_cells(stack, mask=str(mask))


def test_uploads_are_kept_in_the_project(tmp_path: Path) -> None:
    (tmp_path / "upload").mkdir()
    stack, mask, _ = write_stack(tmp_path / "upload", shape=(9, 80, 64))
    project = Project.create(tmp_path / "kidney")
    n_added = project.add_cells(stack, mask=str(mask), copy=True).n_added
    shutil.copytree(tmp_path / "upload", tmp_path / "again")
    shutil.rmtree(tmp_path / "upload")
    assert n_added == project.n_cells > 0
    (source,) = project.info.stacks
    assert (source.path, source.name, source.mask) == ("stacks/K4/original/K4.ome.tif", "K4", "K4_mask.tif")
    assert project.info.notes
    assert (
        str(tmp_path) not in (project.root / "project.json").read_text()
    )  # the folder of the upload is nobody's business
    assert (project.root / source.path).is_file()
    assert set(project.table.files) == {source.path}
    assert (tissue := project.tissue(0)) is not None
    assert tissue.outline.any()
    again = project.add_cells(tmp_path / "again" / stack.name, mask=str(tmp_path / "again" / mask.name), copy=True)
    assert (again.n_added, again.n_present) == (0, n_added)
    assert len(list((project.root / "stacks").iterdir())) == 1


def test_uploads_of_another_mask_or_stack_of_the_same_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "upload").mkdir()
    stack, mask, values = write_stack(tmp_path / "upload", shape=(9, 80, 64))
    project = Project.create(tmp_path / "kidney")
    n_cells = project.add_cells(stack, mask=str(mask), copy=True).n_added
    before = (project.root / "project.json").read_bytes()
    values[values == values.max()] = 0
    tifffile.imwrite(mask, values, imagej=False, photometric="minisblack")
    with pytest.raises(InvalidArgument) as caught:
        project.add_cells(stack, mask=str(mask), copy=True)
    assert caught.value.parameter == "mask"
    with pytest.raises(InvalidArgument, match="voxel_size"):
        project.add_cells(stack, voxel_size=(1.0, 0.4, 0.4), copy=True)
    write_stack(tmp_path / "upload", shape=(9, 80, 64), seed=5)
    with pytest.raises(FileError, match="rename it") as refused:
        project.add_cells(stack, mask=str(mask), copy=True)
    assert str(tmp_path) not in str(refused.value)
    assert (project.n_cells, (project.root / "project.json").read_bytes()) == (n_cells, before)
    stack.rename(tmp_path / "upload" / "K6.ome.tif")
    assert project.add_cells(tmp_path / "upload" / "K6.ome.tif", mask=str(mask), copy=True).n_added > 0
    assert [source.name for source in project.info.stacks] == ["K4", "K6"]


def test_ids_that_count_within_each_slice_are_joined(tmp_path: Path) -> None:
    stack, mask, values = write_stack(tmp_path, shape=(9, 80, 64))
    by_slice = np.stack([np.unique(one, return_inverse=True)[1].reshape(one.shape) for one in values]).astype(np.int32)
    tifffile.imwrite(mask, by_slice, imagej=False, photometric="minisblack")
    project = Project.create(tmp_path / "kidney")
    with pytest.raises(FileError, match="stitch_threshold"):
        project.add_cells(stack, mask=str(mask))
    project.add_cells(stack, mask=str(mask), stitch_threshold=0.25)
    stitched = np.stack(list(open_mask(mask, values.shape, 0.25).slices()))
    assert project.table.indices.tolist() == np.unique(stitched)[1:].tolist()
    nucleus = stitched[stitched > 0][-1]
    tissue = project.tissue(int(np.flatnonzero(project.table.indices == nucleus)[0]))
    assert tissue is not None
    n_slices = np.sum([(stitched[z] == nucleus).any() for z in tissue.z])
    assert tissue.outline.any(axis=(1, 2)).sum() == n_slices
    assert project.add_cells(stack, mask=str(mask), stitch_threshold=0.25).n_added == 0
    with pytest.raises(InvalidArgument, match="stitch_threshold"):
        project.add_cells(stack, mask=str(mask), stitch_threshold=0.5)


def test_the_segmenter_can_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack, mask, values = write_stack(tmp_path, shape=(9, 80, 64))
    mask.unlink()  # it is that of no one
    monkeypatch.setattr(segmenters, "_cellpose_slices", lambda *_: iter(values))  # in place of the package
    project = Project.create(tmp_path / "kidney")
    added = project.add_cells(stack, segment="cellpose")
    assert added.n_added == project.n_cells == len(np.unique(values)) - 1
    assert "cellpose" in project.info.stacks[0].mask
    with pytest.raises(InvalidArgument) as raised:
        project.add_cells(stack, segment="cellpose", mask=str(mask))
    assert raised.value.parameter == "segment"
    with pytest.raises(UnknownName):
        project.add_cells(stack, segment="celpose")


def test_two_stacks_of_one_name(tmp_path: Path) -> None:
    paths = []
    for seed, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        paths.append(write_stack(tmp_path / folder, shape=(9, 80, 64), seed=seed)[0])
    project = Project.create(tmp_path / "kidney")
    project.add_cells(paths, mask="{stem}_mask.tif")
    assert [stack.name for stack in project.info.stacks] == ["K4", "K4-2"]
    assert project.location(project.n_cells - 1).stack == "K4-2"  # type: ignore[union-attr]


def test_geojson_has_the_outlines_of_labeled_nuclei(project: Project, folder: Path, tmp_path: Path) -> None:
    n_first = project.info.stacks[0].n_cells
    project.labels.add_class("<b>tubule</b>", "#ff0000")
    project.labels.add_class("@podocyte")
    project.labels.apply([(0, 0), (3, 1), (n_first, 1)], "ann")
    assert export_labels(project, "geojson", tmp_path / "labels.geojson") == 3
    paths = sorted(tmp_path.glob("labels*"))
    assert [path.name for path in paths] == ["labels-K4.geojson", "labels-K5.geojson"]
    both = [json.loads(path.read_text(encoding="utf-8"))["features"] for path in paths]  # of two images
    assert [[feature["properties"]["metadata"]["stack"] for feature in one] for one in both] == [["K4", "K4"], ["K5"]]
    features = both[0]
    assert features[0]["properties"]["classification"] == {"name": "<b>tubule</b>", "color": [255, 0, 0]}
    mask = tifffile.imread(folder / "K4_mask.tif")
    location = project.location(0)
    assert location is not None
    ring = np.array(features[0]["geometry"]["coordinates"][0])
    x, y = ring[:-1].T
    area = abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2
    assert area == (mask == location.id).any(axis=0).sum()
    for feature in features:
        z = ndimage.center_of_mass(mask == int(feature["properties"]["name"]))[0]
        assert feature["geometry"].get("plane", {"z": 0})["z"] == round(z)
    assert any("plane" in feature["geometry"] for feature in features)
    buffer = io.BytesIO()
    assert export_labels(project, "geojson", buffer) == 3
    with zipfile.ZipFile(buffer) as archive:
        assert archive.namelist() == ["K4.geojson", "K5.geojson"]
        assert [archive.read(name) for name in archive.namelist()] == [path.read_bytes() for path in paths]
    project.labels.apply([(n_first, None)], "ann")
    assert export_labels(project, "geojson", tmp_path / "one.geojson") == 2
    assert (tmp_path / "one.geojson").read_bytes() == paths[0].read_bytes()


def test_csv_is_a_table_of_classes(project: Project, tmp_path: Path) -> None:
    project.labels.add_class("=tubule")
    project.labels.apply([(0, 0), (project.n_cells - 1, 0)], "ann")
    export_labels(project, "csv", tmp_path / "labels.csv")
    table = read_class_table(tmp_path / "labels.csv")
    locations = [project.location(cell) for cell in (0, project.n_cells - 1)]
    assert [(row.id, row.stack, row.class_name) for row in table.rows] == [
        (location.id, location.stack, "=tubule") for location in locations if location
    ]


def test_training_data_keep_stacks_together(project: Project, tmp_path: Path) -> None:
    project.labels.add_class("a")
    project.labels.add_class("b")
    project.labels.apply([(cell, cell % 2) for cell in range(project.n_cells)], "ann")
    write_training_data(project, tmp_path / "data.npz")
    with np.load(tmp_path / "data.npz") as file:
        assert set(file["stack"].tolist()) == {"K4", "K5"}
    dataset = load_dataset(tmp_path / "data.npz")
    cell_of_name = {}
    for cell in range(project.n_cells):
        location = project.location(cell)
        assert location is not None
        cell_of_name[f"{location.stack}, nucleus {location.id}"] = cell
    for _, split in dataset.splits():
        assert split.names is not None
        cells = [cell_of_name[str(name)] for name in split.names]
        assert np.array_equal(split.images, project.images(cells))


@pytest.mark.parametrize("name", ["intensity.ome.tif", "mask.ome.tif"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_a_damaged_copy_costs_the_tissue_alone(project: Project, name: str, damage: str) -> None:
    path = project.path("stacks", "K4", name)
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[: 0 if damage == "empty" else 300])
    again = Project.open(project.root)
    assert again.n_cells == project.n_cells
    with pytest.raises(FileError, match=name):
        again.tissue(0)
    assert again.tissue(again.n_cells - 1) is not None


def test_a_missing_stack_is_not_needed(project: Project, tmp_path: Path) -> None:
    """The project has copies, so that it can be passed on without the stacks."""
    info = json.loads(project.path("project.json").read_text())
    info["stacks"][0]["path"] = "/gone/K4.ome.tif"
    table = project.path("cells.csv").read_text().replace(project.info.stacks[0].path, "/gone/K4.ome.tif")
    project.path("project.json").write_text(json.dumps(info))
    project.path("cells.csv").write_text(table)
    again = Project.open(project.root)
    assert again.tissue(0) is not None
    assert again.location(0) == project.location(0)


def test_files_that_are_no_cells_are_refused_before_anything_is_segmented(project: Project, folder: Path) -> None:
    before = project.n_cells
    for source in (
        [folder / "K4.ome.tif", folder / "K4_mask.tif"],  # as K4* names them
        project.root,
        project.root.parent,
        project.path("stacks", "K4", "mask.ome.tif"),
    ):
        with pytest.raises(InvalidArgument) as caught:
            project.add_cells(source)
        assert caught.value.parameter == "data"
    assert project.n_cells == before


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mask": "K5_mask.tif"}, "must be the same size"),
        ({"mask": "K4.ome.tif"}, "not the stack itself"),
        ({"mask": "none.tif"}, "none.tif"),
        ({"channel": 3}, "channel"),
        ({"axes": "QQQ"}, "axes"),
        ({"min_volume": 1e9}, "min_volume"),
    ],
)
def test_stacks_that_do_not_fit_their_options_add_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], text: str
) -> None:
    monkeypatch.chdir(folder)
    project = Project.create(tmp_path / "kidney")
    with pytest.raises(NephrosError, match=text) as caught:
        project.add_cells("K4.ome.tif", **({"mask": "K4_mask.tif"} | options))  # type: ignore[arg-type]
    assert ": ;" not in str(caught.value)
    assert project.n_cells == 0
    assert not (project.root / "stacks").exists()
