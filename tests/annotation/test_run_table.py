"""The table of a run's predictions: each row says which cell it is of, and names no folder of the server."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from nephros.annotation.project import Project
from nephros.annotation.run_table import CELL_COLUMNS, prediction_table
from tests.annotation.conftest import write_stack
from tests.conftest import square_images


def test_rows_are_of_nuclei_and_of_single_images(tmp_path: Path) -> None:
    stack, mask, _ = write_stack(tmp_path, shape=(9, 80, 64))
    np.savez(tmp_path / "crops.npz", images=square_images(3, 3, 0)[0])
    project = Project.create(tmp_path / "kidney")
    n_nuclei = project.add_cells(stack, mask=str(mask)).n_added
    project.add_cells(tmp_path / "crops.npz")
    table = tmp_path / "predictions.csv"
    rows = [f"{tmp_path}/jobs/export-1/cells.npz,{cell},,0,'=A,0.9\n" for cell in range(project.n_cells)]
    table.write_text("file,index,split,label,class_name,p_0\n" + "".join(rows), encoding="utf-8")
    written = list(csv.DictReader(prediction_table(project, table).splitlines()))
    assert tuple(written[0]) == (*CELL_COLUMNS, "class_name", "p_0")
    assert [int(row["cell"]) for row in written] == list(range(project.n_cells))
    assert written[0]["stack"] == "K4"
    assert [int(row["id"]) for row in written[:n_nuclei]] == project.table.indices[:n_nuclei].tolist()
    assert [(row["stack"], row["id"], row["file"], row["index"]) for row in written[n_nuclei:]] == [
        ("", "", "crops.npz", str(i)) for i in range(3)
    ]
    assert {(row["class_name"], row["p_0"]) for row in written} == {("'=A", "0.9")}
    assert str(tmp_path) not in prediction_table(project, table)
    project.close()
