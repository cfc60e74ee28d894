"""What the server tells of a model, from its card."""

from __future__ import annotations

from nephros.data.images.input_conversion import InputConversion
from nephros.inference.model_card import ModelCard, training_subset
from nephros.server.schemas import CrossValidation, InputFormat, ModelInfo


def model_info(card: ModelCard) -> ModelInfo:
    """Return the description of a model."""
    folds = card.get("cross_validation")
    return ModelInfo(
        recipe=card["recipe"],
        training_data=card["data"]["title"],
        training_subset=training_subset(card),
        test_accuracy=card["test_accuracy"],
        test_setup=card["test"]["setup"] if card["test"] else None,
        cross_validation=CrossValidation(n=folds["n"], accuracy=folds["accuracy"]) if folds else None,
        weights_sha256=card["network"]["weights_sha256"],
        precision=card["network"]["precision"],
        tta_views=card["network"]["tta_views"],
        detects_ood=card["ood_detector"] is not None,
        input=InputFormat(
            dtype=card["input"]["dtype"],
            channels=card["input"]["channels"],
            height=card["input"]["height"],
            width=card["input"]["width"],
            white_level=InputConversion.from_dict(card["input"].get("conversion", {})).white_level,
        ),
        limitations=card["limitations"],
    )
