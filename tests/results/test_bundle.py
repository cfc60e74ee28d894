"""Exporting bundled models: their cards' figures against predictions and records, and the log of readings of test."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from nephros.data.dataset import Dataset
from nephros.data.load import load_dataset
from nephros.evaluation.scoring import load_run_model
from nephros.exporters.packaging import run_module
from nephros.inference import bundled
from nephros.inference.bundled import bundled_names
from nephros.inference.model_card import ExportFacts, IntervalInfo
from nephros.inference.model_names import bundled_card
from nephros.inference.onnx_session import create_session, onnx_forward_fn
from nephros.presets import RECIPES
from nephros.runs import RunFolder
from results import bundle

NAME = "small"
SHIFTS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))


@pytest.fixture
def scratch(run_folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Outputs, log and bundled models in an empty folder, and a recipe of the run's network."""
    monkeypatch.setattr(bundle, "OUTPUTS", tmp_path / "outputs")
    monkeypatch.setattr(bundle, "READS", tmp_path / "reads.jsonl")
    monkeypatch.setattr(bundled, "BUNDLED_MODELS_DIR", tmp_path / "bundled")
    recipe = dataclasses.replace(RECIPES["nephros"], name=NAME, model=run_folder.recipe().model)
    monkeypatch.setitem(RECIPES, NAME, recipe)
    return tmp_path


@pytest.fixture(scope="module")
def dataset(cells_npz: Path) -> Dataset:
    return load_dataset(cells_npz)


def _facts(source: bundle.Source) -> ExportFacts:
    return {
        "tta_views": 1,
        "precision": "float32",
        "weights_sha256": source.weights_sha256,
        "epoch": source.epoch,
        "onnx_max_abs_error": 0.0,
    }


@pytest.fixture
def exported(scratch: Path, run_folder: RunFolder, dataset: Dataset) -> tuple[bundle.Source, bundle.Outputs]:
    """The run's network, and its outputs in float32, of which none was predicted yet."""
    source = bundle.Source(NAME, dataset, run_folder)
    return source, bundle.Outputs(lambda images: run_module(source.module, images), "float32", dataset)


def _mean_probabilities(run: RunFolder, images: NDArray[np.uint8], n_views: int) -> NDArray[np.float64]:
    """Return the mean of the run's softmax over an image and its shifts by a pixel, in black."""
    model, total = load_run_model(run), np.zeros((len(images), 4))
    for right, down in SHIFTS[:n_views]:
        padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
        view = padded[:, 1 - down : 1 - down + images.shape[1], 1 - right : 1 - right + images.shape[2]]
        with torch.no_grad():
            total += softmax(model(torch.from_numpy(view.copy())[:, None]).double().numpy(), axis=1)
    return total / n_views


def _reads() -> list[tuple[str, int]]:
    if not bundle.READS.exists():
        return []
    entries = [json.loads(line) for line in bundle.READS.read_text(encoding="utf-8").splitlines()]
    assert all(entry["weights_sha256"] and entry["sha256"] and entry["time"] for entry in entries)
    return [(entry["model"], entry["tta_views"]) for entry in entries]


def test_a_reading_has_the_figures_of_the_networks_predictions(
    exported: tuple[bundle.Source, bundle.Outputs], run_folder: RunFolder, dataset: Dataset
) -> None:
    source, outputs = exported
    for n_views in (1, 5):
        reading = source._reading(n_views, outputs, _facts(source), reads_test=True)
        for split, figures in (("val", reading["validation"]), ("test", reading["test"])):
            labels = dataset.split(split).labels
            p = _mean_probabilities(run_folder, np.asarray(dataset.split(split).images), n_views)
            assert figures is not None
            assert figures["accuracy"] == pytest.approx(accuracy_score(labels, p.argmax(1)), abs=1e-9)
            assert figures["macro_f1"] == pytest.approx(f1_score(labels, p.argmax(1), average="macro"), abs=1e-9)
            # Those of validation are of calibrated probabilities, which moves images past each other.
            temperature = source.temperatures[n_views] if split == "val" else 1.0
            auc = roc_auc_score(labels, softmax(np.log(p) / temperature, axis=1), multi_class="ovr")
            assert figures["auc"] == pytest.approx(auc, abs=1e-6)
            assert figures["n"] == len(labels)
            if split == "test":
                assert reading["test_accuracy"] == figures["accuracy"]
    assert _reads() == [(NAME, 1), (NAME, 5)]


def test_outputs_that_were_kept_are_not_read_again(
    exported: tuple[bundle.Source, bundle.Outputs], dataset: Dataset
) -> None:
    source, outputs = exported
    first = [source._read_test(n_views, outputs) for n_views in (1, 5)]

    def fail(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        raise AssertionError("predicted again")

    kept = bundle.Outputs(fail, "float32", dataset)
    again = [source._read_test(n_views, kept) for n_views in (1, 5)]
    assert _reads() == [(NAME, 1), (NAME, 5)]
    assert [test.metrics for test in again] == [test.metrics for test in first]


def test_without_a_reading_of_test_there_is_none_on_the_card(exported: tuple[bundle.Source, bundle.Outputs]) -> None:
    source, outputs = exported
    reading = source._reading(5, outputs, _facts(source), reads_test=False)
    assert reading["test"] is None
    assert reading["test_accuracy"] is None
    assert _reads() == []


def test_in_eight_bits_the_test_figures_are_those_of_float32(exported: tuple[bundle.Source, bundle.Outputs]) -> None:
    source, outputs = exported
    float32 = source._reading(1, outputs, _facts(source), reads_test=True)
    facts: ExportFacts = {**_facts(source), "precision": "int8"}
    int8_outputs = bundle.Outputs(outputs.forward_fn, "int8", outputs.dataset)
    int8 = source._reading(1, int8_outputs, facts, reads_test=True)
    assert int8["test"] == float32["test"]
    assert not list(int8_outputs.folder.glob("test-*"))
    assert _reads() == [(NAME, 1)]


def test_a_reading_that_breaks_off_has_its_entry_and_goes_on_under_it(
    exported: tuple[bundle.Source, bundle.Outputs], dataset: Dataset
) -> None:
    source, outputs = exported
    n_calls = 0

    def fail_at_the_third_view(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:
            raise MemoryError
        return outputs.forward_fn(images)

    breaking_off = bundle.Outputs(fail_at_the_third_view, "float32", dataset)
    with pytest.raises(MemoryError):
        source._read_test(5, breaking_off)
    assert _reads() == [(NAME, 5)]
    source._read_test(5, breaking_off)
    assert n_calls == 6
    assert _reads() == [(NAME, 5)]


@pytest.mark.slow
@pytest.mark.parametrize("scope", [bundle.Scope(tta=False), bundle.Scope(tta_test=False)])
def test_the_scope_says_what_is_read_on_test(
    scope: bundle.Scope, exported: tuple[bundle.Source, bundle.Outputs]
) -> None:
    source, outputs = exported
    card = source.build_card(outputs, _facts(source), scope)
    assert _reads() == [(NAME, 1)]
    assert ("tta" in card) == scope.tta
    if tta := card.get("tta"):
        assert tta["test"] is None


def test_another_network_and_other_data_are_refused(
    scratch: Path, run_folder: RunFolder, dataset: Dataset, tiny_dataset: Dataset
) -> None:
    with pytest.raises(SystemExit):
        bundle.Source("nephros-fast", dataset, run_folder)
    with pytest.raises(SystemExit):
        bundle.Source(NAME, tiny_dataset, run_folder)
    assert not list(scratch.glob("bundled/*"))


def test_a_temperature_divides_the_logits_and_nothing_else() -> None:
    def tensor(name: str, width: int) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", width])

    nodes = [
        onnx.helper.make_node("Neg", ["cells"], ["logits"]),
        onnx.helper.make_node("Relu", ["logits"], ["features"]),
        onnx.helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    outputs = [tensor("probabilities", 4), tensor("features", 4)]
    graph = onnx.helper.make_graph(nodes, "small", [tensor("cells", 4)], outputs)
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    logits = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    session = create_session(bundle.with_temperature(model, 1.7), 1, ["CPUExecutionProvider"])
    probabilities, features = session.run(["probabilities", "features"], {"cells": -logits})
    np.testing.assert_allclose(probabilities, softmax(logits / 1.7, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(features, np.maximum(logits, 0))


@pytest.mark.slow
def test_a_model_that_is_exported_again_keeps_its_network_and_figures(
    scratch: Path, run_folder: RunFolder, dataset: Dataset
) -> None:
    bundle.bundle(NAME, dataset, run_folder, bundle.Scope(tta=False))
    folder = bundled.BUNDLED_MODELS_DIR / NAME
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    card = json.loads(before["card.json"])
    bundle.bundle(NAME, dataset, None, bundle.Scope())
    after = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert (
        before.keys() == after.keys() >= {"model.onnx", "model-int8.onnx", "model.safetensors", "card.json", "card.md"}
    )
    for name in ("model.onnx", "model-int8.onnx"):
        assert _network(before[name]) == _network(after[name])
    new = json.loads(after["card.json"])
    assert new.pop("tta")["test"]["n"] == len(dataset.test)
    for kept in ("test", "test_accuracy", "validation", "calibration", "conformal", "class_names", "data"):
        assert new[kept] == card[kept]
    assert _reads() == [(NAME, 1), (NAME, 5)]
    logits = _mean_probabilities(run_folder, np.asarray(dataset.val.images), 1)
    expected = softmax(np.log(logits) / card["calibration"]["temperature"], axis=1)
    predicted = onnx_forward_fn(after["model.onnx"])(np.asarray(dataset.val.images))["probabilities"]
    np.testing.assert_allclose(predicted, expected, atol=1e-5)


def _network(model: bytes) -> bytes:
    graph: bytes = onnx.load_from_string(model).graph.SerializeToString(deterministic=True)
    return graph


@pytest.mark.parametrize("name", bundled_names())
def test_figures_of_a_bundled_card_agree_with_one_another(name: str) -> None:
    card = bundled_card(name)
    for reading in (card, card.get("tta")):
        if reading is None:
            continue
        for figures in (reading["validation"], reading["test"]):
            assert figures is not None
            n_right = figures["accuracy"] * figures["n"]
            assert n_right == pytest.approx(round(n_right), abs=1e-6)
            _check_wilson(figures["accuracy_interval"], figures["accuracy"], figures["n"])
        test = reading["test"]
        assert test is not None
        assert reading["test_accuracy"] == test["accuracy"]
        per_class = test["per_class"]
        assert np.mean([row["f1"] for row in per_class]) == pytest.approx(test["macro_f1"])
        assert sum(row["support"] for row in per_class) == test["n"]
        n_right = sum(row["recall"] * row["support"] for row in per_class)
        assert n_right == pytest.approx(test["accuracy"] * test["n"])


def _check_wilson(interval: IntervalInfo, p: float, n: int) -> None:
    z = 1.959963984540054
    center, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert interval["low"] == pytest.approx((center - half) / (1 + z * z / n))
    assert interval["high"] == pytest.approx((center + half) / (1 + z * z / n))


def test_each_reading_of_test_on_a_bundled_card_is_logged_once() -> None:
    with open(Path(bundle.__file__).with_name("bundle-test-reads.jsonl"), encoding="utf-8") as file:
        entries = [json.loads(line) for line in file]
    with_weights = Counter(
        (entry["weights_sha256"], entry["tta_views"]) for entry in entries if "weights_sha256" in entry
    )
    assert max(with_weights.values()) == 1
    for name in bundled_names():
        card = bundled_card(name)
        tta = card.get("tta")
        views = [1, 5] if tta and tta["test"] else [1]
        for n_views in views:
            before_weights_were_logged = [
                entry
                for entry in entries
                if "weights_sha256" not in entry and (entry["model"], entry["tta_views"]) == (name, n_views)
            ]
            assert with_weights[card["network"]["weights_sha256"], n_views] or before_weights_were_logged


@pytest.mark.parametrize(
    ("name", "network"),
    [("nephros-distilled", "third-64"), ("nephros-fast", "second-32"), ("nephros-large", "second-128")],
)
def test_a_bundled_card_agrees_with_the_record_of_its_run(name: str, network: str) -> None:
    folder = Path(bundle.__file__).parent / "frontier-runs" / network
    info, card = RunFolder.open(folder).info(), bundled_card(name)
    assert card["network"]["weights_sha256"] == info.weights_sha256
    assert card["network"]["parameters"] == info.parameters
    assert card["network"]["multiply_adds_per_view"] == info.multiply_adds
    assert len(card["teachers"]) == len(info.teachers)
    assert card["data"]["sha256"] == info.data["sha256"]
    with open(folder / "history.csv", encoding="utf-8", newline="") as file:
        accuracy = float(list(csv.DictReader(file))[-1]["val_accuracy"])
    assert card["validation"]["accuracy"] == pytest.approx(accuracy, abs=5e-4)  # trained and evaluated in bf16
