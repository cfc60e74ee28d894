"""Tables of classes as spreadsheets and other programs write them, and their rows match_rows with nuclei."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nephros.errors import FileError, IncompatibleError, UnknownName
from nephros.microscopy.class_labels import NamedStack, classes_of_nuclei, rows_by_stack
from nephros.microscopy.class_table import read_class_table
from nephros.microscopy.measurements import NucleusProperties

EXPECTED = {1: "Podocyte", 2: "Tubule, proximal", 17: "Podocyte"}
IDS = np.array([1, 2, 17])
CENTERS = np.array([[5, 30, 40], [5, 80, 90.5], [12, 35, 130]])  # z, y and x in voxels
VOXEL_SIZE = (1.0, 0.5, 0.5)


def nuclei() -> NucleusProperties:
    n_voxels = np.full(len(IDS), 900)
    return NucleusProperties(IDS, n_voxels, CENTERS, np.ones(3), np.zeros((3, 2), np.bool_), np.zeros(3, np.int64))


def read_class_labels(path: Path) -> dict[int, str]:
    return {row.id: row.class_name for row in read_class_table(path).rows if row.id is not None}


def match_rows(path: Path, voxel_size: tuple[float, float, float] | None = VOXEL_SIZE) -> dict[int, str]:
    table = read_class_table(path)
    (rows,) = rows_by_stack(table, [NamedStack(Path("K4.ome.tif"), "K4")]).rows
    return dict(classes_of_nuclei(table, rows, nuclei(), voxel_size).class_of_id)


@pytest.mark.parametrize(
    "content",
    [
        b'id,class\n1,Podocyte\n2,"Tubule, proximal"\n17,Podocyte\n',
        b'ID;Class\r\n1;Podocyte\r\n2;Tubule, proximal\r\n17;Podocyte\r\n',
        b"id\tclass\n1\tPodocyte\n2\tTubule, proximal\n17\tPodocyte\n",
        b'\xef\xbb\xbfID;CLASS\r\n1;Podocyte\r\n2;"Tubule, proximal"\r\n17;Podocyte\r\n',
        'Id\tClass\r\n1\tPodocyte\r\n2\tTubule, proximal\r\n17\tPodocyte\r\n'.encode("utf-16"),
        b"sep=;\nid;class\n1;Podocyte\n2;Tubule, proximal\n17;Podocyte\n",
        b'volume,class,id\n3.5,Podocyte,1.0\n2.1,"Tubule, proximal",2.0\n0.3,Podocyte,17.0\n',
        b"id;class;volume\n1,0;Podocyte;3,5\n2,0;Tubule, proximal;2,1\n17,0;Podocyte;0,3\n",
        b'id,class\n1, Podocyte \n2,"Tubule, proximal"\n3,\n4\n\n,\n17,Podocyte\n17,Podocyte\n,,\n',
        b' id , class \n1,Podocyte\n2,"Tubule, proximal"\n17,Podocyte',
        b'label,area,class\n1,90,Podocyte\n2,80,"Tubule, proximal"\n17,70,Podocyte\n',
        b'# CellProfiler\nObjectNumber,Cell Type\n1,Podocyte\n2,"Tubule, proximal"\n4,NA\n17,Podocyte\n',
    ],
    ids=["commas", "semicolons", "tabs", "BOM", "UTF-16", "sep=", "id as a float", "decimal comma", "blanks", "spaces",
         "scikit-image", "CellProfiler"],
)  # fmt: skip
def test_the_same_table_in_many_forms(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_bytes(content)
    assert read_class_labels(tmp_path / "classes.csv") == EXPECTED


def test_windows_text_is_read_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "classes.csv").write_bytes("id;class\n1;Gefäß\n".encode("cp1252"))
    with caplog.at_level(logging.WARNING):
        assert read_class_labels(tmp_path / "classes.csv") == {1: "Gefäß"}
    assert "not in UTF-8" in caplog.text
    caplog.clear()
    (tmp_path / "classes.csv").write_bytes("id;class\n1;Gefäß\n".encode())
    assert read_class_labels(tmp_path / "classes.csv") == {1: "Gefäß"}
    assert not caplog.text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "columns id and class"),
        (b"id,class\n", "no row has a class"),
        (b"id,class\n1,\n2,\n", "no row has a class"),
        (b"number,kind\n1,a\n", "number, kind"),
        (b"id,class\n1.5,a\n", "line 2 has the id '1.5'"),
        (b"id;class\n1,5;a\n", "line 2 has the id '1,5'"),
        (b"id,class\n-1,a\n", "the id '-1'"),
        (b"id,class\n,a\n", "the id ''"),
        (b"id,class\n" + b"9" * 5000 + b",a\n", "not a whole number"),
        (
            b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0" + bytes(12) + b"\x13\0\0\0[Content_Types].xml\xff",
            "an Office document",
        ),
        (b"\x99\x81\x8d\x90\0\xff", "not UTF-8 text"),
    ],
)
def test_other_tables_are_refused(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_bytes(content)
    with pytest.raises(FileError) as exc_info:
        read_class_labels(tmp_path / "classes.csv")
    assert expected in str(exc_info.value)
    assert str(exc_info.value).startswith(str(tmp_path / "classes.csv"))
    assert len(str(exc_info.value)) < 400


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.csv can't be read"):
        read_class_labels(tmp_path / "none.csv")


QUPATH = (
    "Image\tObject ID\tObject type\tName\tClassification\tParent\tROI\tCentroid X µm\tCentroid Y µm\tNucleus: Area µm^2\n"
    "K4.ome.tif\t6c9d-41\tDetection\t\tPodocyte\tRoot\tPolygon\t20.1\t15.2\t55\n"
    "K4.ome.tif\t6c9d-42\tDetection\t\tTubule, proximal\tRoot\tPolygon\t45.3\t39.9\t51\n"
    "K4.ome.tif\t6c9d-43\tDetection\t\tPodocyte\tRoot\tPolygon\t65\t17.6\t49\n"
    "K4.ome.tif\t6c9d-44\tDetection\t\t\tRoot\tPolygon\t0\t0\t49\n"
)


def qupath_object(x: float, y: float, name: str, **properties: object) -> dict[str, object]:
    outline = [[x - 4, y - 4], [x + 4, y - 4], [x + 4, y + 4], [x - 4, y + 4], [x - 4, y - 4]]
    classification = {"name": name, "color": [200, 0, 0]}
    geometry = {"type": "Polygon", "coordinates": [outline]}
    return {
        "type": "Feature",
        "id": "6c9d",
        "geometry": geometry,
        "properties": {"objectType": "detection", "classification": classification, **properties},
    }


GEOJSON: list[Any] = [
    qupath_object(float(CENTERS[i, 2]), float(CENTERS[i, 1]), EXPECTED[int(IDS[i])]) for i in range(3)
]
MEASUREMENTS = {
    "measurements": {"Nucleus: Area": math.nan, "Delaunay: Mean": math.inf, "Min": -math.inf},
    "metadata": {"Note": "2"},
}
"""As QuPath writes them of cells without a nucleus, in no valid JSON."""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("qupath.tsv", QUPATH),
        ("px.tsv", QUPATH.replace("Centroid X µm", "Centroid X px").replace("20.1", "40.2").replace("45.3", "90.6")
         .replace("65\t", "130\t").replace("15.2", "30.4").replace("39.9", "79.8").replace("17.6", "35.2")),
        ("windows.tsv", QUPATH.encode("cp1252")),
        ("utf16.tsv", QUPATH.encode("utf-16")),
        ("objects.geojson", json.dumps({"type": "FeatureCollection", "features": GEOJSON})),
        ("list.json", json.dumps(GEOJSON)),
        ("nan.geojson", json.dumps([dict(item, properties=item["properties"] | MEASUREMENTS) for item in GEOJSON])
         .replace('"metadata": {', '"metadata": {"Note": "1"}, "metadata": {')),
        ("fiji.csv", " ,Label,Area,Mean,X,Y,Class\n1,K4.tif:1,90,8,20,15,Podocyte\n2,K4.tif:2,80,8,45,40,\"Tubule, proximal\"\n"
         "3,K4.tif:3,70,8,65,17.5,Podocyte\n4,K4.tif:4,70,8,1,1,\n"),
        ("pixels.csv", " ,Area,X,Y,Class\n1,90,40,30,Podocyte\n2,80,90,80,\"Tubule, proximal\"\n3,70,130,35,Podocyte\n"),
        ("skimage.csv", "centroid-0,centroid-1,centroid-2,class\n5,30,40,Podocyte\n5,80,90,\"Tubule, proximal\"\n"
         "12,35,130,Podocyte\n"),
        ("napari.csv", "index,label,area,annotation\n0,1,90,Podocyte\n1,2,9,\"Tubule, proximal\"\n2,17,9,Podocyte\n3,18,9,\n"),
        ("features.csv", "index,area,annotation\n1,90,Podocyte\n2,9,\"Tubule, proximal\"\n17,9,Podocyte\n"),
        ("cpa.csv", "ImageNumber,ObjectNumber,class\n1,1,Podocyte\n1,2,\"Tubule, proximal\"\n1,17,Podocyte\n"),
        ("spreadsheet.csv", "id;label;patient\n1;Podocyte;7\n2;Tubule, proximal;7\n17;Podocyte;7\n"),
        ("vtea.csv", "Object,PosX,PosY,PosZ,Class\n1,0,0,0,Podocyte\n2,0,0,0,\"Tubule, proximal\"\n17,0,0,0,Podocyte\n"),
        ("positions.csv", "PosX,PosY,PosZ,Class\n40,30,5,Podocyte\n90,80,5,\"Tubule, proximal\"\n130,35,12,Podocyte\n"),
        ("cells.csv", "cell,phenotype\n1,Podocyte\n2,\"Tubule, proximal\"\n17,Podocyte\n"),
        ("axes.csv", "axis-0,axis-1,axis-2,class\n5,30,40,Podocyte\n5,80,90,\"Tubule, proximal\"\n12,35,130,Podocyte\n"),
    ],
)  # fmt: skip
def test_other_programs_tables_are_recognized(name: str, content: str | bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    assert match_rows(tmp_path / name) == EXPECTED


def test_points_of_one_qupath_object_are_rows_each(tmp_path: Path) -> None:
    (x1, y1), (x2, y2), (x3, y3) = (CENTERS[i, :0:-1].tolist() for i in range(3))
    points = qupath_object(0, 0, "Podocyte", objectType="annotation")
    points["geometry"] = {"type": "MultiPoint", "coordinates": [[x1, y1], [x3, y3]]}
    point = qupath_object(0, 0, "Tubule, proximal", objectType="annotation")
    point["geometry"] = {"type": "Point", "coordinates": [x2, y2]}
    cells = [dict(qupath_object(x1, y1, ""), id="a"), dict(qupath_object(x2, y2, ""), id="b")]
    (tmp_path / "points.geojson").write_text(json.dumps([points, point, *cells]))
    assert match_rows(tmp_path / "points.geojson") == EXPECTED


@pytest.mark.parametrize("object_type", ["annotation", "PathAnnotationObject", "tile", "tmaCore"])
def test_regions_are_left_out_beside_nuclei(object_type: str, tmp_path: Path) -> None:
    region = qupath_object(float(CENTERS[0, 2]), float(CENTERS[0, 1]), "Cortex", objectType=object_type)
    (tmp_path / "all.geojson").write_text(json.dumps([region, *GEOJSON]))
    assert match_rows(tmp_path / "all.geojson") == EXPECTED
    assert "1 region (annotations or tiles) left out" in read_class_table(tmp_path / "all.geojson").notes[0]
    row = "K4.ome.tif\t6c9d-45\tAnnotation\t\tCortex\tRoot\tRectangle\t20.1\t15.2\t55\n"
    (tmp_path / "all.tsv").write_text(QUPATH + row)
    assert match_rows(tmp_path / "all.tsv") == EXPECTED
    drawn = [dict(item, properties=dict(item["properties"], objectType=object_type)) for item in GEOJSON]
    (tmp_path / "drawn.geojson").write_text(json.dumps(drawn))
    assert match_rows(tmp_path / "drawn.geojson") == EXPECTED  # nuclei that were outlined by hand


def test_pixels_of_the_finest_pyramid_level_are_recognized(tmp_path: Path) -> None:
    """QuPath shows the finest level, also where nuclei are cropped from a coarser one."""
    finest = [
        qupath_object(2 * float(CENTERS[i, 2]), 2 * float(CENTERS[i, 1]), EXPECTED[int(IDS[i])]) for i in range(3)
    ]
    for name, objects, expected in (("finest", finest, "finest"), ("level", GEOJSON, "taken for voxels from")):
        (tmp_path / f"{name}.geojson").write_text(json.dumps(objects))
        table = read_class_table(tmp_path / f"{name}.geojson")
        classes = classes_of_nuclei(table, table.rows, nuclei(), VOXEL_SIZE, (1.0, 2.0, 2.0))
        assert classes.class_of_id == EXPECTED
        assert expected in classes.notes[0]


def test_a_guess_is_in_the_notes(tmp_path: Path) -> None:
    (tmp_path / "fiji.csv").write_text(" ,Area,X,Y,Class\n1,9,20,15,a\n2,9,45,40,b\n3,9,90,90,b\n")
    table = read_class_table(tmp_path / "fiji.csv")
    assert table.center_unit == ""
    unit, left_out = classes_of_nuclei(table, table.rows, nuclei(), VOXEL_SIZE).notes
    assert "micrometers" in unit
    assert "1 row of 3" in left_out
    (tmp_path / "numbers.csv").write_text(" ,Area,Class\n1,9,a\n2,9,b\n")
    assert "row numbers" in read_class_table(tmp_path / "numbers.csv").notes[0]
    assert match_rows(tmp_path / "numbers.csv") == {1: "a", 2: "b"}


def test_positions_that_are_not_of_this_mask_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.tsv").write_text(QUPATH.replace("\t20.1", "\t420.1").replace("\t45.3", "\t445.3"))
    with pytest.raises(FileError, match="3 positions in micrometers"):
        match_rows(tmp_path / "other.tsv")
    (tmp_path / "good.tsv").write_text(QUPATH)
    with pytest.raises(FileError, match="`voxel_size`"):
        match_rows(tmp_path / "good.tsv", None)


def test_a_nucleus_above_another_is_chosen_by_its_slice_only(tmp_path: Path) -> None:
    centers = np.array([[5, 30, 40], [25, 30, 40], [12, 35, 130]])
    above = NucleusProperties(
        IDS, np.full(3, 900), centers, np.ones(3), np.zeros((3, 2), np.bool_), np.zeros(3, np.int64)
    )
    for header, cells, expected in (
        ("z,y,x", "25,30,40", {2: "a", 17: "b"}),
        ("y,x", "30,40", {17: "b"}),
    ):
        other = "12,35,130" if header == "z,y,x" else "35,130"
        (tmp_path / "t.csv").write_text(f"{header},class\n{cells},a\n{other},b\n")
        table = read_class_table(tmp_path / "t.csv")
        assert classes_of_nuclei(table, table.rows, above, VOXEL_SIZE).class_of_id == expected


def test_positions_tell_ids_of_another_mask(tmp_path: Path) -> None:
    """The same table without positions is taken by its word; so are positions from a corner that nobody states."""
    header, rows = "id,class,z,y,x\n", ("17,a,5,30,40\n", "1,b,5,80,90\n", "2,a,12,35,130\n")
    for content, expected, note in (
        (header + "".join(rows), {1: "a", 2: "b", 17: "a"}, "3 of 3 rows"),
        (header + rows[0] + "2,b,5,80,90\n99,a,12,35,130\n", {1: "a", 2: "b", 17: "a"}, "2 of 3 rows"),
        (
            header + "".join(row.replace("30,40", "430,40") for row in rows[:1]) + rows[1],
            {2: "b"},
            "1 row of 2 left out",
        ),
        (header + "17,a,1005,30,40\n1,b,1005,80,90\n", {17: "a", 1: "b"}, "the ids count"),
        ("id,class\n17,a\n1,b\n", {17: "a", 1: "b"}, ""),
    ):
        (tmp_path / "t.csv").write_text(content)
        table = read_class_table(tmp_path / "t.csv")
        classes = classes_of_nuclei(table, table.rows, nuclei(), VOXEL_SIZE)
        assert classes.class_of_id == expected
        assert note in " ".join(classes.notes)
        assert bool(classes.notes) == bool(note)
    (tmp_path / "t.csv").write_text(header + "".join(rows))
    table = read_class_table(tmp_path / "t.csv", id_column="id")  # who names the ids means them
    assert classes_of_nuclei(table, table.rows, nuclei(), VOXEL_SIZE).class_of_id == {17: "a", 1: "b", 2: "a"}


def test_nuclei_that_another_mask_merges_get_no_class_of_two(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,class,z,y,x\n1,a,5,30,40\n98,a,5,79,90\n99,b,5,81,91\n17,b,12,35,130\n")
    table = read_class_table(tmp_path / "t.csv")
    classes = classes_of_nuclei(table, table.rows, nuclei(), VOXEL_SIZE)
    assert classes.class_of_id == {1: "a", 17: "b"}
    assert "2 rows of 4 left out" in classes.notes[-1]


def test_columns_can_be_named_and_errors_list_them(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("Nucleus no,Kind,group\n1,a,x\n2,b,y\n")
    (first, _) = read_class_table(path, id_column="nucleus no", class_column="Kind").rows
    assert (first.id, first.class_name, first.groups) == (1, "a", {"group": "x"})
    with pytest.raises(FileError, match="Nucleus no, Kind"):
        read_class_table(path)
    with pytest.raises(UnknownName) as caught:
        read_class_table(path, id_column="number")
    assert caught.value.parameter == "id_column"
    assert caught.value.options == ("Nucleus no", "Kind", "group")


def test_a_table_of_several_stacks_is_divided_by_its_column(tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text("Image,id,class\nK4.ome.tif - Series 0,1,a\nD:\\x\\K5.ome.tif,1,b\nK5,2,c\n")
    table = read_class_table(tmp_path / "all.csv")
    stacks = [NamedStack(Path(f"/data/{name}"), name[:2]) for name in ("K4.ome.tif", "K5.ome.tif", "K6.tif")]
    rows = [[row.class_name for row in rows] for rows in rows_by_stack(table, stacks).rows]
    assert rows == [["a"], ["b", "c"], []]
    with pytest.raises(FileError, match=r"K6\.tif"):
        rows_by_stack(table, stacks[2:])
    (tmp_path / "unnamed.csv").write_text("id,class\n1,a\n")
    with pytest.raises(FileError, match="column stack"):
        rows_by_stack(read_class_table(tmp_path / "unnamed.csv"), stacks)
    (tmp_path / "numbers.csv").write_text("ImageNumber,ObjectNumber,class\n1,1,a\n2,1,b\n")
    table = read_class_table(tmp_path / "numbers.csv")
    assert [row.class_name for row in rows_by_stack(table, stacks[:2]).rows[1]] == ["b"]
    (tmp_path / "drawn.csv").write_text("stack,x,y,class\nK4,1,2,a\n,3,4,b\n")  # in the only stack, without its name
    assert len(rows_by_stack(read_class_table(tmp_path / "drawn.csv"), stacks[:1]).rows[0]) == 2


MICE = [NamedStack(Path(f"/data/mouse{n}/stack.tif"), f"mouse{n}/stack") for n in (1, 2)]
K4, K5 = (NamedStack(Path(f"/data/{name}.ome.tif"), name, Path(f"/data/{name}_nuclei.tif")) for name in ("K4", "K5"))


def divide(path: Path, text: str, *stacks: NamedStack) -> tuple[list[str], list[str]]:
    """Return the classes of each stack's rows, in one text, and the notes."""
    path.write_text(text)
    divided = rows_by_stack(read_class_table(path), stacks)
    return ["".join(row.class_name for row in rows) for rows in divided.rows], list(divided.notes)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("mouse1/stack.tif", "mouse2/stack.tif"), ["a", "b"]),
        (("mouse1/stack", "mouse2/stack"), ["a", "b"]),
        (("mouse2/stack.tif", "mouse1/stack.tif"), ["b", "a"]),
        (("D:\\old\\Mouse2\\stack.tif", "/data/mouse1/stack.tif - Series 0"), ["b", "a"]),
    ],
)
def test_stacks_of_one_file_name_have_their_own_rows(
    names: tuple[str, str], expected: list[str], tmp_path: Path
) -> None:
    text = f"Image,id,class\n{names[0]},1,a\n{names[1]},1,b\n"
    assert divide(tmp_path / "all.csv", text, *MICE)[0] == expected
    for index, stack in enumerate(MICE):  # one of them alone, which has a shorter name then
        rows, notes = divide(tmp_path / "all.csv", text, NamedStack(stack.path, "stack"))
        assert rows == expected[index : index + 1]
        assert "1 row of 2 left out" in notes[-1]


def test_a_name_that_fits_two_stacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="mouse1/stack and mouse2/stack"):
        divide(tmp_path / "all.csv", "stack,id,class\nstack.tif,1,a\n", *MICE)
    with pytest.raises(FileError, match=r"mouse3/stack and mouse4/stack"):
        divide(
            tmp_path / "all.csv",
            "stack,id,class\nmouse3/stack,1,a\nmouse4/stack,1,a\n",
            NamedStack(MICE[0].path, "stack"),
        )
    twins = [NamedStack(Path(f"/data/K4.{suffix}"), f"K4.{suffix}") for suffix in ("tif", "lsm")]
    assert divide(tmp_path / "all.csv", "stack,id,class\nK4.lsm,1,a\nx/K4.tif,1,b\n", *twins)[0] == ["b", "a"]
    with pytest.raises(FileError, match=r"K4\.tif and K4\.lsm"):
        divide(tmp_path / "all.csv", "stack,id,class\nK4,1,a\n", *twins)


def test_a_file_of_another_folder_is_noted(tmp_path: Path) -> None:
    rows, notes = divide(tmp_path / "t.csv", "stack,id,class\nmouse3/stack,1,a\n", NamedStack(MICE[0].path, "stack"))
    assert rows == ["a"]
    assert "rows of mouse3/stack are taken for /data/mouse1/stack.tif" in notes[0].replace("\\", "/")
    assert divide(tmp_path / "t.csv", "stack,id,class\n./mouse1/stack.tif,1,a\n", MICE[0]) == (["a"], [])


def test_the_table_of_another_stack_is_refused_where_its_rows_have_ids(tmp_path: Path) -> None:
    text = "stack,id,class\n{0},1,a\n{0},2,b\n"
    for name in ("K5", "K5.ome.tif", "K40", "K4_2.tif", "K5_mask.tif", "MAX_K5.tif"):
        with pytest.raises(FileError, match=rf"{name}, and the stack is K4\.ome\.tif"):
            divide(tmp_path / "t.csv", text.format(name), K4)
    with pytest.raises(FileError, match=r"K4.tif, and the stack is K4 left.tif"):
        divide(tmp_path / "t.csv", text.format("K4.tif"), NamedStack(Path("/data/K4 left.tif"), "K4 left"))
    with pytest.raises(FileError, match=r"5, and the stack is 4.tif"):
        divide(tmp_path / "t.csv", text.format("5"), NamedStack(Path("/data/4.tif"), "4"))
    for name in ("K4", "k4.ome.tif", "K4.tif - Series 0", "K4_nuclei.tif"):  # the last is its mask
        assert divide(tmp_path / "t.csv", text.format(name), K4) == (["ab"], [])
    for name in ("MAX_K4.tif", "projection.ome.tif", "K4_mask.tif", "7"):
        rows, notes = divide(tmp_path / "t.csv", text.format(name), K4)
        assert (rows, len(notes)) == (["ab"], 1)
        assert f"its rows are of {name}, which is taken for K4.ome.tif" in notes[0]


def test_positions_in_another_image_are_noted(tmp_path: Path) -> None:
    rows, notes = divide(tmp_path / "t.csv", "Image,x,y,class\nflat.tif,1,2,a\n", K4)
    assert rows == ["a"]
    assert "its rows are of flat.tif" in notes[0]


def test_rows_of_no_stack_are_counted(tmp_path: Path) -> None:
    text = "stack,id,class\nK4,1,a\nK4_nuclei.tif,2,b\nK5,1,c\nK6,1,d\nK7,1,e\n,3,f\n"
    rows, notes = divide(tmp_path / "all.csv", text, K4, K5)
    assert rows == ["ab", "c"]
    assert notes == ["all.csv: 3 rows of 6 left out, of other stacks than those given: rows that name none, K6 and K7."]
    with pytest.raises(FileError, match="none of which is one of the 2 stacks"):
        divide(tmp_path / "all.csv", "stack,id,class\nK6,1,a\nK7,1,b\n", K4, K5)
    assert divide(tmp_path / "all.csv", "ImageNumber,id,class\n2,1,a\n1,1,b\n", K4, K5) == (["b", "a"], [])
    with pytest.raises(FileError, match="covers 2 images, 2 and 3"):  # so that they count other images
        divide(tmp_path / "all.csv", "ImageNumber,id,class\n2,1,a\n3,1,b\n", K4, K5)


@pytest.mark.parametrize(
    ("text", "error"),
    [("id,class\n1,a\n2,b\n1,b\n", FileError), ("id,class\n1,a\n99,b\n", IncompatibleError)],
)
def test_rows_that_contradict_the_mask_or_one_another_are_refused(
    text: str, error: type[Exception], tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(error, match=r"second class|99"):
        match_rows(tmp_path / "t.csv")


@pytest.mark.parametrize("column", ["patient", "fold"])
def test_a_nucleus_of_two_groups_is_refused(column: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"id,class,{column}\n1,a,P1\n2,b,P1\n1,a,P2\n")
    table = read_class_table(path)
    with pytest.raises(FileError, match=f"line 4 gives nucleus 1 a second value of {column}"):
        classes_of_nuclei(table, table.rows, nuclei(), VOXEL_SIZE)
    path.write_text(f"id,class,{column}\n1,a,\n2,b,P1\n1,a,P2\n1,a,P2\n1,a,\n")
    table = read_class_table(path)
    assert classes_of_nuclei(table, table.rows, nuclei(), VOXEL_SIZE).groups_of_id == {column: {2: "P1", 1: "P2"}}


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[1]",
        '{"features": 3}',
        '[{"geometry": null}]',
        '[{"geometry": {"type": "MultiPoint", "coordinates": [[1, 2], [3]]}}]',
        '[{"geometry": {"type": "MultiPoint", "coordinates": []}}]',
        '[{"geometry": {"type": "Point", "coordinates": ["a", 1]}}]',
        '[{"geometry": {"coordinates": [1, 2]}, "properties": []}]',
        '[{"geometry": {"coordinates": [1, 2]}, "properties": {"classification": 3}}]',
        "[" * 2000,
        '[{"geometry": {"coordinates": ' + "[" * 90 + "]" * 90 + "}}]",
        '{"features": []}',
    ],
)
def test_other_json_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "t.geojson").write_text(content)
    with pytest.raises(FileError, match=r"t\.geojson"):
        read_class_table(tmp_path / "t.geojson")
