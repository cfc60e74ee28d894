"""What may teach a run: runs, exported files and the bundled model, of the same data only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nephros.data.batches import BatchLoader
from nephros.errors import FileError, IncompatibleError, UnknownName
from nephros.exporters.export import export
from nephros.exporters.teachers import open_teacher
from nephros.presets import RECIPES
from nephros.runs import RunFolder
from nephros.training.distillation import Teacher, check_teachers, teacher_probabilities
from tests.conftest import squares_dataset

pytestmark = pytest.mark.usefixtures("reports_without_figures")


def _soft_targets(teacher: Teacher) -> NDArray[np.float32]:
    batches = BatchLoader(squares_dataset(n=32).train, torch.device("cpu"))
    return teacher_probabilities([teacher], batches, len(teacher.class_names), RECIPES["course-1"])


def test_a_run_and_its_export_teach_the_same(run_folder: RunFolder, tmp_path: Path) -> None:
    exported = export(run_folder.root, "safetensors", out=tmp_path / "squares.safetensors")
    run, file = open_teacher(run_folder.root), open_teacher(exported)
    np.testing.assert_allclose(_soft_targets(file), _soft_targets(run), atol=1e-5)
    assert (file.data_sha256, file.data_detail) == (run.data_sha256, run.data_detail)
    assert (dict(file.input_spec), file.class_names) == (run.input_spec, run.class_names)
    assert file.record["run"] == str(exported.absolute())
    assert file.record["recipe_hash"] == run.record["recipe_hash"]


def test_the_bundled_model_teaches_what_it_predicts_on_its_own_data_only() -> None:
    teacher = open_teacher("bundled")
    assert teacher.record["run"] == "nephros-distilled"
    other = squares_dataset(n=16, classes=8)
    with pytest.raises(IncompatibleError, match="nephros-distilled"):
        check_teachers(RECIPES["nephros-distilled"], [teacher], other)


def test_what_names_no_data_can_not_teach(run_folder: RunFolder, tmp_path: Path) -> None:
    weights = run_folder.file("weights.safetensors")
    with pytest.raises(FileError) as exc_info:
        open_teacher(weights)
    assert exc_info.value.path == weights
    with pytest.raises(UnknownName) as name_error:
        open_teacher("bundeld")
    assert name_error.value.parameter == "teachers"
    with pytest.raises(FileError):
        open_teacher(tmp_path / "none.safetensors")
