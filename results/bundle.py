"""Export bundled models again from the weights that they hold: python -m results.bundle [NAME ...]

The weights stay what they are. Where the card lacks the figures for the image alone, or for test-time augmentation, they are made
from TissueMNIST, and the test split is read once to report them. Each such read is logged in results/bundle-test-reads.jsonl
beforehand; nothing is chosen on it.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import numpy as np
import torch

from nephros.data.dataset import Dataset
from nephros.data.images.tta_views import DEFAULT_TTA_VIEWS
from nephros.data.load import load_dataset
from nephros.data.subset import subset_train
from nephros.environment import __version__, git_commit
from nephros.evaluation.calibration import apply_temperature, fit_temperature
from nephros.evaluation.metrics import compute_metrics
from nephros.exporters.export import write_bundled_model
from nephros.exporters.inference_module import InferenceModule, fit_feature_distance
from nephros.exporters.onnx_export import check_parity, embed_card, to_onnx
from nephros.exporters.packaging import (
    MAX_DISTANCE_IMAGES,
    OODReference,
    fit_ood_detector,
    normalize_rows,
    run_module,
)
from nephros.exporters.quantization import quantize_int8
from nephros.exporters.safetensors_io import SAFETENSORS_FORMAT, load_safetensors, to_safetensors
from nephros.inference.bundled import bundled_file, bundled_names
from nephros.inference.card_builder import FittedPredictions, StoredTest, make_reading
from nephros.inference.card_json import card_to_json
from nephros.inference.model_card import CARD_METADATA_KEY, ExportFacts, ModelCard, Reading
from nephros.inference.onnx_session import ForwardFn, onnx_forward_fn
from nephros.inference.precision import loses_little
from nephros.inference.tta import tta_forward_fn
from nephros.models.serialization import deserialize

READS = Path(__file__).with_name("bundle-test-reads.jsonl")


class Rebundling:
    """One bundled model: its network of one view, and the readings of its card by number of views."""

    def __init__(self, name: str, dataset: Dataset) -> None:
        self.name, self.dataset = name, dataset
        self.module, self.old = load_safetensors(bundled_file("model.safetensors", name))
        if dataset.provenance.sha256 != self.old["data"]["sha256"]:
            sys.exit(f"{name} was trained on other data than {dataset.provenance.title}: nothing was written.")
        network = self.old["network"]
        self.recipe_tta_views = network.get("recipe_tta_views", network["tta_views"])
        self.tta_views = self.recipe_tta_views if self.recipe_tta_views > 1 else DEFAULT_TTA_VIEWS
        self.kept: dict[int, Reading] = {network["tta_views"]: self.old}
        if tta := self.old.get("tta"):
            self.kept[tta["tta_views"]] = tta
        detector = self.old["ood_detector"]
        assert detector is not None
        assert detector["structure"] is not None
        self.ood_reference = OODReference(detector["ranges"], detector["structure"])
        self.module.tta_views = 1
        self.temperatures = {views: kept["calibration"]["temperature"] for views, kept in self.kept.items()}
        if 1 not in self.kept:
            self._fit_one_view(self.module)

    def _fit_one_view(self, module: InferenceModule) -> None:
        """Fit temperature and feature distance as `nephros.export` does."""
        module.temperature.fill_(1.0)
        probabilities = normalize_rows(run_module(module, self.dataset.val.images)["probabilities"])
        self.temperatures[1] = fit_temperature(probabilities, self.dataset.val.labels)
        module.temperature.fill_(self.temperatures[1])
        split = subset_train(self.dataset, MAX_DISTANCE_IMAGES, 0).train
        features = torch.from_numpy(run_module(module, split.images)["features"])
        labels = torch.from_numpy(np.array(split.labels))
        module.set_distance_parameters(fit_feature_distance(features, labels, self.dataset.n_classes))

    def build_card(self, forward_fn: ForwardFn, facts: ExportFacts) -> ModelCard:
        """Return the card of a network of one view that was made from the module."""
        old = {key: value for key, value in self.old.items() if key != "tta"}
        old |= {"network": {**self.old["network"], **facts, "recipe_tta_views": self.recipe_tta_views}}
        card = cast(ModelCard, {**old, "nephros_version": __version__, "commit": git_commit()})
        card.update(self._reading(1, forward_fn, facts))  # type: ignore[typeddict-item]
        card["tta"] = {**self._reading(self.tta_views, forward_fn, facts), "tta_views": self.tta_views}
        return card

    def _reading(self, tta_views: int, forward_fn: ForwardFn, facts: ExportFacts) -> Reading:
        """Return what the card says of some number of views: as it was, where it was made for these weights in float32."""
        if tta_views > 1:
            temperature = self.temperatures.get(tta_views, 1.0)
            forward_fn = tta_forward_fn(forward_fn, tta_views, self.temperatures[1], temperature)
        val = self.dataset.val
        outputs = forward_fn(val.images)
        probabilities = normalize_rows(outputs["probabilities"])
        if tta_views not in self.temperatures:
            self.temperatures[tta_views] = fit_temperature(probabilities, val.labels)
            uncalibrated, probabilities = probabilities, apply_temperature(probabilities, self.temperatures[tta_views])
        else:
            uncalibrated = apply_temperature(probabilities, 1 / self.temperatures[tta_views])
        detector = fit_ood_detector(forward_fn, self.ood_reference, outputs["feature_distance"], val.images)
        kept = self.kept.get(tta_views)
        if kept is not None and facts["precision"] == "float32":
            return cast(Reading, {**{key: kept[key] for key in Reading.__annotations__}, "ood_detector": detector})  # type: ignore[literal-required]
        fitted = FittedPredictions(self.temperatures[tta_views], (uncalibrated, val.labels), probabilities, detector)
        test = None if kept is not None else self._read_test(tta_views, forward_fn)
        reading = make_reading(self.dataset.class_names, facts, fitted, test)
        if kept is not None:  # in eight bits test is not read: its figures are those of float32
            reading["test"], reading["test_accuracy"] = kept["test"], kept["test_accuracy"]
        self.kept.setdefault(tta_views, reading)
        return reading

    def _read_test(self, tta_views: int, forward_fn: ForwardFn) -> StoredTest:
        """Log a read of the test split, and return the predictions for it before calibration."""
        data = self.dataset.provenance
        entry = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": git_commit(),
            "model": self.name,
            "tta_views": tta_views,
            "data": data.title,
            "sha256": data.sha256,
        }
        with open(READS, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        test = self.dataset.test
        probabilities = normalize_rows(forward_fn(test.images)["probabilities"])
        if tta_views == 1:  # several views are read before their temperature is known
            probabilities = apply_temperature(probabilities, 1 / self.temperatures[1])
        metrics = compute_metrics(probabilities, test.labels, self.dataset.class_names)
        return StoredTest(dataclasses.replace(metrics, split="test", tta_views=tta_views), probabilities, test.labels)


def rebundle(name: str, dataset: Dataset) -> None:
    """Write the files of one model again."""
    work = Rebundling(name, dataset)
    cells = work.old["input"]
    onnx_model = to_onnx(work.module, cells["channels"], cells["height"], cells["width"])
    error = check_parity(work.module, onnx_model, dataset.val.images)
    old_facts = work.old["network"]
    facts: ExportFacts = {"tta_views": 1, "precision": "float32", "weights_sha256": old_facts["weights_sha256"]}
    facts |= {"epoch": old_facts.get("epoch"), "onnx_max_abs_error": error}
    card = work.build_card(onnx_forward_fn(onnx_model), facts)
    print(f"{name}: validation {card['validation']['accuracy']:.4f}, test {card['test_accuracy']:.4f}")
    int8_model, quantization = quantize_int8(onnx_model, dataset.train.images)
    int8_facts: ExportFacts = {**facts, "precision": "int8", "quantization": quantization}
    int8_card = work.build_card(onnx_forward_fn(int8_model), int8_facts)
    accuracy, int8_accuracy = card["validation"]["accuracy"], int8_card["validation"]["accuracy"]
    drop = accuracy - int8_accuracy
    quantization["validation_accuracy"] = {"float32": accuracy, "int8": int8_accuracy, "drop": drop}
    print(f"{name} in eight bits: validation {int8_accuracy:.4f}; {quantization['method']}")
    write_bundled_model(
        name,
        card,
        embed_card(onnx_model, card_to_json(card), CARD_METADATA_KEY),
        to_safetensors(
            work.module, deserialize(bundled_file("model.safetensors", name), SAFETENSORS_FORMAT).model, card
        ),
        embed_card(int8_model, card_to_json(copy.deepcopy(int8_card)), CARD_METADATA_KEY)
        if loses_little(int8_card)
        else None,
    )


def main(names: list[str]) -> None:
    """Write the models again."""
    dataset = load_dataset("tissuemnist")
    for name in names or bundled_names():
        rebundle(name, dataset)


if __name__ == "__main__":
    main(sys.argv[1:])
