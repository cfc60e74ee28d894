"""Export bundled models: python -m results.bundle [NAME ...] [NAME=RUN ...]

NAME alone exports the weights that the model holds again. NAME=RUN makes the weights of a finished run the model of that name;
the recipe of this name must have the run's network. Where the card lacks the figures for the image alone, or for test-time
augmentation, they are made from TissueMNIST, and the test split is read once to report them. Each such read is logged in
results/bundle-test-reads.jsonl beforehand; nothing is chosen on it.

Outputs are kept by view under runs/bundle/, so that an export that was interrupted goes on, and ensembles can be computed.
--image-alone leaves out test-time augmentation, and --no-tta-test its reading of test.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from nephros.data.dataset import Dataset
from nephros.data.images.tta_views import DEFAULT_TTA_VIEWS, view_parameters
from nephros.data.load import load_dataset
from nephros.environment import __version__, git_commit
from nephros.evaluation.calibration import apply_temperature, fit_temperature
from nephros.evaluation.metrics import compute_metrics
from nephros.evaluation.scoring import load_run_model
from nephros.exporters.export import write_bundled_model
from nephros.exporters.inference_module import InferenceModule
from nephros.exporters.onnx_export import check_parity, embed_card, to_onnx
from nephros.exporters.packaging import OODReference, fit_ood_detector, fit_reference, normalize_rows
from nephros.exporters.quantization import quantize_int8
from nephros.exporters.safetensors_io import SAFETENSORS_FORMAT, load_safetensors, to_safetensors
from nephros.files import atomic_write, file_digest
from nephros.inference.bundled import bundled_file, bundled_names
from nephros.inference.card_builder import FittedPredictions, StoredTest, make_card, make_reading
from nephros.inference.card_json import card_to_json
from nephros.inference.model_card import CARD_METADATA_KEY, ExportFacts, ModelCard, Reading
from nephros.inference.onnx_session import ForwardFn, onnx_forward_fn
from nephros.inference.precision import loses_little
from nephros.inference.tta import apply_view
from nephros.models.serialization import deserialize
from nephros.presets import RECIPES
from nephros.runs import RunFolder
from results.model_descriptions import DESCRIPTIONS
from results.test_reads import log_test_read

READS = Path(__file__).with_name("bundle-test-reads.jsonl")
OUTPUTS = Path("runs/bundle")
"""Folder of the outputs by ONNX model, split and view."""


@dataclasses.dataclass(frozen=True)
class Scope:
    """What is read: test-time augmentation or the image alone, and whether the former is read on test."""

    tta: bool = True
    tta_test: bool = True


class Outputs:
    """Probabilities and feature distances of a network of one view, uncalibrated, kept in files by split and view."""

    def __init__(self, forward_fn: ForwardFn, model_sha256: str, dataset: Dataset) -> None:
        self.forward_fn, self.dataset = forward_fn, dataset
        self.folder = OUTPUTS / model_sha256[:16]

    @classmethod
    def of_onnx(cls, model: bytes, dataset: Dataset) -> Self:
        """Return those of an ONNX model."""
        return cls(onnx_forward_fn(model), hashlib.sha256(model).hexdigest(), dataset)

    def view(self, split: str, i: int) -> dict[str, NDArray[np.float32]]:
        """Return the outputs for a split, shifted as view `i` of `DEFAULT_TTA_VIEWS`."""
        file = self.folder / f"{split}-{i}.npz"
        if not file.is_file():
            images = apply_view(view_parameters(DEFAULT_TTA_VIEWS)[i], self.dataset.split(split).images)
            outputs = self.forward_fn(images)
            with atomic_write(file) as stream:
                np.savez(stream, probabilities=outputs["probabilities"], feature_distance=outputs["feature_distance"])
        with np.load(file) as stored:
            return dict(stored)

    def has_views(self, split: str, tta_views: int) -> bool:
        """Return whether nothing needs to be predicted for `mean`."""
        return all((self.folder / f"{split}-{i}.npz").is_file() for i in range(tta_views))

    def mean(self, split: str, tta_views: int) -> NDArray[np.float64]:
        """Return (n, classes) probabilities, means over the first 1 or 5 views."""
        views = [normalize_rows(self.view(split, i)["probabilities"]) for i in range(tta_views)]
        mean: NDArray[np.float64] = np.mean(views, axis=0)
        return mean


class Source:
    """What is exported: a network of one view, uncalibrated, and what its card says whatever the precision."""

    def __init__(self, name: str, dataset: Dataset, run: RunFolder | None) -> None:
        self.name, self.dataset, self.run = name, dataset, run
        self.kept: dict[int, Reading] = {}
        if run is None:
            self._read_bundled(bundled_file("model.safetensors", name))
        else:
            self._read_run(run)
        self.temperatures = {views: kept["calibration"]["temperature"] for views, kept in self.kept.items()}
        self.module.tta_views = 1
        self.module.temperature.fill_(1.0)

    def _read_bundled(self, file: Path) -> None:
        self.module, old = load_safetensors(file)
        self._check_data(old["data"]["sha256"])
        self.config, network = deserialize(file, SAFETENSORS_FORMAT).model, old["network"]
        self.kept[network["tta_views"]] = old
        if tta := old.get("tta"):
            self.kept[tta["tta_views"]] = tta
        detector = old["ood_detector"]
        assert detector is not None
        assert detector["structure"] is not None
        self.reference = OODReference(detector["ranges"], detector["structure"])
        self.weights_sha256, self.epoch = network["weights_sha256"], network.get("epoch")
        self.recipe_tta_views = network.get("recipe_tta_views", network["tta_views"])
        self.shape = _shape(old["input"])
        self.old: ModelCard | None = old

    def _read_run(self, run: RunFolder) -> None:
        info, self.config = run.info(), run.recipe().model
        self._check_data(info.data["sha256"])
        if RECIPES[self.name].model != self.config:
            sys.exit(f"{run.root} has another network than the recipe {self.name}: nothing was written.")
        self.module = InferenceModule(load_run_model(run), 1)
        self.reference = fit_reference(self.module, self.dataset)
        self.weights_sha256, self.epoch = file_digest(run.file("weights.safetensors")), info.chosen_epoch
        self.recipe_tta_views = info.tta_views
        self.shape = _shape(info.input_spec)
        self.old = None

    def _check_data(self, sha256: str | None) -> None:
        if self.dataset.provenance.sha256 != sha256:
            sys.exit(
                f"{self.name} was trained on other data than {self.dataset.provenance.title}: nothing was written."
            )

    def base_card(self, outputs: Outputs, facts: ExportFacts) -> ModelCard:
        """Return a card whose readings and detector are still to be made."""
        if self.old is not None:
            old = {key: value for key, value in self.old.items() if key != "tta"}
            old |= {"network": {**self.old["network"], **facts, "recipe_tta_views": self.recipe_tta_views}}
            return cast(ModelCard, {**old, "nephros_version": __version__, "commit": git_commit()})
        assert self.run is not None
        uncalibrated = outputs.mean("val", 1)
        temperature = fit_temperature(uncalibrated, self.dataset.val.labels)
        calibrated = apply_temperature(uncalibrated, temperature)
        fitted = FittedPredictions(temperature, (uncalibrated, self.dataset.val.labels), calibrated)
        card = make_card(self.run.info(), facts, fitted, None, {})
        card["recipe"] = self.name
        blank = outputs.forward_fn(np.zeros((1, *self.shape[1:]), dtype=np.uint8))
        card["interface"] = {
            "inputs": {"cells": ["n", *self.shape]},
            "outputs": {name: ["n", *values.shape[1:]] for name, values in blank.items()},
        }
        return card

    def build_card(self, outputs: Outputs, facts: ExportFacts, scope: Scope) -> ModelCard:
        """Return the card of a network of one view, whose probabilities are not calibrated yet."""
        card = self.base_card(outputs, facts)
        if self.name in DESCRIPTIONS:
            card["description"] = DESCRIPTIONS[self.name]
        card.update(self._reading(1, outputs, facts, reads_test=True))  # type: ignore[typeddict-item]
        if scope.tta:
            tta = self._reading(DEFAULT_TTA_VIEWS, outputs, facts, reads_test=scope.tta_test)
            card["tta"] = {**tta, "tta_views": DEFAULT_TTA_VIEWS}
        distance = outputs.view("val", 0)["feature_distance"]
        val = self.dataset.val.images
        card["ood_detector"] = fit_ood_detector(outputs.forward_fn, self.reference, distance, val)
        return card

    def _reading(self, tta_views: int, outputs: Outputs, facts: ExportFacts, *, reads_test: bool) -> Reading:
        """Return what the card says of some number of views: as it was, where it was made for these weights in float32."""
        kept = self.kept.get(tta_views)
        if kept is not None and facts["precision"] == "float32" and not (reads_test and kept["test"] is None):
            return cast(Reading, {key: value for key, value in kept.items() if key in Reading.__annotations__})
        labels = self.dataset.val.labels
        uncalibrated = outputs.mean("val", tta_views)
        temperature = self.temperatures.setdefault(tta_views, fit_temperature(uncalibrated, labels))
        fitted = FittedPredictions(temperature, (uncalibrated, labels), apply_temperature(uncalibrated, temperature))
        is_float32 = facts["precision"] == "float32"
        test = self._read_test(tta_views, outputs) if reads_test and is_float32 else None
        reading = make_reading(self.dataset.class_names, facts, fitted, test)
        if is_float32:
            self.kept[tta_views] = reading
        elif kept is not None:  # in eight bits test is not read: its figures are those of float32
            reading["test"], reading["test_accuracy"] = kept["test"], kept["test_accuracy"]
        return reading

    def _read_test(self, tta_views: int, outputs: Outputs) -> StoredTest:
        """Log a read of the test split, unless its outputs are there, and return the predictions for it before calibration."""
        if not outputs.has_views("test", tta_views):
            log_test_read(READS, self.name, self.weights_sha256, tta_views, self.dataset)
        probabilities, labels = outputs.mean("test", tta_views), self.dataset.test.labels
        metrics = compute_metrics(probabilities, labels, self.dataset.class_names)
        return StoredTest(dataclasses.replace(metrics, split="test", tta_views=tta_views), probabilities, labels)


def _shape(spec: Mapping[str, Any]) -> tuple[int, int, int]:
    return spec["channels"], spec["height"], spec["width"]


def bundle(name: str, dataset: Dataset, run: RunFolder | None, scope: Scope) -> None:
    """Write the files of one model."""
    source = Source(name, dataset, run)
    uncalibrated = to_onnx(source.module, *source.shape)
    error = check_parity(source.module, uncalibrated, dataset.val.images)
    facts: ExportFacts = {
        "tta_views": 1,
        "precision": "float32",
        "weights_sha256": source.weights_sha256,
        "epoch": source.epoch,
        "onnx_max_abs_error": error,
    }
    card = source.build_card(Outputs.of_onnx(uncalibrated, dataset), facts, scope)
    print(f"{name}: validation {card['validation']['accuracy']:.4f}, test {card['test_accuracy']:.4f}", flush=True)
    int8_model, quantization = quantize_int8(uncalibrated, dataset.train.images)
    int8_facts: ExportFacts = {**facts, "precision": "int8", "quantization": quantization}
    int8_card = source.build_card(Outputs.of_onnx(int8_model, dataset), int8_facts, scope)
    accuracy, int8_accuracy = card["validation"]["accuracy"], int8_card["validation"]["accuracy"]
    quantization["validation_accuracy"] = {
        "float32": accuracy,
        "int8": int8_accuracy,
        "drop": accuracy - int8_accuracy,
    }
    print(f"{name} in eight bits: validation {int8_accuracy:.4f}; {quantization['method']}", flush=True)
    temperature = source.temperatures[1]
    source.module.temperature.fill_(temperature)
    onnx_model, int8_onnx = (
        embed_card(with_temperature(model, temperature), card_to_json(its_card), CARD_METADATA_KEY)
        for model, its_card in ((uncalibrated, card), (int8_model, int8_card))
    )
    weights = to_safetensors(source.module, source.config, card)
    write_bundled_model(name, card, onnx_model, weights, int8_onnx if loses_little(int8_card) else None)


def with_temperature(model: bytes, temperature: float) -> bytes:
    """Return an ONNX model that `to_onnx` wrote with a temperature of 1, which the exporter leaves out, with another one."""
    proto = onnx.load_from_string(model)
    (i,) = (i for i, node in enumerate(proto.graph.node) if "probabilities" in node.output)
    softmax = proto.graph.node[i]
    assert softmax.op_type == "Softmax"
    division = onnx.helper.make_node("Div", [softmax.input[0], "temperature"], ["scaled_logits"], name="node_div")
    softmax.input[0] = "scaled_logits"
    proto.graph.node.insert(i, division)
    values = np.array(temperature, dtype=np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(values, "temperature"))
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def main(argv: list[str]) -> None:
    """Write the models."""
    parser = argparse.ArgumentParser(prog="python -m results.bundle")
    parser.add_argument("models", nargs="*", default=bundled_names(), metavar="NAME[=RUN]")
    parser.add_argument("--image-alone", action="store_true", help="leave out test-time augmentation")
    parser.add_argument("--no-tta-test", action="store_true", help="leave out test-time augmentation on test")
    options = parser.parse_args(argv)
    dataset = load_dataset("tissuemnist")
    for model in options.models:
        name, _, run = model.partition("=")
        scope = Scope(tta=not options.image_alone, tta_test=not options.no_tta_test)
        bundle(name, dataset, RunFolder.open(run) if run else None, scope)


if __name__ == "__main__":
    main(sys.argv[1:])
