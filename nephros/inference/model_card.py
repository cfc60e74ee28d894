"""The model card: what an exported model is, what it can be trusted with, and what it was measured at; plain JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from nephros.data.medmnist import CATALOGUE
from nephros.environment import __version__, commit
from nephros.errors import UserError
from nephros.evaluation.conformal import measured, thresholds
from nephros.evaluation.metrics import (
    CALIBRATION_BINS,
    Floats,
    Labels,
    calibration,
    expected_calibration_error,
    summarise,
)
from nephros.evaluation.temperature import scaled
from nephros.runs import RunInfo

FORMAT = "nephros-card-1"
Format = Literal["onnx", "safetensors"]
"""In which a model can be exported."""
KEY = "nephros_card"
"""Under which a card lies in a file's metadata."""
COVERAGE = 0.9
"""At which the card says how large prediction sets are."""
ECE = "sum over bins of (images in bin / all) x |accuracy - mean top probability|, equal-width bins of the top probability"
LIMITS = [
    "For research only, not for diagnosis or any decision about a patient.",
    "Learnt from cells of one laboratory's specimens, stain and microscope: other tissue, stains or microscopes change what the "
    "figures here say, and `unfamiliar` finds only some of what differs.",
    "A picture must show one nucleus, cut out and scaled as the training cells were.",
    "Prediction sets hold the right class as often as was asked over all cells alike, not within each class.",
]
CITATIONS = {
    "tissuemnist": "TissueMNIST: Yang, J. et al., MedMNIST v2, Scientific Data 10, 41 (2023); made from BBBC051, Woloshuk, A. "
    "et al., Cytometry Part A 99(7), 707-721 (2021), Broad Bioimage Benchmark Collection (Ljosa et al., "
    "Nature Methods 9, 637, 2012)."
}
_METRICS = (
    "n",
    "accuracy",
    "accuracy_interval",
    "loss",
    "auc",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "per_class",
)


def make_card(
    info: RunInfo,
    network: Mapping[str, Any],
    temperature: float,
    raw: tuple[Floats, Labels],
    answers: Floats,
    unfamiliarity: dict[str, Any] | None,
    test: tuple[dict[str, Any], Floats, Labels] | None,
) -> dict[str, Any]:
    """Return the card of a run's model.

    Args:
        info: of the run.
        network: views, precision and the like, of the exported model.
        temperature: fitted on validation.
        raw: validation probabilities (n, classes) before that temperature, and labels (n,).
        answers: (n, classes) validation probabilities as the exported model gives them.
        unfamiliarity: what `fit_unfamiliarity` returned; None where the data was not at hand.
        test: metrics, probabilities before the temperature and labels that the run stored; None where it was not scored.
    """
    names = tuple(info.class_names)
    table = thresholds(answers, raw[1])
    # Then the stored answers are the model's own.
    as_stored = network["views"] == info.views and network["precision"] == "float32"
    seen = "one view" if info.views == 1 else f"{info.views} views"
    on_test = None if test is None or not as_stored else (test[1], scaled(test[1], temperature), test[2])
    entry = CATALOGUE.get(info.data["key"] or "")
    return {
        "format": FORMAT,
        "nephros": __version__,
        "commit": commit(),
        "recipe": info.recipe,
        "recipe_hash": info.recipe_hash,
        "teachers": [{key: one[key] for key in ("recipe", "recipe_hash", "weights_sha256")} for one in info.teachers],
        "network": {"parameters": info.parameters, "multiply_adds_a_view": info.multiply_adds, **network},
        "data": {key: info.data[key] for key in ("title", "name", "split", "key", "sha256", "detail")}
        | {"training_images": sum(info.class_counts["train"])},
        "class_names": list(names),
        "input": {"dtype": "uint8", **{key: info.shape[key] for key in ("channels", "height", "width")}},
        "test_accuracy": test[0]["accuracy"] if test else None,
        "test": {"of": f"the float32 weights, {seen} of each image"} | {key: test[0][key] for key in _METRICS}
        if test
        else None,
        "validation": _only(summarise(answers, raw[1], names)),
        "calibration": {
            "method": "temperature: softmax(logits / temperature), of least mean cross-entropy on validation",
            "temperature": temperature,
            "expected_calibration_error": {
                "formula": ECE,
                "bins": CALIBRATION_BINS,
                "validation": _errors(raw[0], answers, raw[1]),
                "test": None if on_test is None else _errors(*on_test),
            },
        },
        "conformal": {
            "method": "split conformal on validation; score 1 - probability (least ambiguous set-valued classifier); the most "
            "probable class is always in the set",
            "quantiles": [math.ceil(q * 1e7) / 1e7 for q in table.tolist()],
            "images": len(answers),
            "measured_on_test": None if on_test is None else measured(*on_test[1:], table, COVERAGE),
        },
        "unfamiliarity": unfamiliarity,
        "licence": {
            "model": "Apache-2.0",
            "data": entry.licence if entry else None,
            "attribution": CITATIONS.get(entry.key, f"{entry.name}, MedMNIST v2.") if entry else None,
        },
        "limits": LIMITS,
    }


def _only(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: metrics[key] for key in _METRICS if key != "per_class"}


def _errors(before: Floats, after: Floats, labels: Labels) -> dict[str, float]:
    words = {"before": before, "after": after}
    return {word: expected_calibration_error(calibration(p, labels)) for word, p in words.items()}


def to_text(card: dict[str, Any]) -> str:
    """Return the card as indented JSON, its long list of quantiles on one line."""
    quantiles = card["conformal"]["quantiles"]
    short = card | {"conformal": card["conformal"] | {"quantiles": "@"}}
    return json.dumps(short, indent=2, ensure_ascii=False).replace('"@"', json.dumps(quantiles)) + "\n"


def from_text(text: str | None, where: str) -> dict[str, Any]:
    """Return the card in `text`; UserError, naming `where` it lies, when it is missing, damaged or of another format."""
    again = f"{where} has no card that this version of nephros reads: export the model again with `nephros export`."
    try:
        card = dict(json.loads(text or ""))
        shape = card["input"]
        known = (
            card["format"] == FORMAT and len(card["conformal"]["quantiles"]) == 1001 and len(card["class_names"]) > 1
        )
        known = known and all(isinstance(shape[key], int) and shape[key] > 0 for key in ("channels", "height", "width"))
        known = known and "unfamiliarity" in card and "measured_on_test" in card["conformal"]
    except (ValueError, TypeError, KeyError):
        raise UserError(again) from None
    if not known:
        raise UserError(again)
    return card
