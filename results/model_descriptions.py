"""Why there is a bundled model of each name: python -m results.model_descriptions writes it into the models' cards.

The weights and all figures stay as they are; `python -m results.bundle`, which makes the cards, writes the same sentences.
"""

from __future__ import annotations

from nephros.exporters.export import write_bundled_model
from nephros.exporters.onnx_export import embed_card
from nephros.exporters.safetensors_io import SAFETENSORS_FORMAT, load_safetensors, to_safetensors
from nephros.inference.bundled import BUNDLED_MODELS_DIR, bundled_file, bundled_names
from nephros.inference.card_json import card_from_json, card_to_json
from nephros.inference.model_card import CARD_METADATA_KEY
from nephros.inference.onnx_file import read_metadata
from nephros.models.serialization import deserialize

DESCRIPTIONS = {
    "nephros-fast": "The fastest of the bundled models: a quarter of the default's multiply-adds per image, for about one "
    "and a half points of accuracy less.",
    "nephros-distilled": "The default of the bundled models, by accuracy against images per second: the faster one is about one "
    "and a half points less accurate, and the one that is half a point more accurate takes several times as long per image.",
    "nephros-large": "The most accurate of the bundled models, with several times the default's multiply-adds per image: for a "
    "GPU, or where half a point of accuracy is worth the wait.",
}
"""Why there is a model of this name, for its card."""


def describe(name: str) -> None:
    """Write the description of one model into each of its files."""
    file = bundled_file("model.safetensors", name)
    module, card = load_safetensors(file)
    card["description"] = DESCRIPTIONS[name]
    weights = to_safetensors(module, deserialize(file, SAFETENSORS_FORMAT).model, card)
    onnx_models = {path.name: _describe_onnx(path.read_bytes(), name) for path in file.parent.glob("*.onnx")}
    write_bundled_model(name, card, onnx_models.get("model.onnx"), weights, onnx_models.get("model-int8.onnx"))


def _describe_onnx(model: bytes, name: str) -> bytes:
    card = card_from_json(read_metadata(model)[CARD_METADATA_KEY], BUNDLED_MODELS_DIR / name)
    card["description"] = DESCRIPTIONS[name]
    return embed_card(model, card_to_json(card), CARD_METADATA_KEY)


if __name__ == "__main__":
    for model_name in bundled_names():
        describe(model_name)
