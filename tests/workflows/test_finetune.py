"""Fine-tuning: a run like any other, from a few labels."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nephros
from nephros.cli import main
from nephros.data.split import Split
from nephros.errors import FileError, IncompatibleError, InvalidArgument, NephrosError, UnknownName
from nephros.evaluation.calibration import apply_temperature, fit_temperature
from nephros.evaluation.held_out import pool, read_held_out, write_held_out
from nephros.evaluation.intervals import grouped_accuracy_interval, wilson_interval
from nephros.evaluation.metrics import calibration_curve, expected_calibration_error
from nephros.exporters.export import summarize_card
from nephros.exporters.model_card_markdown import card_to_markdown
from nephros.exporters.packaging import probabilities_only
from nephros.finetuning.choice import METHODS
from nephros.finetuning.cross_validation import BASELINES, best_candidate
from nephros.models.serialization import load_model
from nephros.reporting.run.finetuning import review_finetuning
from nephros.reporting.run.headline import headlines
from nephros.reporting.run.run_contents import load_run
from nephros.runs import RunFolder
from nephros.server.model_info import model_info
from nephros.workflows.compare import compare
from nephros.workflows.finetune import finetune
from nephros.workflows.resume import resume
from tests.conftest import square_images, squares_dataset, write_npz

pytestmark = pytest.mark.usefixtures("reports_without_figures")


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("three") / "three.npz", squares_dataset(n=96, classes=3))


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train the network's methods for a few steps: what they learn is measured elsewhere."""
    monkeypatch.setattr("nephros.finetuning.network.STEPS", 10)
    monkeypatch.setattr("nephros.finetuning.self_training.STEPS", 10)
    monkeypatch.setattr("nephros.training.small_data.TARGET_STEPS", 10)


@pytest.fixture(scope="module")
def head_run(run_folder: RunFolder, three_classes: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    out = tmp_path_factory.mktemp("finetuned") / "run"
    return finetune(three_classes, init=run_folder.root, methods="head,", folds=3, out=out, test=True).run


def test_a_head_is_a_run_like_any_other(head_run: RunFolder, three_classes: Path, tmp_path: Path) -> None:
    info = head_run.info()
    assert (info.status, info.recipe, info.chosen_epoch) == ("complete", "finetune-head", None)
    assert info.init is not None
    assert info.init["head"] == "fitted"
    assert info.finetuning is not None
    assert [row["method"] for row in info.finetuning["methods"]] == ["head", *BASELINES]
    stored = nephros.Evaluation.from_run(head_run, "val")
    assert stored.accuracy > 0.8
    np.testing.assert_array_equal(nephros.evaluate(head_run.root).probabilities, stored.probabilities)
    assert len(head_run.test_reads()) == 1
    assert "finetune-head" in nephros.report(head_run.root).read_text()
    assert [row.accuracy for row in compare([head_run.root], split="val").rows if row.is_run] == [stored.accuracy]
    file = nephros.export(head_run.root, "safetensors", out=tmp_path / "three.safetensors")
    images = nephros.load_dataset(three_classes).val.images
    batch = nephros.load_classifier(file).predict_batch(images)
    assert (batch.probabilities.argmax(axis=1) == stored.probabilities.argmax(axis=1)).mean() > 0.95
    assert resume(head_run.root).info().status == "complete"


@pytest.mark.slow
def test_prediction_sets_are_calibrated_on_every_labeled_image(head_run: RunFolder, tmp_path: Path) -> None:
    file = nephros.export(head_run.root, "safetensors", out=tmp_path / "three.safetensors")
    card = json.loads(file.with_suffix(".card.json").read_text())
    assert card["conformal"]["n_calibration_images"] == 96 + 24
    assert card["conformal"]["method"].startswith("cross-conformal")
    assert card["validation"]["n"] == 24
    assert card["init"]["head"] == "fitted"
    held_out = read_held_out(head_run)
    assert held_out is not None
    assert held_out.probabilities.shape == (96, 3)
    assert held_out.groups is None
    np.testing.assert_allclose(held_out.probabilities.sum(axis=1), 1)
    accuracy = (held_out.probabilities.argmax(axis=1) == held_out.labels).mean()
    assert card["cross_validation"]["n"] == 96
    assert card["cross_validation"]["accuracy"] == pytest.approx(accuracy)
    assert f"| cross-validation | 96 | {accuracy:.4f} |" in file.with_suffix(".card.md").read_text()
    pooled = card["calibration"]["expected_calibration_error"]["pooled"]
    stored = nephros.Evaluation.from_run(head_run, "val")
    before, labels = pool((stored.probabilities, stored.labels), held_out)
    after = apply_temperature(before, card["calibration"]["temperature"])
    for values, probabilities in (("before", before), ("after", after)):
        error = expected_calibration_error(calibration_curve(probabilities, labels))
        assert pooled[values] == pytest.approx(error, abs=1e-3)
    assert card["calibration"]["method"].endswith("on training images in cross-validation and on validation")
    text = file.with_suffix(".card.md").read_text()
    assert "Nothing was chosen on validation" in text
    assert "Validation guides" not in text
    assert f"| cross-validation and validation | {pooled['before']:.4f} | {pooled['after']:.4f} |" in text
    assert "calibration error on cross-validation and validation" in summarize_card(card)[0]
    cross_validation = model_info(card).cross_validation
    assert cross_validation is not None
    assert cross_validation.n == 96
    assert cross_validation.accuracy == pytest.approx(accuracy)


@pytest.mark.slow
def test_one_view_leaves_test_time_augmentation_its_cross_validation(head_run: RunFolder, tmp_path: Path) -> None:
    file = nephros.export(head_run.root, "safetensors", out=tmp_path / "one.safetensors", tta_views=1)
    card = json.loads(file.with_suffix(".card.json").read_text())
    tta, held_out = card["tta"], read_held_out(head_run)
    assert held_out is not None
    assert (tta["tta_views"], tta["conformal"]["n_calibration_images"]) == (5, 96 + 24)
    stored = nephros.Evaluation.from_run(head_run, "val")  # over five views
    temperature = fit_temperature(*pool((stored.probabilities, stored.labels), held_out))
    assert tta["calibration"]["temperature"] == pytest.approx(temperature, rel=1e-3)
    text = file.with_suffix(".card.md").read_text()
    assert "did not see it, over 5 views; it chose" in text
    assert "| expected calibration error on cross-validation and validation |" in text


@pytest.mark.figures
def test_a_damaged_file_of_held_out_predictions_is_one_sentence(head_run: RunFolder, tmp_path: Path) -> None:
    path = head_run.file("cross_validation.npz")
    content = path.read_bytes()
    try:
        other_labels, other_groups = io.BytesIO(), io.BytesIO()
        np.savez(other_labels, probabilities=np.full((2, 3), 1 / 3), labels=np.array([0, 3]))
        np.savez(
            other_groups, probabilities=np.full((2, 3), 1 / 3), labels=np.array([0, 2]), groups=np.array(["a", "a"])
        )
        for damaged in (b"", content[:-40], b"PK\x03\x04", other_labels.getvalue(), other_groups.getvalue()):
            path.write_bytes(damaged)
            with pytest.raises(FileError):
                nephros.report(head_run.root)
            with pytest.raises(FileError):
                nephros.export(head_run.root, "safetensors", out=tmp_path / "x.safetensors")
    finally:
        path.write_bytes(content)


def test_a_method_that_was_not_compared_can_not_be_kept(head_run: RunFolder) -> None:
    complete = head_run.info()
    assert complete.finetuning is not None
    head_run.write_info(dataclasses.replace(complete, finetuning={**complete.finetuning, "method": "network"}))
    try:
        with pytest.raises(FileError, match="finetuning"):
            head_run.info()
    finally:
        head_run.write_info(complete)


@pytest.mark.slow
def test_the_best_of_all_methods_is_kept(
    run_folder: RunFolder, three_classes: Path, tmp_path: Path, few_steps: None
) -> None:
    result = finetune(three_classes, init=run_folder.root, folds=2, out=tmp_path / "run", device="cpu")
    methods = [method for method in METHODS if method != "self-training"]
    assert [candidate.method for candidate in result.candidates] == [*methods, *BASELINES]
    assert result.kept is best_candidate(result.candidates)
    assert repr(result).startswith(f"<Finetuning {result.run.root}: {result.kept.method} of head ")
    assert len(repr(result)) < 300 + len(str(tmp_path))
    info = result.run.info()
    assert info.finetuning is not None
    assert info.finetuning["method"] == result.kept.method
    assert len(result.recalls) == 3


@pytest.mark.parametrize(
    "method", ["last-stage", *(pytest.param(method, marks=pytest.mark.slow) for method in ("network", "scratch"))]
)
def test_each_trained_method_becomes_a_run(
    method: str, run_folder: RunFolder, three_classes: Path, tmp_path: Path, few_steps: None
) -> None:
    run = finetune(three_classes, init=run_folder.root, methods=[method], folds=2, out=tmp_path / "run").run
    info = run.info()
    assert (info.recipe, info.status) == (f"finetune-{method}", "complete")
    assert (info.init is None) == (method == "scratch")
    assert info.chosen_epoch == nephros.get_recipe(str(run.file("recipe.yaml"))).epochs
    model, _ = load_model(run.file("weights.safetensors"))
    source, _ = load_model(run_folder.file("weights.safetensors"))
    if method != "scratch":
        same = np.array_equal(
            model.network.get_submodule("features.0").state_dict()["weight"],
            source.network.get_submodule("features.0").state_dict()["weight"],
        )
        assert same == (method == "last-stage")
        assert info.freeze == (["stem", "stage1", "stage2"] if method == "last-stage" else [])


@pytest.mark.slow
def test_self_training_learns_from_images_without_labels(
    run_folder: RunFolder, three_classes: Path, tmp_path: Path, few_steps: None
) -> None:
    folder = tmp_path / "unlabeled"
    folder.mkdir()
    images, _ = square_images(20, 3, seed=5)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i}.png")
    result = finetune(
        three_classes,
        unlabeled=folder,
        init=run_folder.root,
        methods="network,self-training",
        folds=2,
        out=tmp_path / "run",
    )
    assert [candidate.method for candidate in result.candidates] == ["network", "self-training", *BASELINES]
    recipe = nephros.get_recipe(str(result.run.file("recipe.yaml")))
    assert (recipe.name, recipe.distillation_weight) == (
        f"finetune-{result.kept.method}",
        float(result.kept.method == "self-training"),
    )
    assert nephros.evaluate(result.run.root).accuracy > 0.3


def test_unlabeled_images_that_cannot_be_used_are_named(
    run_folder: RunFolder, three_classes: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no image")
    options: dict[str, Any] = {"init": run_folder.root, "out": tmp_path / "run"}
    with pytest.raises(FileError, match=r"text\.png"):
        finetune(three_classes, unlabeled=tmp_path / "text.png", **options)
    with pytest.raises(FileError, match="missing"):
        finetune(three_classes, unlabeled=tmp_path / "missing", **options)
    with pytest.raises(InvalidArgument) as raised:
        finetune(three_classes, unlabeled=np.zeros(5), **options)
    assert raised.value.parameter == "images"
    with pytest.raises(InvalidArgument) as raised:
        finetune(three_classes, methods="self-training", **options)
    assert raised.value.parameter == "methods"
    with pytest.raises(InvalidArgument, match="`unlabeled`") as raised:
        finetune(three_classes, unlabeled=tmp_path, methods="head", **options)
    assert raised.value.parameter == "methods"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(run_folder: RunFolder, three_classes: Path, tmp_path: Path) -> None:
    runs = [
        finetune(three_classes, init=run_folder.root, methods="head", folds=2, out=tmp_path / name).run for name in "ab"
    ]
    assert len({run.file("weights.safetensors").read_bytes() for run in runs}) == 1


def test_color_images_start_from_gray_weights(run_folder: RunFolder, tmp_path: Path) -> None:
    data = write_npz(tmp_path / "color.npz", squares_dataset(n=60, classes=3, channels=3))
    run = finetune(data, init=run_folder.root, methods="head", folds=2, out=tmp_path / "run").run
    assert run.info().input_spec["channels"] == 3
    assert nephros.evaluate(run.root).accuracy > 0.7


@pytest.mark.slow
def test_folders_are_resized_and_folded_by_group(run_folder: RunFolder, tmp_path: Path) -> None:
    images, labels = square_images(160, 2, seed=0)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = tmp_path / "cells" / f"kind {label}" / f"patient {i % 8}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.kron(image, np.ones((2, 2), dtype=np.uint8))).save(file)
    result = finetune(tmp_path / "cells", init=run_folder.root, methods="head", folds=3, out=tmp_path / "run")
    info = result.run.info()
    assert info.finetuning is not None
    assert info.finetuning["by_group"]
    assert (info.input_spec["height"], info.class_names) == (28, ["kind 0", "kind 1"])
    assert nephros.evaluate(result.run.root).accuracy == nephros.Evaluation.from_run(result.run, "val").accuracy


def test_what_can_not_be_fine_tuned_is_refused_before_anything_is_written(
    run_folder: RunFolder, three_classes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    labels = np.array([0] * 20 + [1] * 20 + [2])
    lonely = dataclasses.replace(
        squares_dataset(n=96, classes=3), train=Split(np.zeros((41, 28, 28), dtype=np.uint8), labels)
    )
    used = tmp_path / "used"
    used.mkdir()
    (used / "notes.txt").write_text("mine")
    cases: list[tuple[object, dict[str, object], type[NephrosError]]] = [
        (three_classes, {"methods": "heads"}, UnknownName),
        (three_classes, {"methods": ""}, InvalidArgument),
        (three_classes, {"methods": "head,head"}, InvalidArgument),
        (three_classes, {"folds": 1}, InvalidArgument),
        (three_classes, {"out": used}, InvalidArgument),
        (three_classes, {"init": "nothing"}, NephrosError),
        (lonely, {}, IncompatibleError),
        (squares_dataset(n=48, size=36), {}, IncompatibleError),
        (three_classes, {"size": 36}, IncompatibleError),
        (three_classes, {"mask": "nuclei.tif"}, InvalidArgument),
    ]
    for data, arguments, error in cases:
        with pytest.raises(error):
            finetune(data, **{"init": run_folder.root, "methods": "head", "out": out, **arguments})  # type: ignore[arg-type]
        assert not out.exists()
    assert [path.name for path in used.iterdir()] == ["notes.txt"]


def test_a_run_that_was_stopped_while_it_was_scored_is_finished(
    run_folder: RunFolder, three_classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {"init": run_folder.root, "methods": "head", "folds": 2}
    whole = finetune(three_classes, **arguments, out=tmp_path / "whole").run

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("nephros.workflows.training_run.score_split", interrupt)
        with pytest.raises(KeyboardInterrupt) as exc_info:
            finetune(three_classes, **arguments, out=tmp_path / "run")
    assert exc_info.value.__notes__ == [f"`nephros.resume('{tmp_path / 'run'}')` finishes the run"]
    run = resume(tmp_path / "run")
    assert run.info().status == "complete"
    assert run.file("report.html").is_file()
    stored, expected = (nephros.Evaluation.from_run(folder, "val") for folder in (run, whole))
    np.testing.assert_array_equal(stored.probabilities, expected.probabilities)


def test_a_folder_that_cannot_be_written_is_named_at_once(
    run_folder: RunFolder, three_classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nephros.files.os.access", lambda path, mode: Path(path) != tmp_path)
    monkeypatch.setattr("nephros.workflows.finetune.open_data", None)
    with pytest.raises(InvalidArgument, match=f"in a folder that you can write to. {tmp_path} can't be written"):
        finetune(three_classes, init=run_folder.root, methods="head", out=tmp_path / "a" / "run")


def test_the_command_shows_methods_classes_and_labels(
    run_folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = squares_dataset(n=96, classes=3)
    labels = clean.train.labels.copy()
    labels[7] = (labels[7] + 1) % 3
    data = write_npz(tmp_path / "three.npz", dataclasses.replace(clean, train=Split(clean.train.images, labels)))
    argv = ["finetune", str(data), "--init", str(run_folder.root), "--methods", "head", "--folds", "3"]
    with pytest.raises(SystemExit) as exc_info:
        main([*argv, "--out", str(tmp_path / "run")])
    assert exc_info.value.code == 0
    output = capsys.readouterr().out
    assert all(text in output for text in ("head (kept)", "knn", "largest-class", "class 0", "learning curve"))
    rows = list(csv.DictReader((tmp_path / "run" / "suspicious_labels.csv").read_text().splitlines()))
    assert "7" in {row["index"] for row in rows}
    assert {row["image"] for row in rows} == {f"training image {row['index']}" for row in rows}
    assert "--methods head" in RunFolder.open(tmp_path / "run").info().command


def test_a_model_that_has_learned_nothing_calls_no_label_wrong(run_folder: RunFolder, tmp_path: Path) -> None:
    rng, clean = np.random.default_rng(0), squares_dataset(n=96, classes=3)
    shuffled = dataclasses.replace(clean, train=Split(clean.train.images, rng.permutation(clean.train.labels)))
    result = finetune(shuffled, init=run_folder.root, methods="head", folds=2, out=tmp_path / "run")
    assert result.kept.metrics.accuracy < 0.5
    assert result.suspicious == []
    assert result.run.file("suspicious_labels.csv").read_text().count("\n") == 1
    assert "Labels that look wrong" not in result.run.file("report.html").read_text()


@pytest.mark.slow
def test_an_npz_file_and_a_table_of_other_sizes_are_resized(run_folder: RunFolder, tmp_path: Path) -> None:
    large = squares_dataset(n=60, classes=3, size=36)
    write_npz(tmp_path / "large.npz", large)
    lines = ["file,label"]
    for i, (image, label) in enumerate(zip(large.train.images, large.train.labels, strict=True)):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,kind {label}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    for name in ("large.npz", "labels.csv"):
        run = finetune(
            tmp_path / name, init=run_folder.root, methods="head", folds=2, out=tmp_path / f"run of {name}"
        ).run
        info = run.info()
        assert (info.input_spec["height"], info.data_request["size"]) == (28, 28)
        stored = nephros.Evaluation.from_run(run, "val")
        assert nephros.evaluate(run.root).accuracy == stored.accuracy
        assert nephros.evaluate(run.root, "val", data=tmp_path / name).accuracy == stored.accuracy


@pytest.mark.slow
def test_groups_of_an_npz_file_make_the_folds(run_folder: RunFolder, tmp_path: Path) -> None:
    data = squares_dataset(n=96, classes=3)
    arrays = {
        f"{name}_{kind}": values
        for name, split in data.splits()
        for kind, values in (
            ("images", split.images),
            ("labels", split.labels),
            ("groups", np.array([f"{name} stack {i % 6}" for i in range(len(split))])),
        )
    }
    np.savez(tmp_path / "grouped.npz", **arrays)  # type: ignore[arg-type]
    train = nephros.load_dataset(tmp_path / "grouped.npz").train
    assert train.groups is not None
    assert train.groups[:7].tolist() == [f"train stack {i % 6}" for i in range(7)]
    arguments = {"init": run_folder.root, "methods": "head", "folds": 4}
    for groups, by_group in (("auto", True), ("none", False)):
        run = finetune(tmp_path / "grouped.npz", out=tmp_path / groups, groups=groups, **arguments).run  # type: ignore[arg-type]
        record = run.info().finetuning
        assert record is not None
        assert (record["by_group"], record["folds"]) == (by_group, 4)


def test_no_label_is_held_out_for_test_unless_test_is_to_be_scored(
    run_folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, (image, label) in enumerate(zip(*square_images(60, 3, seed=0), strict=True)):
        file = tmp_path / "cells" / f"class {label}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    images, labels = square_images(60, 3, seed=0)
    np.savez(tmp_path / "cells.npz", images=images, labels=labels)
    arguments: dict[str, Any] = {"init": run_folder.root, "methods": "head", "folds": 2}
    for data in (("cells",), ("cells.npz",), (images, labels)):
        paths = [tmp_path / part if isinstance(part, str) else part for part in data]
        for test, counts in ((False, [54, 6, 0]), (True, [42, 6, 12])):
            run = finetune(
                *paths, test=test, out=tmp_path / f"{data[0] if len(data) == 1 else 'arrays'} {test}", **arguments
            ).run
            assert [sum(run.info().class_counts[split]) for split in ("train", "val", "test")] == counts
    run_root, others = tmp_path / "cells False", tmp_path / "cells.npz"
    stored = nephros.Evaluation.from_run(RunFolder.open(run_root), "val").accuracy
    assert nephros.evaluate(run_root).accuracy == nephros.evaluate(run_root, data=tmp_path / "cells").accuracy == stored
    with pytest.raises(SystemExit):
        main(["evaluate", str(run_root), "--split", "test"])
    assert "nephros finetune DATA --test" in capsys.readouterr().err
    with pytest.raises(IncompatibleError, match="no test split"):
        nephros.evaluate(run_root, "test", data=tmp_path / "cells")
    assert len(nephros.evaluate(run_root, "test", data=others).labels) == 12
    assert resume(run_root).info().status == "complete"


def test_images_in_memory_are_fitted_by_group(tmp_path: Path, run_folder: RunFolder) -> None:
    images, labels = square_images(96, 3, seed=0)
    names, patients = np.array(["a", "b", "c"])[labels], np.arange(96) // 6
    enlarged = np.kron(images, np.ones((1, 2, 2), dtype=np.uint8)).astype(np.uint16) * 16
    result = nephros.finetune(
        enlarged, names, groups=patients, init=run_folder.root, methods="head", folds=3, out=tmp_path / "run"
    )
    info = result.run.info()
    assert info.class_names == ["a", "b", "c"]
    assert info.finetuning is not None
    assert info.finetuning["by_group"]
    assert info.data["n_groups"] == 16
    assert (info.input_spec["height"], info.input_conversion["white_level"]) == (28, enlarged.max())
    assert result.run.evaluate("val").accuracy == nephros.Evaluation.from_run(result.run, "val").accuracy > 0.8
    record, held_out = info.finetuning["methods"][0], read_held_out(result.run)
    assert held_out is not None
    assert held_out.groups is not None
    interval = grouped_accuracy_interval(held_out.probabilities.argmax(axis=1) == held_out.labels, held_out.groups)
    assert (record["accuracy_low"], record["accuracy_high"]) == (interval.low, interval.high)
    assert info.finetuning["interval_method"] == interval.method
    assert interval.low < wilson_interval(round(record["accuracy"] * len(held_out.labels)), len(held_out.labels))[0]
    headline = next(row for row in headlines(load_run(result.run)) if row.where == "in cross-validation")
    assert headline.interval == (interval.low, interval.high)
    assert [metric.interval for metric in headline.other_metrics] == [None] * 5
    review = review_finetuning(load_run(result.run), None)
    assert review is not None
    assert "images of other groups" in review.interval_note
    _, card = probabilities_only(result.run, torch.device("cpu"))
    assert card["cross_validation"] is not None
    assert card["cross_validation"]["accuracy_interval"]["method"] == interval.method
    assert f"of cross-validation: {interval.method}" in card_to_markdown(card)


def test_a_run_by_group_of_an_earlier_version_says_that_its_intervals_are_too_narrow(
    tmp_path: Path, run_folder: RunFolder
) -> None:
    images, labels = square_images(96, 3, seed=0)
    arguments: dict[str, Any] = {"groups": np.arange(96) // 6, "init": run_folder.root, "methods": "head", "folds": 3}
    run = nephros.finetune(images, labels, out=tmp_path / "run", **arguments).run
    held_out, info = read_held_out(run), run.info()
    assert held_out is not None
    assert info.finetuning is not None
    write_held_out(run, held_out._replace(groups=None))
    record = {key: value for key, value in info.finetuning.items() if key != "interval_method"}
    run.write_info(dataclasses.replace(info, finetuning=record))  # type: ignore[arg-type]
    review = review_finetuning(load_run(run), None)
    assert review is not None
    assert "too narrow for other groups" in review.interval_note


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        ({"labels": None}, "labels"),
        ({"labels": [0, 1]}, "labels"),
        ({"data": "tissuemnist"}, "labels"),
        ({"groups": [1]}, "groups"),
        ({"groups": "folderss"}, "groups"),
        ({"data": None}, "data"),
    ],
)
def test_bad_arrays_are_named(arguments: dict[str, Any], parameter: str, tmp_path: Path) -> None:
    images, labels = square_images(60, 3, seed=0)
    arguments = {"data": images, "labels": labels, "methods": "head", "out": tmp_path / "run", **arguments}
    with pytest.raises(InvalidArgument) as caught:
        nephros.finetune(**arguments)
    assert caught.value.parameter in (parameter, "images" if parameter == "data" else parameter)
    assert not (tmp_path / "run").exists()
