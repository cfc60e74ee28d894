"""Learning from finished runs: their mean probabilities become the targets, and nothing of another split leaks in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from nephros.data.batches import Batches
from nephros.data.dataset import Dataset
from nephros.data.load import load
from nephros.errors import UserError
from nephros.evaluation.scoring import predict
from nephros.models.serialization import load_model
from nephros.models.tta import Averaged
from nephros.presets import RECIPES
from nephros.recipe import Recipe
from nephros.recipe_parts import Model, Optimizer
from nephros.runs import RunFolder
from nephros.training.distillation import TARGETS, ask
from nephros.training.parts import followed
from nephros.training.trainer import Fit
from nephros.tuning.plan import plan
from nephros.workflows.train import resume, train
from tests.conftest import made_up, write_npz

RECIPE = Recipe(
    name="quick",
    model=Model(network="course", features=4, depth=2, hidden=(16,)),
    optimizer=Optimizer(lr=0.1, momentum=0.9),
    epochs=3,
    batch_size=32,
)
PUPIL = dataclasses.replace(RECIPE, teacher_share=0.75, seed=5)


def _train(recipe: Recipe, data: Path | Dataset, out: Path, teachers: list[Path] | None = None) -> RunFolder:
    return train(recipe, data, out=out, teachers=teachers or [], say=lambda words: None)


@pytest.fixture
def teachers(tiny_npz: Path, tmp_path: Path) -> list[Path]:
    return [
        _train(dataclasses.replace(RECIPE, seed=seed), tiny_npz, tmp_path / f"teacher-{seed}").root for seed in (0, 1)
    ]


def test_targets_are_the_teachers_mean_probabilities(teachers: list[Path], tiny_npz: Path, tmp_path: Path) -> None:
    folder = _train(PUPIL, tiny_npz, tmp_path / "pupil", teachers)
    batches = Batches(made_up().train, torch.device("cpu"))
    each = [predict(load_model(teacher / "weights.safetensors")[0], batches, 4) for teacher in teachers]
    with np.load(folder.file(TARGETS), allow_pickle=False) as arrays:
        np.testing.assert_allclose(arrays["probabilities"], np.mean(each, axis=0), atol=1e-6)
    told = folder.info().teachers
    assert [teacher["run"] for teacher in told] == [str(teacher) for teacher in teachers]
    assert all(len(teacher["weights_sha256"]) == 64 for teacher in told)


def test_a_share_of_the_loss_follows_the_targets() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    hard = torch.nn.functional.cross_entropy(logits, labels)
    sure = torch.nn.functional.one_hot(labels, 4).float()
    torch.testing.assert_close(followed(hard, logits, sure, 0.6, 6), hard)
    even = torch.full((6, 4), 0.25)
    soft = -torch.log_softmax(logits, 1).mean()
    torch.testing.assert_close(followed(hard, logits, even, 0.25, 6), 0.75 * hard + 0.25 * soft)


def test_a_pupil_learns_what_its_teachers_say_against_the_labels(tiny_npz: Path, tmp_path: Path) -> None:
    """Its labels are shuffled, and it follows its teacher alone: what it knows, it has from there."""
    honest = made_up()
    longer = dataclasses.replace(RECIPE, optimizer=Optimizer(lr=0.03, momentum=0.9), epochs=12)
    teacher = _train(longer, write_npz(tmp_path / "honest.npz", honest), tmp_path / "teacher")
    mixed = np.random.default_rng(0).permutation(honest.train.labels)
    wrong = dataclasses.replace(honest, train=dataclasses.replace(honest.train, labels=mixed))
    data = write_npz(tmp_path / "wrong.npz", wrong)
    own = load(data).provenance
    teacher.write_info(
        dataclasses.replace(teacher.info(), data=own.to_dict())
    )  # so that the two pass for the same data
    pupil = _train(dataclasses.replace(longer, teacher_share=1.0), data, tmp_path / "pupil", [teacher.root])
    alone = _train(longer, data, tmp_path / "alone")
    accuracy = {run: _val_accuracy(run) for run in (teacher, pupil, alone)}
    assert accuracy[pupil] > 0.9 * accuracy[teacher]
    assert accuracy[pupil] > accuracy[alone] + 0.2


def _val_accuracy(folder: RunFolder) -> float:
    lines = folder.file("history.csv").read_text().splitlines()
    row = dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))
    return float(row["val_accuracy"])


def test_a_stopped_pupil_goes_on_without_its_teachers(
    teachers: list[Path], tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _train(PUPIL, tiny_npz, tmp_path / "whole", teachers)
    judged = Fit._judged

    def stopping(self: Fit, epoch: int, *rest: float) -> object:
        if epoch == 3:
            raise KeyboardInterrupt
        return judged(self, epoch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "_judged", stopping)
        with pytest.raises(KeyboardInterrupt):
            _train(PUPIL, tiny_npz, tmp_path / "stopped", teachers)
    for teacher in teachers:
        (teacher / "weights.safetensors").unlink()
    resumed = resume(tmp_path / "stopped", say=lambda words: None)
    assert resumed.file("weights.safetensors").read_bytes() == whole.file("weights.safetensors").read_bytes()


def test_a_pupil_stopped_while_it_asks_goes_on_and_asks_again(
    teachers: list[Path], tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nephros.training.distillation.predict", stop)
        with pytest.raises(KeyboardInterrupt):
            _train(PUPIL, tiny_npz, tmp_path / "stopped", teachers)
    asked = resume(tmp_path / "stopped", say=lambda words: None)
    whole = _train(PUPIL, tiny_npz, tmp_path / "whole", teachers)
    assert asked.file("weights.safetensors").read_bytes() == whole.file("weights.safetensors").read_bytes()


def test_teachers_that_changed_before_they_were_asked(
    teachers: list[Path], tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _train(PUPIL, tiny_npz, tmp_path / "pupil", teachers)
    whole.write_info(dataclasses.replace(whole.info(), status="training"))
    whole.file(TARGETS).write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"targets\.npz is missing or damaged: train again with a new --out"):
        resume(whole.root)
    whole.file(TARGETS).unlink()
    weights = teachers[0] / "weights.safetensors"
    kept = weights.read_bytes()
    for spoil in (lambda: weights.write_bytes(b"others"), weights.unlink):
        spoil()
        with pytest.raises(UserError, match=r"A teacher of .* has gone or changed before it was asked"):
            resume(whole.root)
    weights.write_bytes(kept)
    assert resume(whole.root).info().status == "complete"


def test_what_teachers_can_not_be_used(teachers: list[Path], tiny_npz: Path, tmp_path: Path) -> None:
    out, teacher = tmp_path / "pupil", teachers[0]
    with pytest.raises(UserError, match=r"--teachers names .* twice: name each run once"):
        _train(PUPIL, tiny_npz, out, [teacher, teacher.parent / "." / teacher.name])
    with pytest.raises(UserError, match="knn learns from labels alone: leave it out"):
        _train(RECIPES["knn"], tiny_npz, out, teachers)
    folder = RunFolder.open(teacher)
    for status, words in (("training", "is not over: resume it"), ("diverged", "diverged and has nothing to teach")):
        folder.write_info(dataclasses.replace(folder.info(), status=status))
        with pytest.raises(UserError, match=words):
            _train(PUPIL, tiny_npz, out, teachers)
    folder.write_info(dataclasses.replace(folder.info(), status="complete"))
    folder.file("weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="are damaged or not nephros's"):
        _train(PUPIL, tiny_npz, out, teachers)
    assert not out.exists()


def test_a_teacher_answers_in_its_own_views(teachers: list[Path], tiny: Dataset) -> None:
    folder = RunFolder.open(teachers[0])
    folder.write_info(dataclasses.replace(folder.info(), views=5))
    batches = Batches(tiny.train, torch.device("cpu"))
    model, _ = load_model(folder.file("weights.safetensors"))
    found = ask(teachers[:1], batches, tiny.classes, lambda words: None)
    np.testing.assert_allclose(found, predict(Averaged(model, 5), batches, 4), atol=1e-6)
    assert np.abs(found - predict(model, batches, 4)).max() > 0.01


def test_what_can_not_be_used(teachers: list[Path], tiny_npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "pupil"
    with pytest.raises(UserError, match=r"learns from labels alone: add --teacher_share"):
        _train(RECIPE, tiny_npz, out, teachers)
    with pytest.raises(UserError, match=r"--teacher_share is 0\.75, but there are no teachers"):
        _train(PUPIL, tiny_npz, out)
    with pytest.raises(UserError, match="does not exist: name a folder that `nephros train` made"):
        _train(PUPIL, tiny_npz, out, [tmp_path / "nobody"])
    other = write_npz(tmp_path / "other.npz", made_up(n=200))
    with pytest.raises(UserError, match="learnt from other data or another split"):
        _train(PUPIL, other, out, teachers)
    with pytest.raises(UserError, match=r"--teacher_share is 1\.5, but it must be from 0 to 1"):
        dataclasses.replace(RECIPE, teacher_share=1.5)
    with pytest.raises(UserError, match="learns from teachers, which a study has not"):
        plan(PUPIL, device="cpu")
    assert not out.exists()
