"""Distillation: the mean probabilities of finished runs become the soft targets, and no other split leaks in."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.data.load import load_dataset
from nephros.errors import FileError, IncompatibleError, IncompleteError, InvalidArgument, NephrosError
from nephros.evaluation.scoring import predict_probabilities
from nephros.exporters.teachers import open_teacher
from nephros.models.serialization import load_model
from nephros.models.tta import TTAClassifier
from nephros.presets import RECIPES
from nephros.recipe import ModelConfig, OptimizerConfig, Recipe
from nephros.runs import RunFolder
from nephros.training.distillation import SOFT_TARGETS_FILE, teacher_probabilities
from nephros.training.trainer import Trainer
from nephros.tuning.settings import plan_study
from nephros.workflows.resume import resume
from nephros.workflows.train import train
from tests.conftest import squares_dataset, write_npz

pytestmark = pytest.mark.usefixtures("reports_without_figures")

RECIPE = Recipe(
    name="quick",
    model=ModelConfig(network="course", base_channels=4, depth=2, hidden=(16,)),
    optimizer=OptimizerConfig(lr=0.1, momentum=0.9),
    epochs=3,
    batch_size=32,
)
STUDENT = dataclasses.replace(RECIPE, distillation_weight=0.75, seed=5)


def _train(recipe: Recipe, data: Path | Dataset, out: Path, teachers: list[Path] | None = None) -> RunFolder:
    return train(recipe, data, out=out, teachers=teachers or [])


@pytest.fixture(scope="module")
def tiny_npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "squares.npz", squares_dataset())


@pytest.fixture(scope="module")
def trained_teachers(tiny_npz: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("teachers")
    recipes = [dataclasses.replace(RECIPE, seed=seed) for seed in (0, 1)]
    return [_train(recipe, tiny_npz, folder / f"teacher-{recipe.seed}").root for recipe in recipes]


@pytest.fixture
def teachers(trained_teachers: list[Path], tmp_path: Path) -> list[Path]:
    """Run folders that a test may change."""
    return [Path(shutil.copytree(teacher, tmp_path / teacher.name)) for teacher in trained_teachers]


def test_soft_targets_are_the_mean_probabilities_of_the_teachers(
    teachers: list[Path], tiny_npz: Path, tmp_path: Path
) -> None:
    folder = _train(STUDENT, tiny_npz, tmp_path / "student", teachers)
    batches = BatchLoader(squares_dataset().train, torch.device("cpu"))
    teacher_probabilities = [
        predict_probabilities(load_model(teacher / "weights.safetensors")[0], batches, 4) for teacher in teachers
    ]
    with np.load(folder.file(SOFT_TARGETS_FILE), allow_pickle=False) as arrays:
        np.testing.assert_allclose(arrays["probabilities"], np.mean(teacher_probabilities, axis=0), atol=1e-6)
    teacher_records = folder.info().teachers
    assert [teacher["run"] for teacher in teacher_records] == [str(teacher) for teacher in teachers]
    assert all(len(teacher["weights_sha256"]) == 64 for teacher in teacher_records)


@pytest.mark.parametrize("as_type", [str, Path])
def test_one_teacher_needs_no_list(
    as_type: type[str] | type[Path], tiny_npz: Path, trained_teachers: list[Path], tmp_path: Path
) -> None:
    folder = train(STUDENT, tiny_npz, out=tmp_path / "student", teachers=as_type(trained_teachers[0]))
    assert [teacher["run"] for teacher in folder.info().teachers] == [str(trained_teachers[0])]


@pytest.mark.slow
def test_a_student_with_shuffled_labels_learns_from_its_teacher(tmp_path: Path) -> None:
    dataset = squares_dataset()
    longer = dataclasses.replace(RECIPE, optimizer=OptimizerConfig(lr=0.03, momentum=0.9), epochs=12)
    teacher = _train(longer, write_npz(tmp_path / "honest.npz", dataset), tmp_path / "teacher")
    shuffled_labels = np.random.default_rng(0).permutation(dataset.train.labels)
    shuffled = dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, labels=shuffled_labels))
    data = write_npz(tmp_path / "wrong.npz", shuffled)
    provenance = load_dataset(data).provenance
    # With this provenance the two data sets count as the same.
    teacher.write_info(dataclasses.replace(teacher.info(), data=provenance.to_dict()))
    student = _train(dataclasses.replace(longer, distillation_weight=1.0), data, tmp_path / "student", [teacher.root])
    alone = _train(longer, data, tmp_path / "alone")
    accuracy = {run: _val_accuracy(run) for run in (teacher, student, alone)}
    assert accuracy[student] > 0.9 * accuracy[teacher]
    assert accuracy[student] > accuracy[alone] + 0.2


def _val_accuracy(folder: RunFolder) -> float:
    lines = folder.file("history.csv").read_text().splitlines()
    row = dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))
    return float(row["val_accuracy"])


@pytest.mark.slow
def test_an_interrupted_student_resumes_without_its_teachers(
    teachers: list[Path], tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted = _train(STUDENT, tiny_npz, tmp_path / "whole", teachers)
    validate = Trainer._validate

    def interrupt(self: Trainer, epoch: int, *rest: float) -> object:
        if epoch == 3:
            raise KeyboardInterrupt
        return validate(self, epoch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_validate", interrupt)
        with pytest.raises(KeyboardInterrupt):
            _train(STUDENT, tiny_npz, tmp_path / "stopped", teachers)
    for teacher in teachers:
        (teacher / "weights.safetensors").unlink()
    resumed = resume(tmp_path / "stopped")
    assert resumed.file("weights.safetensors").read_bytes() == uninterrupted.file("weights.safetensors").read_bytes()


def test_a_student_interrupted_before_its_soft_targets_computes_them_again(
    teachers: list[Path], tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nephros.training.distillation.predict_probabilities", interrupt)
        with pytest.raises(KeyboardInterrupt):
            _train(STUDENT, tiny_npz, tmp_path / "stopped", teachers)
    resumed = resume(tmp_path / "stopped")
    uninterrupted = _train(STUDENT, tiny_npz, tmp_path / "whole", teachers)
    assert resumed.file("weights.safetensors").read_bytes() == uninterrupted.file("weights.safetensors").read_bytes()


def test_teachers_that_changed_before_the_soft_targets_were_computed(
    teachers: list[Path], tiny_npz: Path, tmp_path: Path
) -> None:
    folder = _train(STUDENT, tiny_npz, tmp_path / "student", teachers)
    folder.write_info(dataclasses.replace(folder.info(), status="training"))
    folder.file(SOFT_TARGETS_FILE).write_bytes(b"no archive")
    with pytest.raises(FileError) as exc_info:
        resume(folder.root)
    assert exc_info.value.path == folder.file(SOFT_TARGETS_FILE)
    folder.file(SOFT_TARGETS_FILE).unlink()
    weights = teachers[0] / "weights.safetensors"
    original = weights.read_bytes()
    for corrupt in (lambda: weights.write_bytes(b"others"), weights.unlink):
        corrupt()
        with pytest.raises(FileError) as exc_info:
            resume(folder.root)
        assert exc_info.value.path == folder.root
    weights.write_bytes(original)
    assert resume(folder.root).info().status == "complete"


def test_teachers_that_can_not_be_used(teachers: list[Path], tiny_npz: Path, tmp_path: Path) -> None:
    out, teacher = tmp_path / "student", teachers[0]
    repeated = [teacher, teacher.parent / "." / teacher.name]
    for recipe, names in ((STUDENT, repeated), (RECIPES["knn"], teachers), (RECIPE, teachers)):
        with pytest.raises(InvalidArgument) as exc_info:
            _train(recipe, tiny_npz, out, names)
        assert exc_info.value.parameter == "teachers"
    folder = RunFolder.open(teacher)
    for status, error in (("training", IncompleteError), ("diverged", InvalidArgument)):
        folder.write_info(dataclasses.replace(folder.info(), status=status))
        with pytest.raises(error, match=str(teacher)):
            _train(STUDENT, tiny_npz, out, teachers)
    folder.write_info(dataclasses.replace(folder.info(), status="complete"))
    folder.file("weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(FileError) as file_error:
        _train(STUDENT, tiny_npz, out, teachers)
    assert file_error.value.path == folder.file("weights.safetensors")
    assert not out.exists()


@pytest.mark.parametrize("tta_views", [1, 5])
def test_a_teacher_predicts_for_as_many_views_as_its_student_will(
    teachers: list[Path], tiny_dataset: Dataset, tta_views: int
) -> None:
    folder = RunFolder.open(teachers[0])
    batches = BatchLoader(tiny_dataset.train, torch.device("cpu"))
    model, _ = load_model(folder.file("weights.safetensors"))
    student = dataclasses.replace(STUDENT, tta_views=tta_views)
    probabilities = teacher_probabilities([open_teacher(teachers[0])], batches, tiny_dataset.n_classes, student)
    expected = {views: predict_probabilities(TTAClassifier(model, views), batches, 4) for views in (1, 5)}
    np.testing.assert_allclose(probabilities, expected[tta_views], atol=1e-6)
    assert np.abs(expected[1] - expected[5]).max() > 0.01


def test_a_teacher_computes_in_the_precision_of_its_student(teachers: list[Path], tiny_dataset: Dataset) -> None:
    batches = BatchLoader(tiny_dataset.train, torch.device("cpu"))
    full, bf16 = (
        teacher_probabilities([open_teacher(teachers[0])], batches, 4, dataclasses.replace(STUDENT, amp=amp))
        for amp in ("off", "bf16")
    )
    assert 0 < np.abs(bf16 - full).max() < 0.05


def test_recipes_and_teachers_that_do_not_fit(teachers: list[Path], tiny_npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    with pytest.raises(InvalidArgument) as exc_info:
        _train(STUDENT, tiny_npz, out)
    assert (exc_info.value.parameter, exc_info.value.value) == ("distillation_weight", 0.75)
    with pytest.raises(NephrosError, match="nobody"):
        _train(STUDENT, tiny_npz, out, [tmp_path / "nobody"])
    other = write_npz(tmp_path / "other.npz", squares_dataset(n=200))
    with pytest.raises(IncompatibleError, match=str(teachers[0])):
        _train(STUDENT, other, out, teachers)
    with pytest.raises(InvalidArgument) as exc_info:
        dataclasses.replace(RECIPE, distillation_weight=1.5)
    assert (exc_info.value.parameter, exc_info.value.value) == ("distillation_weight", 1.5)
    with pytest.raises(NephrosError, match=r"distillation_weight|teachers"):
        plan_study(STUDENT, device="cpu")
    assert not out.exists()
