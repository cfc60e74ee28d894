"""Labels from files: those that were exported come back, others find their cells, and wrong ones are refused or counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from nephros.annotation.export import export_labels
from nephros.annotation.label_import import import_labels
from nephros.annotation.project import Project
from nephros.errors import FileError, InvalidArgument
from nephros.tissue.class_colors import CLASS_COLORS
from tests.annotation.conftest import write_stack
from tests.conftest import square_images, squares_dataset, write_npz

NAMES = ['=HYPERLINK("x")', "<img src=x onerror=alert(1)>", "-tubule; +x", "@podocyte, 2"]


def _labels(project: Project) -> list[str]:
    names = {c.id: c.name for c in project.labels.classes()} | {-1: ""}
    return [names[label] for label in project.labels.current().tolist()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a project of the nuclei of two stacks and of an npz file, of which every third is labeled."""
    folder = tmp_path_factory.mktemp("import")
    write_stack(folder, shape=(9, 80, 64))
    write_stack(folder, "K5", (9, 80, 64), seed=1)
    np.savez(folder / "crops.npz", images=square_images(12, 3, 0)[0])
    project = Project.create(folder / "kidney")
    project.add_cells([folder / "K4.ome.tif", folder / "K5.ome.tif"], mask="{stem}_mask.tif")
    project.add_cells(folder / "crops.npz")
    shutil.copytree(folder / "kidney", folder / "unlabeled")
    for name in NAMES:
        project.labels.add_class(name)
    cells = range(0, project.n_cells, 3)
    project.labels.apply([(cell, cell % 4) for cell in cells], "ann")
    project.labels.apply([(cells[-1], 0)], "=bob")
    project.close()
    return folder


@pytest.fixture
def labeled(folder: Path) -> Project:
    return Project.open(folder / "kidney")


@pytest.fixture
def project(folder: Path, tmp_path: Path) -> Project:
    shutil.copytree(folder / "unlabeled", tmp_path / "kidney")
    return Project.open(tmp_path / "kidney")


def test_a_csv_table_comes_back(labeled: Project, project: Project, tmp_path: Path) -> None:
    n_labels = export_labels(labeled, "csv", tmp_path / "labels.csv")
    report = import_labels(project, tmp_path / "labels.csv")
    assert (report.n_labels, report.n_unchanged, report.n_missing) == (n_labels, 0, 0)
    assert sorted(report.new_classes) == sorted(NAMES)
    assert _labels(project) == _labels(labeled)
    assert project.labels.annotators() == [("ann", n_labels - 1), ("=bob", 1)]
    again = import_labels(project, tmp_path / "labels.csv")
    assert (again.n_labels, again.n_unchanged, again.new_classes) == (0, n_labels, ())
    assert project.labels.last_seq == n_labels
    other = import_labels(project, tmp_path / "labels.csv", "carl")  # says the same, in another's name
    assert other.n_labels == n_labels


def test_a_table_of_another_project_with_the_same_cells(labeled: Project, folder: Path, tmp_path: Path) -> None:
    """Cells are found by their sources, whatever their numbers are."""
    export_labels(labeled, "csv", tmp_path / "labels.csv")
    project = Project.create(tmp_path / "other")
    project.add_cells(folder / "crops.npz")
    project.add_cells(folder / "K5.ome.tif", mask="{stem}_mask.tif")
    report = import_labels(project, tmp_path / "labels.csv")
    n_first = labeled.info.stacks[0].n_cells
    labels = _labels(labeled)
    assert _labels(project) == labels[-12:] + labels[n_first:-12]
    assert report.n_missing == sum(map(bool, labels[:n_first]))


def test_cells_of_files_with_the_same_name_come_back(tmp_path: Path) -> None:
    images, _ = square_images(12, 3, 0)
    projects = []
    for name, order in (("first", "ab"), ("second", "ba")):
        project = Project.create(tmp_path / name)
        project.labels.add_class("round")
        for folder in order:
            (tmp_path / folder).mkdir(exist_ok=True)
            np.savez(tmp_path / folder / "x.npz", images=images[:6] if folder == "a" else images[6:])
            project.add_cells(tmp_path / folder / "x.npz")
        projects.append(project)
    projects[0].labels.apply([(2, 0)], "ann")  # of a/x.npz
    export_labels(projects[0], "csv", tmp_path / "labels.csv")
    assert str(tmp_path) not in (tmp_path / "labels.csv").read_text(encoding="utf-8")
    assert import_labels(projects[1], tmp_path / "labels.csv", None).n_labels == 1
    assert np.flatnonzero(projects[1].labels.current() >= 0).tolist() == [8]
    for project in projects:
        project.close()


def test_geojson_comes_back(labeled: Project, project: Project, tmp_path: Path) -> None:
    n_labels = export_labels(labeled, "geojson", tmp_path / "labels.geojson")
    reports = [import_labels(project, tmp_path / f"labels-{name}.geojson", "ann") for name in ("K4", "K5")]
    assert sum(report.n_labels for report in reports) == n_labels
    assert all(report.n_missing == 0 and not report.notes for report in reports)
    assert _labels(project) == [*_labels(labeled)[:-12], *[""] * 12]


def test_geojson_of_qupath(labeled: Project, tmp_path: Path, folder: Path) -> None:
    """Ids that QuPath made: objects are found by where they are, and those without a class are left out."""
    project = Project.create(tmp_path / "one")
    project.add_cells(folder / "K4.ome.tif", mask="{stem}_mask.tif")
    export_labels(labeled, "geojson", tmp_path / "labels.geojson")
    features = json.loads((tmp_path / "labels-K4.geojson").read_text(encoding="utf-8"))["features"]
    for number, feature in enumerate(features):
        feature["id"] = f"00000000-0000-0000-0000-{number:012}"
        feature["properties"] = {"objectType": "detection", "classification": feature["properties"]["classification"]}
        feature["properties"]["measurements"] = {"Nucleus: Area": float("nan")}  # of a cell without a nucleus
    del features[0]["properties"]["classification"]
    (tmp_path / "objects.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    report = import_labels(project, tmp_path / "objects.geojson", "ann")
    assert report.n_labels >= 0.5 * (len(features) - 1)  # a projection: nuclei above each other are not told apart
    labels = _labels(labeled)[: project.n_cells]
    assert all(name in ("", labels[cell]) for cell, name in enumerate(_labels(project)))
    assert report.notes


@pytest.mark.parametrize(
    "name", ["K5.geojson", "labels-K5.geojson", "K5.ome.tif.geojson", "mixed.geojson", "other.geojson"]
)
def test_geojson_of_qupath_is_of_the_stack_whose_name_the_file_has(
    name: str, labeled: Project, project: Project, tmp_path: Path
) -> None:
    """QuPath writes no image into it; `mixed` has objects of nephros, too, which name their stack."""
    export_labels(labeled, "geojson", tmp_path / "own.geojson")
    features = json.loads((tmp_path / "own-K5.geojson").read_text(encoding="utf-8"))["features"]
    for number, feature in enumerate(features[name == "mixed.geojson" :]):
        feature["id"] = f"00000000-0000-0000-0000-{number:012}"
        feature["properties"] = {"objectType": "detection", "classification": feature["properties"]["classification"]}
    (tmp_path / name).write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    if name == "other.geojson":
        with pytest.raises(FileError, match=r"2 stacks .* such as K4\.geojson"):
            import_labels(project, tmp_path / name, "ann")
        return
    report = import_labels(project, tmp_path / name, "ann")
    assert report.n_labels >= 0.5 * len(features)
    assert any("taken for those of K5" in note for note in report.notes)
    first = project.info.stacks[0].n_cells
    expected = ["" if cell < first else label for cell, label in enumerate(_labels(labeled))]
    assert all(label in ("", wanted) for label, wanted in zip(_labels(project), expected, strict=True))


def test_geojson_of_a_coarser_level_is_in_pixels_of_the_finest(tmp_path: Path, folder: Path) -> None:
    pixels, mask = tifffile.imread(folder / "K4.ome.tif"), tifffile.imread(folder / "K4_mask.tif")
    tifffile.imwrite(tmp_path / "K4_mask.tif", mask, photometric="minisblack")
    sizes = {f"PhysicalSize{axis}": side for axis, side in zip("ZYX", (1, 0.25, 0.25), strict=True)}
    with tifffile.TiffWriter(tmp_path / "K4.ome.tif", ome=True) as writer:
        finest = pixels.repeat(2, axis=1).repeat(2, axis=2)
        writer.write(finest, subifds=1, photometric="minisblack", metadata={"axes": "ZYX", **sizes})
        writer.write(pixels, subfiletype=1, photometric="minisblack")
    project = Project.create(tmp_path / "kidney")
    project.add_cells(tmp_path / "K4.ome.tif", mask="{stem}_mask.tif", level=1)
    project.labels.add_class("tubule")
    project.labels.apply([(0, 0)], "ann")
    export_labels(project, "geojson", tmp_path / "labels.geojson")
    collection = json.loads((tmp_path / "labels.geojson").read_text(encoding="utf-8"))
    feature = collection["features"][0]
    assert feature["properties"]["metadata"]["stack"] == "K4"
    location = Project.open(tmp_path / "kidney").location(0)
    assert location is not None
    rows, columns = np.nonzero((mask == location.id).any(axis=0))
    x, y = np.array(feature["geometry"]["coordinates"][0]).T
    assert (x.min(), x.max()) == (2 * columns.min(), 2 * (columns.max() + 1))
    assert (y.min(), y.max()) == (2 * rows.min(), 2 * (rows.max() + 1))

    project.labels.apply([(0, None)], "ann")
    feature["id"] = "00000000-0000-0000-0000-000000000000"  # as of a nucleus that was drawn in QuPath
    feature["properties"] = {"objectType": "detection", "classification": feature["properties"]["classification"]}
    (tmp_path / "drawn.geojson").write_text(json.dumps(collection))
    assert import_labels(project, tmp_path / "drawn.geojson", "ann").n_labels == 1
    assert np.flatnonzero(project.labels.current() >= 0).tolist() == [0]


def test_npz_comes_back(labeled: Project, project: Project, tmp_path: Path) -> None:
    n_labels = export_labels(labeled, "npz", tmp_path / "labels.npz")
    report = import_labels(project, tmp_path / "labels.npz", "ann")
    assert (report.n_labels, report.n_missing) == (n_labels, 0)
    assert _labels(project) == _labels(labeled)


def test_labels_of_the_file_that_the_cells_are_of(tmp_path: Path) -> None:
    dataset = squares_dataset(n=24)
    dataset.train.images[:6] = dataset.train.images[0]  # pixels alone would not tell these apart
    file = write_npz(tmp_path / "squares.npz", dataset)
    project = Project.create(tmp_path / "kidney")
    project.add_cells(file)
    report = import_labels(project, file, "truth")
    assert (report.n_labels, report.n_missing) == (36, 0)
    assert set(report.new_classes) == {f"class {number}" for number in range(4)}
    expected = np.concatenate([dataset.train.labels, dataset.val.labels, dataset.test.labels])
    assert _labels(project) == [f"class {label}" for label in expected]


def test_tables_of_files_and_labels(tmp_path: Path) -> None:
    from PIL import Image

    images = square_images(6, 2, 0)[0]
    for folder in ("a", "b"):
        (tmp_path / "crops" / folder).mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(
            tmp_path / "crops" / "ab"[number % 2] / f"cell{number // 2}{'x' * (number % 2)}.png"
        )
    Image.fromarray(images[0]).save(tmp_path / "crops" / "b" / "cell0.png")
    project = Project.create(tmp_path / "kidney")
    assert project.add_cells(tmp_path / "crops").n_added == 7
    (tmp_path / "crops" / "labels.csv").write_text(
        "file,label\na/cell0.png,dark\na/cell1.png,light\ncell2x.png,light\ncell0.png,dark\nb/cell9.png,light\n"
    )
    report = import_labels(project, tmp_path / "crops" / "labels.csv")
    assert (report.n_labels, report.n_missing) == (3, 2)  # cell0.png may be either of two
    assert project.labels.annotators() == [("imported", 3)]


def test_tables_of_ids(project: Project, tmp_path: Path) -> None:
    first, second = (project.location(cell) for cell in (0, project.info.stacks[0].n_cells))
    assert first is not None
    assert second is not None
    (tmp_path / "classes.csv").write_text(
        f"id,class,stack\n{first.id},a,K4\n{second.id},b,K5.ome.tif\n999999,a,K4\n{first.id},c,K9\n"
    )
    report = import_labels(project, tmp_path / "classes.csv", "ann")
    assert (report.n_labels, report.n_missing) == (2, 2)
    assert _labels(project)[0] == "a"
    assert _labels(project)[project.info.stacks[0].n_cells] == "b"
    (tmp_path / "classes.csv").write_text(f"id,class\n{first.id},a\n")
    with pytest.raises(FileError, match="stack"):
        import_labels(project, tmp_path / "classes.csv", "ann")


def test_classes_that_look_the_same_are_one(project: Project, tmp_path: Path) -> None:
    project.labels.add_class("é", CLASS_COLORS[3])
    (tmp_path / "labels.csv").write_text(
        "cell,class,file,index\n0,e\u0301,,\n1, é ,,\n2,É,,\n3,,,\n4,NA,,\n", encoding="utf-8"
    )
    report = import_labels(project, tmp_path / "labels.csv", "ann")
    assert (report.n_labels, report.n_missing, report.new_classes) == (3, 0, ("É",))
    assert project.labels.current()[:5].tolist() == [0, 0, 1, -1, -1]
    assert any("alike" in note for note in report.notes)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("none.csv", None),
        ("empty.csv", b""),
        ("header.csv", b"cell,class\n"),
        ("blank.csv", b"cell,class\n0,\n"),
        ("beyond.csv", b"cell,class\n99999,a\n-1,a\nx,a\n1.5,a\n"),
        ("columns.csv", b"a,b\n1,2\n"),
        ("binary.csv", b"\x00\xff\xfe\x80" * 50),
        ("png.csv", b"\x89PNG\r\n\x1a\n" + b"\0" * 99),
        ("not.geojson", b"{"),
        ("other.json", b'{"a": 1}'),
        ("empty.geojson", b'{"type": "FeatureCollection", "features": []}'),
        ("zip.npz", b"PK\x05\x06" + b"\0" * 18),
        ("broken.npz", b"PK\x03\x04" + b"x" * 200),
    ],
)
def test_files_without_usable_labels_change_nothing(
    project: Project, tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=name) as caught:
        import_labels(project, tmp_path / name, "ann")
    assert "\n" not in str(caught.value)
    assert (project.labels.last_seq, project.labels.classes()) == (0, [])


def test_npz_without_labels(project: Project, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=square_images(12, 3, 0)[0])
    with pytest.raises(FileError):
        import_labels(project, tmp_path / "a.npz", "ann")
    np.savez(tmp_path / "b.npz", images=square_images(12, 3, 0)[0], labels=np.array([""] * 12))
    with pytest.raises(FileError, match="no labels"):
        import_labels(project, tmp_path / "b.npz", "ann")


@pytest.mark.parametrize("name", ["x" * 81, "a\x1bb", "\u202eevil"])
def test_names_that_cannot_be_shown_change_nothing(project: Project, tmp_path: Path, name: str) -> None:
    (tmp_path / "labels.csv").write_text(f"cell,class,file,index\n0,fine,,\n1,{name},,\n", encoding="utf-8")
    with pytest.raises(InvalidArgument, match=r"labels\.csv"):
        import_labels(project, tmp_path / "labels.csv", "ann")
    assert (project.labels.last_seq, project.labels.classes()) == (0, [])
