"""A folder of results takes the place of an earlier one, or leaves it as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nephros.errors import FileError
from nephros.tissue.result_folder import replace_folder


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
