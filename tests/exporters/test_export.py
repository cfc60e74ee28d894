"""Exported files: torch's answers without torch, a card that tells the truth, and nothing written when something is wrong."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open

from nephros.cli import main
from nephros.data.npz import open_npz
from nephros.errors import NephrosError
from nephros.evaluation.scoring import Evaluation
from nephros.evaluation.temperature import apply_temperature
from nephros.exporters import onnx_export
from nephros.exporters.export import export, update_bundled_model
from nephros.exporters.loading import load_predictor
from nephros.exporters.model_card_markdown import card_to_markdown
from nephros.inference import bundled
from nephros.inference.model_card import CARD_FORMAT, CARD_METADATA_KEY
from nephros.inference.predictor import Predictor
from nephros.models.serialization import load_model
from nephros.presets import RECIPES
from nephros.runs import RunFolder
from nephros.workflows.evaluate import evaluate
from nephros.workflows.train import train
from tests.conftest import squares_dataset, write_npz


def test_probabilities_are_torchs_at_any_batch_size(
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


def test_features_are_the_last_layers_input_and_maps_average_to_the_logits(
    run_folder: RunFolder, predictor: Predictor, cells_npz: Path
) -> None:
    classifier, _ = load_model(run_folder.file("weights.safetensors"))
    answers = predictor.predict_batch(open_npz(cells_npz).val.images[:20])
    last = [part for part in classifier.modules() if isinstance(part, torch.nn.Linear)][-1]
    assert answers.features is not None
    assert answers.class_activation_maps is not None
    weight, bias = last.weight.detach().numpy(), last.bias.detach().numpy()
    logits = answers.features @ weight.T + bias
    logits_t = torch.from_numpy(logits) / predictor.card["calibration"]["temperature"]
    assert np.allclose(answers.probabilities, torch.softmax(logits_t, dim=1).numpy(), atol=1e-5)
    assert answers.class_activation_maps.shape == (20, 4, 4, 4)
    assert np.allclose(answers.class_activation_maps.mean(axis=(2, 3)) + bias, logits, atol=1e-3)


def test_the_graph_is_folded_and_holds_no_path(exported_model: Path) -> None:
    model = onnx.load(exported_model)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    card = Predictor.from_onnx(exported_model).card["interface"]
    for part, described in (("inputs", model.graph.input), ("outputs", model.graph.output)):
        shapes = {one.name: [d.dim_value or "n" for d in one.type.tensor_type.shape.dim] for one in described}
        assert shapes == card[part]
    assert b"site-packages" not in exported_model.read_bytes()
    assert b".py" not in exported_model.read_bytes()


def test_the_card_lies_inside_and_beside_and_repeats_from_stored_predictions(
    run_folder: RunFolder, exported_model: Path
) -> None:
    card = json.loads(exported_model.with_suffix(".card.json").read_text())
    inside = {entry.key: entry.value for entry in onnx.load(exported_model).metadata_props}
    assert json.loads(inside[CARD_METADATA_KEY]) == card
    assert card["format"] == CARD_FORMAT
    test = Evaluation.load(run_folder.file("test", "metrics.json"), run_folder.file("test", "predictions.npz"))
    assert card["test_accuracy"] == test.accuracy == card["test"]["accuracy"]
    sets = Predictor.from_onnx(exported_model).prediction_sets(
        apply_temperature(test.probabilities, card["calibration"]["temperature"]), 0.9
    )
    measured = card["conformal"]["test"]
    assert measured["coverage"] == sets[np.arange(len(sets)), test.labels].mean()
    assert measured["mean_set_size"] == pytest.approx(sets.sum(axis=1).mean())
    assert card["data"]["sha256"] == run_folder.info().data["sha256"]
    assert len(run_folder.test_reads()) == 1  # exporting read nothing of it
    assert exported_model.with_suffix(".card.md").read_text() == card_to_markdown(card)


def test_an_unscored_run_has_no_test_figures(tmp_path: Path) -> None:
    recipe = replace(RECIPES["course-4"], epochs=1, batch_size=32)
    folder = train(
        recipe, write_npz(tmp_path / "squares.npz", squares_dataset()), out=tmp_path / "run", say=lambda _: None
    )
    file = export(folder.root, "safetensors", say=lambda _: None)
    card = json.loads(file.with_suffix(".card.json").read_text())
    assert card["test_accuracy"] is card["test"] is card["conformal"]["test"] is None
    assert card["calibration"]["expected_calibration_error"]["test"] is None
    assert "not scored on test" in file.with_suffix(".card.md").read_text()
    answers = load_predictor(file).predict_batch(squares_dataset().val.images)
    assert answers.class_activation_maps is None  # it does not end in a mean over positions
    assert answers.features is not None
    assert answers.features.shape == (60, 50)


def test_made_up_non_cells_are_called_unfamiliar(exported_model: Path) -> None:
    flagged = json.loads(exported_model.with_suffix(".card.json").read_text())["ood_detector"]["flagged_fraction"]
    assert flagged["validation"] < 0.05
    for kind in ("noise", "constant", "inverted_cells"):
        assert flagged[kind] > 0.9


def test_safetensors_answer_as_onnx_does(
    run_folder: RunFolder, predictor: Predictor, tmp_path: Path, cells_npz: Path
) -> None:
    file = export(run_folder.root, "safetensors", out=tmp_path / "m.safetensors", say=lambda _: None)
    images = open_npz(cells_npz).val.images[:50]
    ours, theirs = load_predictor(file).predict_batch(images), predictor.predict_batch(images)
    assert np.allclose(ours.probabilities, theirs.probabilities, atol=1e-5)
    assert ours.class_activation_maps is not None
    assert theirs.class_activation_maps is not None
    assert np.allclose(ours.class_activation_maps, theirs.class_activation_maps, atol=1e-3)
    with safe_open(file, framework="np") as opened:
        assert "whitening" in set(opened.keys())


@pytest.mark.slow
def test_eight_views_do_not_change_when_the_image_is_turned(
    run_folder: RunFolder, tmp_path: Path, cells_npz: Path
) -> None:
    turned = Predictor.from_onnx(export(run_folder.root, out=tmp_path / "m.onnx", tta_views=8, say=lambda _: None))
    images = open_npz(cells_npz).val.images[:20]
    first, second = turned.predict_batch(images), turned.predict_batch(np.rot90(images, 1, (1, 2)).copy())
    assert np.allclose(first.probabilities, second.probabilities, atol=1e-5)
    assert first.class_activation_maps is not None
    assert second.class_activation_maps is not None
    assert np.allclose(np.rot90(first.class_activation_maps, 1, (2, 3)), second.class_activation_maps, atol=1e-3)
    assert turned.card["calibration"]["expected_calibration_error"]["test"] is None  # stored answers were of one view


def test_a_run_of_several_views_is_exported_with_them(run_folder: RunFolder, tmp_path: Path, cells_npz: Path) -> None:
    five = Path(shutil.copytree(run_folder.root, tmp_path / "run"))
    run_json = five / "run.json"
    run_json.write_text(json.dumps(json.loads(run_json.read_text()) | {"tta_views": 5}))
    stored = evaluate(five, "test")
    predictor = Predictor.from_onnx(export(five, out=tmp_path / "m.onnx", say=lambda _: None))
    assert predictor.card["network"]["tta_views"] == 5
    assert predictor.card["test"]["setup"] == "the float32 weights, 5 views of each image"
    expected = apply_temperature(stored.probabilities, predictor.card["calibration"]["temperature"])
    images = open_npz(cells_npz).test.images
    assert np.abs(predictor.predict_batch(images).probabilities - expected).max() < 1e-5
    bare = load_predictor(five, say=lambda _: None)
    assert np.abs(bare.predict_batch(images).probabilities - expected).max() < 1e-5


@pytest.mark.slow
def test_eight_bits_cost_little_and_say_how_much(run_folder: RunFolder, tmp_path: Path, exported_model: Path) -> None:
    said: list[str] = []
    file = export(run_folder.root, int8=True, out=tmp_path / "m.onnx", say=said.append)
    card = Predictor.from_onnx(file).card
    accuracy = card["network"]["quantization"]["validation_accuracy"]
    assert card["network"]["precision"] == "int8"
    assert accuracy["drop"] == pytest.approx(accuracy["float32"] - accuracy["int8"])
    assert abs(accuracy["drop"]) < 0.1
    assert any("eight bits" in words for words in said)
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(file).graph.node}


@pytest.mark.slow
def test_a_model_that_differs_is_not_written(
    run_folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "MAX_PARITY_ERROR", 0.0)
    with pytest.raises(NephrosError, match="differ from torch's"):
        export(run_folder.root, out=tmp_path / "m.onnx", say=lambda _: None)
    assert not list(tmp_path.iterdir())


def test_a_box_that_would_overflow_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "BUNDLED_MODEL_DIR", tmp_path)
    with pytest.raises(NephrosError, match="above 10"):
        bundled.write_bundled_files({"model.onnx": bytes(10_000_001)})
    assert not list(tmp_path.iterdir())
    assert bundled.write_bundled_files({"model.onnx": b"small"}) == tmp_path
    assert bundled.bundled_file("model.onnx").read_bytes() == b"small"


@pytest.mark.slow
def test_a_run_goes_into_the_box_by_one_command(
    run_folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "BUNDLED_MODEL_DIR", tmp_path)
    update_bundled_model(run_folder.root, say=lambda _: None)
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "model.safetensors", "card.json", "card.md"}
    assert Predictor.from_onnx().card == json.loads((tmp_path / "card.json").read_text())
    assert load_predictor(tmp_path / "model.safetensors").card == Predictor.from_onnx().card


def test_what_can_not_be_exported_is_said_in_one_sentence(
    run_folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    knn = tmp_path / "knn"
    data = write_npz(tmp_path / "squares.npz", squares_dataset())
    train(RECIPES["knn"], data, out=knn, say=lambda _: None)
    for words, expected in {
        (str(knn),): "classical baseline (knn)",
        (str(tmp_path / "none"),): "does not exist",
        (str(run_folder.root), "--format", "tflite"): "--format is tflite",
        (str(run_folder.root), "--format", "safetensors", "--int8"): "--int8 is for ONNX",
        (str(run_folder.root), "--out", "model.bin"): "must name a file that ends in .onnx",
        (str(run_folder.root), "--tta-views", "3"): "--tta-views is 3",
        (str(run_folder.root), "--update-bundled-model", "--int8"): "--update-bundled-model writes all formats",
    }.items():
        with pytest.raises(SystemExit) as caught:
            main(["export", *words])
        err = capsys.readouterr().err
        assert caught.value.code == 2
        assert expected in err
        assert len(err.strip().splitlines()) == 1
    answers = load_predictor(knn, say=lambda _: None).predict_batch(squares_dataset().val.images)
    assert (answers.probabilities.argmax(axis=1) == squares_dataset().val.labels).mean() > 0.5
    assert not answers.is_ood.any()


def test_changed_data_is_refused(run_folder: RunFolder, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(run_folder.root, tmp_path / "run"))
    text = (copied / "run.json").read_text().replace(run_folder.info().data["sha256"], "0" * 64)
    (copied / "run.json").write_text(text)
    with pytest.raises(NephrosError, match="has changed since it was trained"):
        export(copied, "safetensors", say=lambda _: None)


def test_a_run_on_data_given_in_python_needs_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = replace(RECIPES["course-4"], epochs=1, batch_size=32)
    folder = train(recipe, squares_dataset(n=80), out=tmp_path / "run", say=lambda _: None)
    with pytest.raises(NephrosError, match="trained on data given in Python"):
        export(folder.root, "safetensors", say=lambda _: None)
    said: list[str] = []
    predictor = load_predictor(folder.root, say=said.append)
    assert any("nothing will be called unfamiliar" in words for words in said)
    assert predictor.card["ood_detector"] is None
    assert not predictor.predict_batch(squares_dataset().val.images).is_ood.any()
