"""Exported files: torch's predictions without torch, a truthful card, and nothing written when something is wrong."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open

from nephros.cli import main
from nephros.data.npz.opening import open_npz
from nephros.errors import FileError, IncompatibleError, InvalidArgument
from nephros.evaluation.calibration import apply_temperature
from nephros.evaluation.scoring import ONE_VIEW, Evaluation
from nephros.exporters import onnx_export
from nephros.exporters.export import export, update_bundled_model
from nephros.exporters.loading import load_classifier
from nephros.exporters.model_card_markdown import card_to_markdown
from nephros.exporters.safetensors_io import load_safetensors
from nephros.inference import bundled
from nephros.inference.bundled import bundled_file
from nephros.inference.model_card import CARD_FORMAT, CARD_METADATA_KEY
from nephros.inference.predictor import Predictor
from nephros.models.serialization import load_model
from nephros.presets import RECIPES
from nephros.runs import RunFolder
from nephros.workflows.evaluate import evaluate
from nephros.workflows.train import train
from tests.conftest import squares_dataset, write_npz

pytestmark = pytest.mark.usefixtures("reports_without_figures")


@pytest.fixture(scope="module")
def knn_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a classical baseline."""
    folder = tmp_path_factory.mktemp("knn")
    data = write_npz(folder / "squares.npz", squares_dataset())
    return train(RECIPES["knn"], data, out=folder / "run").root


def test_probabilities_match_torch_at_any_batch_size(
    run_folder: RunFolder, exported_model: Path, predictor: Predictor, cells_npz: Path
) -> None:
    classifier, names = load_model(run_folder.file("weights.safetensors"))
    images = open_npz(cells_npz).val.images
    with torch.no_grad():
        logits = classifier(torch.from_numpy(images)[:, None])
        expected = torch.softmax(logits / predictor.card["calibration"]["temperature"], dim=1).numpy()
    for n in (1, 7, len(images)):
        assert np.abs(predictor.predict_batch(images[:n]).probabilities - expected[:n]).max() < 1e-5
    assert predictor.class_names == names
    assert predictor.predict_batch(images[:0]).probabilities.shape == (0, 4)


def test_features_feed_the_last_layer_and_maps_average_to_the_logits(
    run_folder: RunFolder, predictor: Predictor, cells_npz: Path
) -> None:
    classifier, _ = load_model(run_folder.file("weights.safetensors"))
    batch = predictor.predict_batch(open_npz(cells_npz).val.images[:20])
    head = [module for module in classifier.modules() if isinstance(module, torch.nn.Linear)][-1]
    assert batch.features is not None
    assert batch.class_activation_maps is not None
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    logits = batch.features @ weight.T + bias
    calibrated = torch.from_numpy(logits) / predictor.card["calibration"]["temperature"]
    assert np.allclose(batch.probabilities, torch.softmax(calibrated, dim=1).numpy(), atol=1e-5)
    assert batch.class_activation_maps.shape == (20, 4, 4, 4)
    assert np.allclose(batch.class_activation_maps.mean(axis=(2, 3)) + bias, logits, atol=1e-3)


def test_the_graph_is_folded_matches_the_card_and_contains_no_path(exported_model: Path) -> None:
    model = onnx.load(exported_model)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    interface = Predictor.from_onnx(exported_model).card["interface"]
    for direction, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
        shapes = {value.name: [d.dim_value or "n" for d in value.type.tensor_type.shape.dim] for value in values}
        assert shapes == interface[direction]
    assert b"site-packages" not in exported_model.read_bytes()
    assert b".py" not in exported_model.read_bytes()


def versions(file: Path) -> dict[str, int]:
    """Return the IR version of an ONNX file and its operator sets' versions by domain."""
    model = onnx.load(file)
    return {"IR": model.ir_version, **{entry.domain: entry.version for entry in model.opset_import}}


def test_exported_models_and_the_bundled_one_are_open_to_onnx_runtime_1_17(exported_model: Path) -> None:
    # Its documentation: ONNX 1.15, that is opset 20 and IR version 9.
    for file in (exported_model, bundled_file("model.onnx")):
        assert versions(file) == {"IR": 9, "": 20}


def test_the_card_is_inside_and_beside_the_file_and_follows_from_stored_predictions(
    run_folder: RunFolder, exported_model: Path
) -> None:
    card = json.loads(exported_model.with_suffix(".card.json").read_text())
    metadata = {entry.key: entry.value for entry in onnx.load(exported_model).metadata_props}
    assert json.loads(metadata[CARD_METADATA_KEY]) == card
    assert card["format"] == CARD_FORMAT
    test = Evaluation.load(run_folder.file("test", "metrics.json"), run_folder.file("test", "predictions.npz"))
    assert card["test_accuracy"] == test.accuracy == card["test"]["accuracy"]
    sets = Predictor.from_onnx(exported_model).prediction_sets(
        apply_temperature(test.probabilities, card["calibration"]["temperature"]), 0.9
    )
    report = card["conformal"]["test"]
    assert report["coverage"] == sets[np.arange(len(sets)), test.labels].mean()
    assert report["mean_set_size"] == pytest.approx(sets.sum(axis=1).mean())
    assert card["data"]["sha256"] == run_folder.info().data["sha256"]
    assert len(run_folder.test_reads()) == 1  # exporting did not read the test split
    assert exported_model.with_suffix(".card.md").read_text() == card_to_markdown(card)


def test_an_unscored_run_has_no_test_figures(tmp_path: Path) -> None:
    recipe = replace(RECIPES["course-4"], epochs=1, batch_size=32)
    data = write_npz(tmp_path / "squares.npz", squares_dataset())
    folder = train(recipe, data, out=tmp_path / "run")
    file = export(folder.root, "safetensors", force=True)
    card = json.loads(file.with_suffix(".card.json").read_text())
    assert card["test_accuracy"] is card["test"] is card["conformal"]["test"] is None
    assert card["calibration"]["expected_calibration_error"]["test"] is None
    assert "not scored on test" in file.with_suffix(".card.md").read_text()
    batch = load_classifier(file).predict_batch(squares_dataset().val.images)
    assert batch.class_activation_maps is None  # it does not end in global average pooling
    assert batch.features is not None
    assert batch.features.shape == (60, 50)


def test_negative_controls_are_flagged(exported_model: Path) -> None:
    flagged = json.loads(exported_model.with_suffix(".card.json").read_text())["ood_detector"]["flagged_fraction"]
    assert flagged["validation"] < 0.05
    for kind in ("noise", "constant", "inverted_cells"):
        assert flagged[kind] > 0.9


def test_safetensors_predict_as_onnx_does(predictor: Predictor, safetensors_model: Path, cells_npz: Path) -> None:
    file = safetensors_model
    images = open_npz(cells_npz).val.images[:50]
    by_torch, by_onnx = load_classifier(file).predict_batch(images), predictor.predict_batch(images)
    assert np.allclose(by_torch.probabilities, by_onnx.probabilities, atol=1e-5)
    assert by_torch.class_activation_maps is not None
    assert by_onnx.class_activation_maps is not None
    assert np.allclose(by_torch.class_activation_maps, by_onnx.class_activation_maps, atol=1e-3)
    with safe_open(file, framework="np") as opened:
        assert {"head.weight", "input_offset", "whitening"} <= set(opened.keys())


@pytest.mark.slow
def test_eight_views_make_predictions_invariant_to_rotation(
    run_folder: RunFolder, tmp_path: Path, cells_npz: Path
) -> None:
    predictor = Predictor.from_onnx(export(run_folder.root, out=tmp_path / "m.onnx", tta_views=8))
    images = open_npz(cells_npz).val.images[:20]
    upright, rotated = predictor.predict_batch(images), predictor.predict_batch(np.rot90(images, 1, (1, 2)).copy())
    assert np.allclose(upright.probabilities, rotated.probabilities, atol=1e-5)
    assert upright.class_activation_maps is not None
    assert rotated.class_activation_maps is not None
    expected = np.rot90(upright.class_activation_maps, 1, (2, 3))
    assert np.allclose(expected, rotated.class_activation_maps, atol=1e-3)
    # The stored predictions are of one view.
    assert predictor.card["calibration"]["expected_calibration_error"]["test"] is None


@pytest.mark.slow
def test_a_run_of_several_views_is_exported_as_one_view_and_as_several(
    run_folder: RunFolder, tmp_path: Path, cells_npz: Path
) -> None:
    copied = Path(shutil.copytree(run_folder.root, tmp_path / "run"))
    run_json = copied / "run.json"
    run_json.write_text(json.dumps(json.loads(run_json.read_text()) | {"tta_views": 5}))
    of_five = evaluate(copied, "test")
    of_one = Evaluation.from_run(RunFolder.open(copied), "test", ONE_VIEW)
    assert (of_five.metrics.tta_views, of_one.metrics.tta_views) == (5, 1)
    assert len((copied / "test" / "reads.jsonl").read_text().splitlines()) == 2  # of training and of this evaluation
    predictor = Predictor.from_onnx(export(copied, out=tmp_path / "m.onnx"))
    assert predictor.card["network"]["tta_views"] == 1
    images = open_npz(cells_npz).test.images
    for classifier, stored, setup in (
        (predictor, of_one, "one view"),
        (predictor.with_tta(), of_five, "5 views"),
        (load_classifier(copied), of_one, "one view"),
        (load_classifier(copied, tta=True), of_five, "5 views"),
    ):
        card = classifier.card
        assert card["test"] is not None
        assert setup in card["test"]["setup"]
        assert card["test_accuracy"] == stored.accuracy
        expected = apply_temperature(stored.probabilities, card["calibration"]["temperature"])
        assert np.abs(classifier.predict_batch(images).probabilities - expected).max() < 1e-5
        assert card["calibration"]["expected_calibration_error"]["test"] is not None


@pytest.mark.slow
def test_int8_costs_little_accuracy_and_the_card_says_how_much(run_folder: RunFolder, tmp_path: Path) -> None:
    file = export(run_folder.root, int8=True, out=tmp_path / "m.onnx")
    card = Predictor.from_onnx(file).card
    accuracy = card["network"]["quantization"]["validation_accuracy"]
    assert card["network"]["precision"] == "int8"
    assert accuracy["drop"] == pytest.approx(accuracy["float32"] - accuracy["int8"])
    assert abs(accuracy["drop"]) < 0.1
    assert card["tta"] is not None
    assert card["tta"]["tta_views"] == 5
    assert load_classifier(file, precision="int8").card == card
    with pytest.raises(InvalidArgument) as caught:
        load_classifier(file, precision="float32")
    assert caught.value.parameter == "precision"
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(file).graph.node}
    assert versions(file) == {"IR": 9, "": 20}


@pytest.mark.slow
def test_a_model_that_differs_from_torch_is_not_written(
    run_folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "MAX_PARITY_ERROR", 0.0)
    with pytest.raises(IncompatibleError, match="differ from torch's"):
        export(run_folder.root, out=tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_bundled_models_that_are_too_large_together_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "BUNDLED_MODELS_DIR", tmp_path)
    with pytest.raises(IncompatibleError, match="15 MB"):
        bundled.write_bundled_files("large", {"model.onnx": bytes(15_000_001)})
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileError):
        bundled.bundled_file("model.onnx", "large")
    assert bundled.write_bundled_files("half", {"model.onnx": bytes(8_000_000)}) == tmp_path / "half"
    with pytest.raises(IncompatibleError, match="15 MB"):
        bundled.write_bundled_files("other", {"model.onnx": bytes(8_000_000)})
    bundled.write_bundled_files("half", {"model.onnx": b"small"})
    assert bundled.bundled_file("model.onnx", "half").read_bytes() == b"small"


@pytest.mark.slow
def test_a_run_becomes_the_bundled_model_of_its_recipe(
    run_folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "BUNDLED_MODELS_DIR", tmp_path)
    folder = tmp_path / run_folder.info().recipe
    assert update_bundled_model(run_folder.root) == folder
    assert bundled.bundled_names() == (folder.name,)
    names = {file.name for file in folder.iterdir()} - {"model-int8.onnx"}  # which is there if it loses little
    assert names == {"model.onnx", "model.safetensors", "card.json", "card.md"}
    predictor = Predictor.from_onnx(folder / "model.onnx")
    assert predictor.card == json.loads((folder / "card.json").read_text())
    assert load_classifier(folder / "model.safetensors").card == predictor.card


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        ({"format": "tflite"}, "format"),
        ({"format": "safetensors", "int8": True}, "format"),
        ({"out": "model.bin"}, "out"),
        ({"tta_views": 3}, "tta_views"),
    ],
)
def test_invalid_arguments_are_named(arguments: dict[str, Any], parameter: str, run_folder: RunFolder) -> None:
    with pytest.raises(InvalidArgument) as caught:
        export(run_folder.root, **arguments)
    assert caught.value.parameter == parameter


@pytest.mark.slow
def test_the_command_reports_errors_in_its_own_words(
    run_folder: RunFolder, knn_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, expected in {
        (str(knn_run),): f"`nephros predict IMAGES --model {knn_run}`",
        (str(tmp_path / "none"),): "does not exist",
        (str(run_folder.root), "--format", "tflite"): "--format is tflite",
        (str(run_folder.root), "--update-bundled-model", "--int8"): "--update-bundled-model writes all formats",
    }.items():
        with pytest.raises(SystemExit) as caught:
            main(["export", *arguments])
        err = capsys.readouterr().err
        assert caught.value.code == 2
        assert expected in err
        assert len(err.strip().splitlines()) == 1


def test_a_classical_baseline_predicts_from_its_run_folder_alone(knn_run: Path) -> None:
    with pytest.raises(IncompatibleError, match="knn"):
        export(knn_run)
    batch = load_classifier(knn_run).predict_batch(squares_dataset().val.images)
    assert (batch.probabilities.argmax(axis=1) == squares_dataset().val.labels).mean() > 0.5
    assert not batch.is_ood.any()


def test_changed_data_is_refused(run_folder: RunFolder, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(run_folder.root, tmp_path / "run"))
    other = write_npz(tmp_path / "squares.npz", squares_dataset(n=80))
    text = (copied / "run.json").read_text().replace(run_folder.info().data_request["source"], str(other))
    (copied / "run.json").write_text(text)
    with pytest.raises(IncompatibleError, match="has changed"):
        export(copied, "safetensors")


def test_an_unexported_run_is_packaged_once(
    run_folder: RunFolder, predictor: Predictor, tmp_path: Path, cells_npz: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copied = Path(shutil.copytree(run_folder.root, tmp_path / "run", ignore=shutil.ignore_patterns("export")))
    images = open_npz(cells_npz).val.images[:50]
    expected = predictor.predict_batch(images)

    def packaged(**options: bool) -> bool:
        caplog.clear()
        with caplog.at_level(logging.INFO, "nephros"):
            opened = load_classifier(copied, **options)  # type: ignore[arg-type]
        batch = opened.predict_batch(images)
        if not options:
            assert np.allclose(batch.probabilities, expected.probabilities, atol=1e-5)
        assert batch.ood_reasons == expected.ood_reasons
        assert opened.card["ood_detector"] is not None
        return "no exported model yet" in caplog.text

    assert [packaged(), packaged(), packaged(tta=True), packaged(tta=True), packaged()] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert load_safetensors(copied / "export" / "model.safetensors")[1].get("tta")
    scores = copied / "test" / "metrics.json"
    os.utime(scores, (time.time() + 10,) * 2)  # scored after it was packaged
    assert packaged()


def test_a_run_that_can_t_be_stored_is_packaged_in_memory(
    run_folder: RunFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copied = Path(shutil.copytree(run_folder.root, tmp_path / "run", ignore=shutil.ignore_patterns("export")))
    (copied / "export").write_bytes(b"")  # no folder can be made in its place
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO, "nephros"):
            assert load_classifier(copied).card["ood_detector"] is not None
        assert "is not kept, and will be fitted again each time: " in caplog.text


def test_a_run_on_data_given_in_python_predicts_without_ood_detection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = replace(RECIPES["course-4"], epochs=1, batch_size=32)
    folder = train(recipe, squares_dataset(n=80), out=tmp_path / "run")
    with pytest.raises(IncompatibleError, match="data given in Python"):
        export(folder.root, "safetensors", force=True)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "nephros"):
        predictor = load_classifier(folder.root)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "data given in Python" in caplog.text
    assert predictor.card["ood_detector"] is None
    assert not predictor.predict_batch(squares_dataset().val.images).is_ood.any()
