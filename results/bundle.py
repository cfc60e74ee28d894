"""Export bundled models again from the weights that they hold: python -m results.bundle [NAME ...]

The weights stay what they are. Where the card lacks the figures for the image alone, or for test-time augmentation, they are made
from TissueMNIST, and the test split is read once to report them. Each such read is logged in results/bundle-test-reads.jsonl
beforehand; nothing is chosen on it.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import numpy as np
import onnx
from numpy.typing import NDArray

from nephros.data.dataset import Dataset
from nephros.data.images.tta_views import DEFAULT_TTA_VIEWS
from nephros.data.load import load_dataset
from nephros.environment import __version__, git_commit
from nephros.evaluation.calibration import apply_temperature, fit_temperature
from nephros.evaluation.metrics import compute_metrics
from nephros.exporters.export import write_bundled_model
from nephros.exporters.onnx_export import check_parity, embed_card, to_onnx
from nephros.exporters.packaging import OODReference, fit_ood_detector, normalize_rows
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
    """One bundled model: its network of one view, uncalibrated, and the readings of its card by number of views."""

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
        self.temperatures = {views: kept["calibration"]["temperature"] for views, kept in self.kept.items()}
        self.module.tta_views = 1
        self.module.temperature.fill_(1.0)

    def build_card(self, forward_fn: ForwardFn, facts: ExportFacts) -> ModelCard:
        """Return the card of a network of one view, whose probabilities are not calibrated yet."""
        old = {key: value for key, value in self.old.items() if key != "tta"}
        old |= {"network": {**self.old["network"], **facts, "recipe_tta_views": self.recipe_tta_views}}
        card = cast(ModelCard, {**old, "nephros_version": __version__, "commit": git_commit()})
        card.update(self._reading(1, forward_fn, facts))  # type: ignore[typeddict-item]
        card["tta"] = {**self._reading(self.tta_views, forward_fn, facts), "tta_views": self.tta_views}
        detector, val = self.old["ood_detector"], self.dataset.val.images
        assert detector is not None
        assert detector["structure"] is not None
        reference = OODReference(detector["ranges"], detector["structure"])
        card["ood_detector"] = fit_ood_detector(forward_fn, reference, forward_fn(val)["feature_distance"], val)
        return card

    def _reading(self, tta_views: int, forward_fn: ForwardFn, facts: ExportFacts) -> Reading:
        """Return what the card says of some number of views: as it was, where it was made for these weights in float32."""
        kept = self.kept.get(tta_views)
        if kept is not None and facts["precision"] == "float32":
            return cast(Reading, {key: value for key, value in kept.items() if key in Reading.__annotations__})
        labels = self.dataset.val.labels
        uncalibrated = _probabilities(forward_fn, tta_views, self.dataset.val.images)
        if tta_views not in self.temperatures:
            self.temperatures[tta_views] = fit_temperature(uncalibrated, labels)
        temperature = self.temperatures[tta_views]
        fitted = FittedPredictions(temperature, (uncalibrated, labels), apply_temperature(uncalibrated, temperature))
        test = None if kept is not None else self._read_test(tta_views, forward_fn)
        reading = make_reading(self.dataset.class_names, facts, fitted, test)
        if kept is not None:  # in eight bits test is not read: its figures are those of float32
            reading["test"], reading["test_accuracy"] = kept["test"], kept["test_accuracy"]
        self.kept.setdefault(tta_views, reading)
        return reading

    def _read_test(self, tta_views: int, forward_fn: ForwardFn) -> StoredTest:
        """Log a read of the test split, and return the predictions for it before calibration."""
        data, test = self.dataset.provenance, self.dataset.test
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
        probabilities = _probabilities(forward_fn, tta_views, test.images)
        metrics = compute_metrics(probabilities, test.labels, self.dataset.class_names)
        return StoredTest(dataclasses.replace(metrics, split="test", tta_views=tta_views), probabilities, test.labels)


def _probabilities(forward_fn: ForwardFn, tta_views: int, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return uncalibrated probabilities, means over the views."""
    return normalize_rows(tta_forward_fn(forward_fn, tta_views, 1.0, 1.0)(images)["probabilities"])


def rebundle(name: str, dataset: Dataset) -> None:
    """Write the files of one model again."""
    work = Rebundling(name, dataset)
    cells, old_facts = work.old["input"], work.old["network"]
    shape = (cells["channels"], cells["height"], cells["width"])
    uncalibrated = to_onnx(work.module, *shape)
    error = check_parity(work.module, uncalibrated, dataset.val.images)
    facts: ExportFacts = {
        "tta_views": 1,
        "precision": "float32",
        "weights_sha256": old_facts["weights_sha256"],
        "epoch": old_facts.get("epoch"),
        "onnx_max_abs_error": error,
    }
    card = work.build_card(onnx_forward_fn(uncalibrated), facts)
    print(f"{name}: validation {card['validation']['accuracy']:.4f}, test {card['test_accuracy']:.4f}", flush=True)
    int8_model, quantization = quantize_int8(uncalibrated, dataset.train.images)
    int8_facts: ExportFacts = {**facts, "precision": "int8", "quantization": quantization}
    int8_card = work.build_card(onnx_forward_fn(int8_model), int8_facts)
    accuracy, int8_accuracy = card["validation"]["accuracy"], int8_card["validation"]["accuracy"]
    quantization["validation_accuracy"] = {
        "float32": accuracy,
        "int8": int8_accuracy,
        "drop": accuracy - int8_accuracy,
    }
    print(f"{name} in eight bits: validation {int8_accuracy:.4f}; {quantization['method']}", flush=True)
    work.module.temperature.fill_(work.temperatures[1])
    config = deserialize(bundled_file("model.safetensors", name), SAFETENSORS_FORMAT).model
    onnx_model, int8_onnx = (
        embed_card(with_temperature(model, work.temperatures[1]), card_to_json(its_card), CARD_METADATA_KEY)
        for model, its_card in ((uncalibrated, card), (int8_model, int8_card))
    )
    weights = to_safetensors(work.module, config, card)
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


def main(names: list[str]) -> None:
    """Write the models again."""
    dataset = load_dataset("tissuemnist")
    for name in names or bundled_names():
        rebundle(name, dataset)


if __name__ == "__main__":
    main(sys.argv[1:])
