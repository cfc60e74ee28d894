"""A folder of results takes the place of an earlier one, or leaves it as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nephros.errors import FileError, InvalidArgument
from nephros.files import write_json
from nephros.tissue.result_folder import DIGESTS, FORMAT, check_result_folder, file_digests, replace_folder


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize(("call", "is_done"), [(1, False), (1, True), (2, False), (2, True)])
def test_an_interruption_between_two_renames_leaves_a_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException], call: int, is_done: bool
) -> None:
    folder = tmp_path / "cells"
    folder.mkdir()
    (folder / "cells.csv").write_text("old")
    renames, rename = [], os.rename

    def interrupted_rename(source: Path, target: Path) -> None:
        renames.append(source)
        if len(renames) != call or is_done:
            rename(source, target)
        if len(renames) == call:
            raise kind("interrupted")

    monkeypatch.setattr("nephros.tissue.result_folder.os.rename", interrupted_rename)
    with pytest.raises(FileError if kind is OSError else kind), replace_folder(folder) as new:
        (new / "cells.csv").write_text("new")
    assert (folder / "cells.csv").read_text() == ("new" if (call, is_done) == (2, True) else "old")
    assert os.listdir(tmp_path) == ["cells"]


def write_results(folder: Path, **description: object) -> None:
    folder.mkdir()
    for name in ("cells.csv", "mask.ome.tif"):
        (folder / name).write_text("as written")
    write_json(folder / "cells.json", {"format": FORMAT, **description, DIGESTS: file_digests(folder)})


@pytest.mark.parametrize("name", ["mask.ome.tif", "cells.csv", "K4/mask.ome.tif"])
def test_a_folder_with_a_file_that_was_changed_by_hand_is_not_replaced(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "kidney"
    write_results(folder, stacks=["K4", "."])
    write_results(folder / "K4")
    check_result_folder(folder)
    (folder / name).write_text("corrected")
    with pytest.raises(FileError) as caught:
        check_result_folder(folder)
    assert caught.value.path == folder / name
    (folder / name).rename(tmp_path / "corrected.tif")
    check_result_folder(folder)


def test_a_file_that_was_put_there_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "kidney"
    write_results(folder)
    (folder / "overlay.html").write_text("of another folder")
    with pytest.raises(FileError, match=r"overlay\.html"):
        check_result_folder(folder)
    (folder / "overlay.html").rename(folder / "notes.html")
    with pytest.raises(InvalidArgument):
        check_result_folder(folder)
