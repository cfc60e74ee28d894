"""Tables as spreadsheets, R, pandas and other programs write them."""

from __future__ import annotations

import pytest

from nephros.data.delimited_text import is_missing, parse_delimited_text

CELLS = ("file", "label"), ("a.png", "Gefäß")


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("file,label\na.png,Gefäß\n".encode(), (1, 2)),
        ("file;label\r\na.png;Gefäß\r\n".encode("utf-8-sig"), (1, 2)),
        ("file\tlabel\ra.png\tGefäß".encode("utf-16"), (1, 2)),
        ("file|label\na.png|Gefäß\n".encode("utf-16-le"), (1, 2)),
        ("sep=;\nfile;label\n\na.png;Gefäß\n".encode("cp1252"), (2, 4)),
        ('"sep=\t"\nfile\tlabel\na.png\tGefäß\n'.encode(), (2, 3)),
        ("# written by R\n\nfile,label\n,,\na.png,Gefäß,\n".encode(), (3, 5)),
        ('"file","label"\n"a.png"," Gefäß "\n'.encode(), (1, 2)),
    ],
    ids=["plain", "Excel", "UTF-16", "UTF-16 without its mark", "sep=", "quoted sep=", "comment", "quotes"],
)
def test_the_same_table_in_many_forms(content: bytes, lines: tuple[int, int]) -> None:
    text = parse_delimited_text(content)
    assert tuple(row[:2] for _, row in text.rows) == CELLS
    assert tuple(line for line, _ in text.rows) == lines
    assert len({len(row) for _, row in text.rows}) == 1
    assert text.is_windows_text == (b"\xe4" in content and b"\0" not in content)


def test_binary_data_are_no_text() -> None:
    with pytest.raises(UnicodeError):
        parse_delimited_text(b"\x93NUMPY\x01\0v\0")
    assert parse_delimited_text(b"").rows == ()


def test_what_programs_write_for_nothing_is_missing() -> None:
    assert all(map(is_missing, ("", "NA", "N/A", "#N/A", "NaN", "nan", "NULL", "<NA>")))
    assert not any(map(is_missing, ("0", "none", "Na", "normal", "-1")))
