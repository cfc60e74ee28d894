"""Tables of labels: which columns, delimiters and encodings are read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from nephros.data.folders.label_table import label_table_columns, read_label_table
from nephros.errors import FileError


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize(
    "header",
    [
        "file,label",
        "filename,class",
        "Image Name;Category",
        "image_id\tdx",
        "id_code|Diagnosis",
        " path , Cell Type ",
        "label,img",
    ],
)
def test_columns_are_recognized_by_name(tmp_path: Path, header: str) -> None:
    delimiter = next(character for character in ",;\t|" if character in header)
    cells = ["ring", "a.png"] if header == "label,img" else ["a.png", "ring"]
    (row,) = read_label_table(write(tmp_path / "t.csv", f"{header}\n{delimiter.join(cells)}\n")).rows
    assert (row.line, row.file, row.label, row.split, row.group) == (2, "a.png", "ring", "", "")


def test_split_and_group_columns_are_read(tmp_path: Path) -> None:
    text = "file,label,Subset,Patient ID,age\na,x,Training,7,50\nb,y,Validation,8,\n\nc,x,TEST,,60\n"
    table = read_label_table(write(tmp_path / "t.csv", text))
    assert [(row.split, row.group) for row in table.rows] == [("train", "7"), ("val", "8"), ("test", "")]
    assert [row.line for row in table.rows] == [2, 3, 5]
    assert "Patient ID" in table.columns
    table = read_label_table(write(tmp_path / "t.csv", "file,label,split\na,x,train\nb,y,Train\nc,y,TEST\n"))
    assert [row.split for row in table.rows] == ["train", "train", "test"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings_of_spreadsheets_are_read(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "t.csv", "file;label\r\nzölle.png;Zellkörper\r\n", encoding)
    (row,) = read_label_table(path).rows
    assert (row.file, row.label) == ("zölle.png", "Zellkörper")


def test_one_column_per_class_is_a_label(tmp_path: Path) -> None:
    table = read_label_table(write(tmp_path / "t.csv", "filename, disc, ring,patient\na.png,0,1,5\nb.png,1.0,0.0,6\n"))
    assert [(row.label, row.group) for row in table.rows] == [("ring", "5"), ("disc", "6")]
    for cells in ("1,1", "0,0"):
        with pytest.raises(FileError, match="line 3"):
            read_label_table(write(tmp_path / "t.csv", f"filename,disc,ring\na.png,0,1\nb.png,{cells}\n"))


def test_tables_without_a_header_are_read_by_their_values(tmp_path: Path) -> None:
    table = read_label_table(
        write(tmp_path / "t.csv", "TRAIN,train0_3.png,3\nVALIDATION,val0_1.png,1\nTEST,test0_0.png,0\n")
    )
    assert [(row.line, row.split, row.file, row.label) for row in table.rows] == [
        (1, "train", "train0_3.png", "3"),
        (2, "val", "val0_1.png", "1"),
        (3, "test", "test0_0.png", "0"),
    ]
    (row,) = read_label_table(write(tmp_path / "t.tsv", "a/b.tif\tring\n")).rows
    assert (row.file, row.label, row.split) == ("a/b.tif", "ring", "")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "no rows"),
        ("file,label\n", "no rows"),
        ("x,y\n1,2\n", "none of which names files"),
        ("file,area\na.png,3.5\n", "no label"),
        ("file,label\n,ring\n", "line 2"),
        ("file,label,split\na.png,ring,train\nb.png,ring,fold 3\n", "line 3"),
        ("file,label,split\na.png,ring,train\nb.png,ring,\n", "empty"),
        ('file,label,split\na.png,ring,train\nb.png,ring,"fold\n3"\n', "'fold 3'"),
        ("file,label,split\na.png,ring,train 1\nb.png,ring,train 2\n", "train 1 and train 2"),
        ("TRAIN,train0_0_1.png,0,1\n", "several labels"),
        ("file,index,split,label,class_name,p_0,prediction_set\na.png,0,,1,ring,1,1\n", "predictions"),
        ('file,label\n"a.png,' + "x" * 200_000 + "\n", "not a CSV"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, text: str, cause: str) -> None:
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(FileError, match=cause) as caught:
        read_label_table(path)
    assert caught.value.path == path
    assert "\n" not in str(caught.value)


def test_only_tables_that_name_files_are_tables_of_images(tmp_path: Path) -> None:
    assert label_table_columns(write(tmp_path / "a.csv", "file,label,split\na,b,train\n")) == {"file", "label", "split"}
    assert label_table_columns(write(tmp_path / "b.csv", "file,area\na,3\n")) == {"file"}
    for text in ("", "x,y\n1,2\n", "\0\1\2"):
        assert label_table_columns(write(tmp_path / "c.csv", text)) == set()


@pytest.mark.parametrize(
    ("header", "rows", "splits"),
    [
        ("is_train", ("1", "1", "0"), ["train", "train", "test"]),
        ("is_valid", ("False", "True", "False"), ["train", "val", "train"]),
        ("Test", ("no", "no", "yes"), ["train", "train", "test"]),
        ("train,validation", ("1,0", "0,1", "0,0"), ["train", "val", "test"]),
        ("is_val,is_test", ("0,0", "1,0", "0,1"), ["train", "val", "test"]),
    ],
)
def test_columns_of_truth_values_give_the_splits(
    tmp_path: Path, header: str, rows: tuple[str, ...], splits: list[str]
) -> None:
    body = "".join(f"{name}.png,{name},{row}\n" for name, row in zip("abc", rows, strict=True))
    table = read_label_table(write(tmp_path / "t.csv", f"file,label,{header}\n{body}"))
    assert [row.split for row in table.rows] == splits
    assert header.split(",")[0] in table.columns


def test_a_row_of_two_splits_or_of_none_is_refused(tmp_path: Path) -> None:
    header = "file,label,is_train,is_val,is_test\n"
    for cells in ("1,1,0", "0,0,0"):
        with pytest.raises(FileError, match="line 3"):
            read_label_table(write(tmp_path / "t.csv", f"{header}a.png,x,1,0,0\nb.png,y,{cells}\n"))
    (row,) = read_label_table(write(tmp_path / "t.csv", "file,label,valid\na.png,x,1\n")).rows
    assert row.split == ""  # whether the image is valid


@pytest.mark.parametrize(
    "column", ["mouse_no", "slide_name", "Patient-Nr", "donor key", "CaseIDs", "fold", "kfold", "WSI", "sample id"]
)
def test_groups_have_many_names(tmp_path: Path, column: str) -> None:
    (row,) = read_label_table(write(tmp_path / "t.csv", f"file,label,{column}\na.png,x,7\n")).rows
    assert row.group == "7"
    (row,) = read_label_table(write(tmp_path / "t.csv", f"file,label,{column},patient\na.png,x,7,P1\n")).rows
    assert row.group == ("7" if column in ("Patient-Nr",) else "P1")


def test_missing_values_are_none(tmp_path: Path) -> None:
    table = read_label_table(write(tmp_path / "t.csv", "file,label,patient\na.png,NA,P1\nb.png,nan,#N/A\nc.png,x,\n"))
    assert [(row.label, row.group) for row in table.rows] == [("", "P1"), ("", ""), ("x", "")]


def test_other_columns_of_labels_are_named_where_they_differ(tmp_path: Path) -> None:
    rows = "a.png,0,x,q\nb.png,1,y,q\nc.png,0,x,r\n"
    table = read_label_table(write(tmp_path / "t.csv", f"file,label,class_name,diagnosis\n{rows}"))
    assert [row.label for row in table.rows] == ["x", "y", "x"]
    (warning,) = table.warnings
    assert "diagnosis" in warning
    assert "class_name" in warning
    assert not read_label_table(write(tmp_path / "t.csv", "file,label,class\na.png,0,x\nb.png,1,y\n")).warnings
    (warning,) = read_label_table(write(tmp_path / "t.csv", "file,label\na.png,Gefäß\n", "cp1252")).warnings
    assert "1252" in warning
