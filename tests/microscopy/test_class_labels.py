"""Tables of classes as spreadsheets and other programs write them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from nephros.errors import FileError
from nephros.microscopy.class_labels import read_class_labels

EXPECTED = {1: "Podocyte", 2: "Tubule, proximal", 17: "Podocyte"}


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
        (b"number,kind\n1,a\n", "'number,kind'"),
        (b"id,class\n1.5,a\n", "line 2 has the id '1.5'"),
        (b"id;class\n1,5;a\n", "line 2 has the id '1,5'"),
        (b"id,class\n-1,a\n", "the id '-1'"),
        (b"id,class\n,a\n", "the id ''"),
        (b"id,class\n" + b"9" * 5000 + b",a\n", "not a whole number"),
        (b"id,class\n1,a\n2,b\n1,b\n", "line 4 gives nucleus 1 a second class"),
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
