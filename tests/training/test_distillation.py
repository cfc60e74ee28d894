"""Learning from finished runs: their mean probabilities become the targets, and nothing of another split leaks in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from nephros.data.batches import BatchLoader
from nephros.data.dataset import Dataset
from nephros.data.load import load
from nephros.errors import NephrosError
from nephros.evaluation.scoring import predict_probabilities
from nephros.models.serialization import load_model
from nephros.models.tta import TTAClassifier
from nephros.presets import RECIPES
from nephros.recipe import Recipe
from nephros.recipe_parts import ModelConfig, OptimizerConfig
from nephros.runs import RunFolder
from nephros.training.distillation import SOFT_TARGETS_FILE, teacher_probabilities
from nephros.training.parts import distillation_loss
from nephros.training.trainer import Trainer
from nephros.tuning.plan import plan_study
from nephros.workflows.train import resume, train
from tests.conftest import squares_dataset, write_npz

RECIPE = Recipe(
    name="quick",
    model=ModelConfig(network="course", base_channels=4, depth=2, hidden=(16,)),
    optimizer=OptimizerConfig(lr=0.1, momentum=0.9),
    epochs=3,
    batch_size=32,
)
STUDENT = dataclasses.replace(RECIPE, distillation_weight=0.75, seed=5)


def _train(recipe: Recipe, data: Path | Dataset, out: Path, teachers: list[Path] | None = None) -> RunFolder:
    return train(recipe, data, out=out, teachers=teachers or [], say=lambda words: None)


@pytest.fixture
def teachers(tiny_npz: Path, tmp_path: Path) -> list[Path]:
    return [
        _train(dataclasses.replace(RECIPE, seed=seed), tiny_npz, tmp_path / f"teacher-{seed}").root for seed in (0, 1)
    ]


def test_targets_are_the_teachers_mean_probabilities(teachers: list[Path], tiny_npz: Path, tmp_path: Path) -> None:
    folder = _train(STUDENT, tiny_npz, tmp_path / "pupil", teachers)
    batches = BatchLoader(squares_dataset().train, torch.device("cpu"))
    teacher_probabilities = [
        predict_probabilities(load_model(teacher / "weights.safetensors")[0], batches, 4) for teacher in teachers
    ]
    with np.load(folder.file(SOFT_TARGETS_FILE), allow_pickle=False) as arrays:
        np.testing.assert_allclose(arrays["probabilities"], np.mean(teacher_probabilities, axis=0), atol=1e-6)
    teacher_records = folder.info().teachers
    assert [teacher["run"] for teacher in teacher_records] == [str(teacher) for teacher in teachers]
    assert all(len(teacher["weights_sha256"]) == 64 for teacher in teacher_records)


def test_a_share_of_the_loss_follows_the_targets() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    cross_entropy = torch.nn.functional.cross_entropy(logits, labels)
    one_hot = torch.nn.functional.one_hot(labels, 4).float()
    torch.testing.assert_close(distillation_loss(cross_entropy, logits, one_hot, 0.6, 6), cross_entropy)
    uniform = torch.full((6, 4), 0.25)
    uniform_loss = -torch.log_softmax(logits, 1).mean()
    torch.testing.assert_close(
        distillation_loss(cross_entropy, logits, uniform, 0.25, 6), 0.75 * cross_entropy + 0.25 * uniform_loss
    )


def test_a_pupil_learns_what_its_teachers_say_against_the_labels(tiny_npz: Path, tmp_path: Path) -> None:
    """Its labels are shuffled, and it follows its teacher alone: what it knows, it has from there."""
    dataset = squares_dataset()
    longer = dataclasses.replace(RECIPE, optimizer=OptimizerConfig(lr=0.03, momentum=0.9), epochs=12)
    teacher = _train(longer, write_npz(tmp_path / "honest.npz", dataset), tmp_path / "teacher")
    shuffled_labels = np.random.default_rng(0).permutation(dataset.train.labels)
    shuffled = dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, labels=shuffled_labels))
    data = write_npz(tmp_path / "wrong.npz", shuffled)
    provenance = load(data).provenance
    teacher.write_info(
        dataclasses.replace(teacher.info(), data=provenance.to_dict())
    )  # so that the two pass for the same data
    student = _train(dataclasses.replace(longer, distillation_weight=1.0), data, tmp_path / "pupil", [teacher.root])
    alone = _train(longer, data, tmp_path / "alone")
    accuracy = {run: _val_accuracy(run) for run in (teacher, student, alone)}
    assert accuracy[student] > 0.9 * accuracy[teacher]
    assert accuracy[student] > accuracy[alone] + 0.2


def _val_accuracy(folder: RunFolder) -> float:
    lines = folder.file("history.csv").read_text().splitlines()
    row = dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))
    return float(row["val_accuracy"])


def test_a_stopped_pupil_goes_on_without_its_teachers(
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
    resumed = resume(tmp_path / "stopped", say=lambda words: None)
    assert resumed.file("weights.safetensors").read_bytes() == uninterrupted.file("weights.safetensors").read_bytes()


def test_a_pupil_stopped_while_it_asks_goes_on_and_asks_again(
    teachers: list[Path], tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nephros.training.distillation.predict_probabilities", interrupt)
        with pytest.raises(KeyboardInterrupt):
            _train(STUDENT, tiny_npz, tmp_path / "stopped", teachers)
    resumed = resume(tmp_path / "stopped", say=lambda words: None)
    uninterrupted = _train(STUDENT, tiny_npz, tmp_path / "whole", teachers)
    assert resumed.file("weights.safetensors").read_bytes() == uninterrupted.file("weights.safetensors").read_bytes()


def test_teachers_that_changed_before_they_were_asked(
    teachers: list[Path], tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _train(STUDENT, tiny_npz, tmp_path / "pupil", teachers)
    folder.write_info(dataclasses.replace(folder.info(), status="training"))
    folder.file(SOFT_TARGETS_FILE).write_bytes(b"no archive")
    with pytest.raises(NephrosError, match=r"targets\.npz is missing or damaged: train again with a new --out"):
        resume(folder.root)
    folder.file(SOFT_TARGETS_FILE).unlink()
    weights = teachers[0] / "weights.safetensors"
    original = weights.read_bytes()
    for corrupt in (lambda: weights.write_bytes(b"others"), weights.unlink):
        corrupt()
        with pytest.raises(NephrosError, match=r"A teacher of .* has gone or changed before it was asked"):
            resume(folder.root)
    weights.write_bytes(original)
    assert resume(folder.root).info().status == "complete"


def test_what_teachers_can_not_be_used(teachers: list[Path], tiny_npz: Path, tmp_path: Path) -> None:
    out, teacher = tmp_path / "pupil", teachers[0]
    with pytest.raises(NephrosError, match=r"--teachers names .* twice: name each run once"):
        _train(STUDENT, tiny_npz, out, [teacher, teacher.parent / "." / teacher.name])
    with pytest.raises(NephrosError, match="knn learns from labels alone: leave it out"):
        _train(RECIPES["knn"], tiny_npz, out, teachers)
    folder = RunFolder.open(teacher)
    for status, message in (("training", "is not over: resume it"), ("diverged", "diverged and has nothing to teach")):
        folder.write_info(dataclasses.replace(folder.info(), status=status))
        with pytest.raises(NephrosError, match=message):
            _train(STUDENT, tiny_npz, out, teachers)
    folder.write_info(dataclasses.replace(folder.info(), status="complete"))
    folder.file("weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(NephrosError, match="are damaged or not nephros's"):
        _train(STUDENT, tiny_npz, out, teachers)
    assert not out.exists()


def test_a_teacher_answers_in_its_own_views(teachers: list[Path], tiny_dataset: Dataset) -> None:
    folder = RunFolder.open(teachers[0])
    folder.write_info(dataclasses.replace(folder.info(), tta_views=5))
    batches = BatchLoader(tiny_dataset.train, torch.device("cpu"))
    model, _ = load_model(folder.file("weights.safetensors"))
    probabilities = teacher_probabilities(teachers[:1], batches, tiny_dataset.n_classes, lambda words: None)
    np.testing.assert_allclose(probabilities, predict_probabilities(TTAClassifier(model, 5), batches, 4), atol=1e-6)
    assert np.abs(probabilities - predict_probabilities(model, batches, 4)).max() > 0.01


def test_what_can_not_be_used(teachers: list[Path], tiny_npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "pupil"
    with pytest.raises(NephrosError, match=r"learns from labels alone: add --distillation_weight"):
        _train(RECIPE, tiny_npz, out, teachers)
    with pytest.raises(NephrosError, match=r"--distillation_weight is 0\.75, but there are no teachers"):
        _train(STUDENT, tiny_npz, out)
    with pytest.raises(NephrosError, match="does not exist: name a folder that `nephros train` made"):
        _train(STUDENT, tiny_npz, out, [tmp_path / "nobody"])
    other = write_npz(tmp_path / "other.npz", squares_dataset(n=200))
    with pytest.raises(NephrosError, match="learnt from other data or another split"):
        _train(STUDENT, other, out, teachers)
    with pytest.raises(NephrosError, match=r"--distillation_weight is 1\.5, but it must be from 0 to 1"):
        dataclasses.replace(RECIPE, distillation_weight=1.5)
    with pytest.raises(NephrosError, match="learns from teachers, which a study has not"):
        plan_study(STUDENT, device="cpu")
    assert not out.exists()
