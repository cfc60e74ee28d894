"""The model card as a page of Markdown, made from the card's plain values alone."""

from __future__ import annotations

from collections.abc import Sequence

from nephros.data.volumes import n_planes
from nephros.inference.model_card import (
    CARD_METADATA_KEY,
    CalibrationError,
    CalibrationErrors,
    ModelCard,
    Reading,
    training_subset,
)
from nephros.text_tables import format_count, format_number, format_percent, markdown_table

OUTPUT_DESCRIPTIONS = {
    "probabilities": "calibrated, per class",
    "features": "input of the last layer",
    "class_activation_maps": "per class: evidence for it by position",
    "feature_distance": "of the features from the nearest class, for the threshold above",
}


def card_to_markdown(card: ModelCard) -> str:
    """Return a card, as `nephros.inference.card_builder.make_card` makes it, as Markdown.

    Where the model was not scored on test, or has no out-of-distribution detector, the page says so.
    """
    sections = (
        _header,
        _limitations,
        _data,
        _network,
        _metrics,
        _classes,
        _calibration,
        _prediction_sets,
        _ood_detection,
        _tta,
        _interface,
        _license,
    )
    return "\n".join(text for section in sections if (text := section(card)))


def _section(title: str, *blocks: str) -> str:
    return "\n".join([f"## {title}\n", *(block if block.endswith("\n") else f"{block}\n" for block in blocks if block)])


def _key_value_table(lines: Sequence[tuple[str, object]]) -> str:
    return markdown_table(("", ""), [(name, str(value)) for name, value in lines if value not in (None, "")])


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


def _header(card: ModelCard) -> str:
    subset = f", {training_subset(card)}" if training_subset(card) else ""
    description = f"\n{card['description']}\n" if card.get("description") else ""
    return (
        f"# Model card: {card['recipe']}, trained on {card['data']['title']}{subset}\n\n"
        f"A classifier of images of single cells into {len(card['class_names'])} classes, made with nephros "
        f"{card['nephros_version']}. The JSON card beside this page holds the same figures.\n"
        f"{description}"
    )


def _limitations(card: ModelCard) -> str:
    return _section("Limitations", "".join(f"- {line}\n" for line in card["limitations"]))


def _data(card: ModelCard) -> str:
    data, input_spec = card["data"], card["input"]
    white_level = input_spec.get("conversion", {}).get("white_level")
    planes = "slices" if "depth" in input_spec else "channels"
    size = f"{n_planes(input_spec)} x {input_spec['height']} x {input_spec['width']} ({planes}, height, width)"
    lines = [
        ("Data set", data["name"]),
        ("Split", data["split"]),
        ("Note", data["detail"]),
        ("Training images", f"{data['training_images']:,}"),
        ("Input", f"{size}, {input_spec['dtype']}"),
        ("White level of inputs of more than 8 bits", f"{white_level:g}" if white_level else None),
        ("SHA-256 of the data", data["sha256"] and f"`{data['sha256']}`"),
    ]
    return _section("Data", _key_value_table(lines))


def _network(card: ModelCard) -> str:
    network = card["network"]
    max_error, quantization = network.get("onnx_max_abs_error"), network.get("quantization")
    teachers = (f"{teacher['recipe']} (weights `{teacher['weights_sha256'][:16]}`)" for teacher in card["teachers"])
    version, init = card["nephros_version"], card.get("init")
    lines = [
        ("Recipe", f"`{card['recipe']}`, hash `{card['recipe_hash']}`"),
        ("Distilled from", ", ".join(teachers)),
        (
            "Started from",
            init and f"{init['recipe'] or 'weights'} (`{init['sha256'][:16]}`), last layer {init['head']}",
        ),
        ("Parameters", f"{network['parameters']:,}"),
        ("Multiply-adds per view", f"{network['multiply_adds_per_view']:,}"),
        ("Views of each image", network["tta_views"]),
        ("Precision", network["precision"]),
        ("Epoch of the weights", network.get("epoch")),
        ("SHA-256 of the weights", f"`{network['weights_sha256']}`"),
        ("Largest difference between ONNX Runtime and torch", None if max_error is None else f"{max_error:.1e}"),
        ("Quantization", quantization and quantization["method"]),
        (
            "Accuracy drop from quantization",
            quantization and f"{quantization['validation_accuracy']['drop']:.4f} on validation",
        ),
        ("nephros", f"{version}, commit `{card['commit']}`" if card["commit"] else version),
    ]
    return _section("Recipe and network", _key_value_table(lines))


def _metrics(card: ModelCard) -> str:
    setup = f"Test metrics are of {card['test']['setup']}" if card["test"] else "The model was not scored on test"
    if training_subset(card):
        setup += f", trained on a {training_subset(card)}"
    text = f"{setup}. {_validation_note(card)} Interval: {_interval_method(card)}. Loss: mean cross-entropy per image, in nats."
    return _section("Metrics", text, _metrics_table(card))


def _validation_note(card: ModelCard) -> str:
    """Return what was chosen on validation and, of a fine-tuned model, in cross-validation."""
    if not card.get("cross_validation"):
        return "Validation guides training and the choice of recipe, so its metrics are optimistic."
    own_views = card["network"]["tta_views"]
    views = card["network"].get("recipe_tta_views", own_views)
    with_views = f", over {views} views" if views != own_views else ""
    return (
        f"Cross-validation is of the training images, each predicted by a model that did not see it{with_views}; it chose the "
        "method of fine-tuning. Nothing was chosen on validation. The temperature was fitted to both."
    )


def _interval_method(card: ModelCard) -> str:
    method, folds = card["validation"]["accuracy_interval"]["method"].replace(" %", "%"), card.get("cross_validation")
    other = folds["accuracy_interval"]["method"].replace(" %", "%") if folds else method
    return method if other == method else f"{method}; of cross-validation: {other}"


def _metrics_table(reading: Reading) -> str:
    rows = []
    for split, metrics in (
        ("test", reading["test"]),
        ("cross-validation", reading.get("cross_validation")),
        ("validation", reading["validation"]),
    ):
        if metrics is None:
            continue
        interval = metrics["accuracy_interval"]
        interval_text = f"{interval['low']:.4f} to {interval['high']:.4f}"
        numbers = [
            format_number(metrics[key]) for key in ("auc", "macro_f1", "macro_recall", "macro_precision", "loss")
        ]
        rows.append([split, format_count(metrics["n"]), format_number(metrics["accuracy"]), interval_text, *numbers])
    headers = ("AUC", "macro F1", "macro recall", "macro precision", "loss")
    return markdown_table(("split", "cells", "accuracy", "95% interval", *headers), rows)


def _classes(card: ModelCard) -> str:
    if card["test"] is None:
        lines = "".join(f"- {number}: {name}\n" for number, name in enumerate(card["class_names"]))
        return _section("Classes", lines)
    headers = ("class", "name", "precision", "recall", "F1", "AUC", "test cells", "coverage of prediction sets, %")
    sets = card["conformal"]["test"]
    rows = []
    for row in card["test"]["per_class"]:
        numbers = [format_number(row[key], 3) for key in ("precision", "recall", "f1", "auc")]
        coverage = sets["coverage_per_class"][row["class"]] if sets else None
        rows.append([str(row["class"]), row["name"], *numbers, format_count(row["support"]), format_percent(coverage)])
    return _section("Metrics per class, on test", markdown_table(headers, rows))


def _calibration(card: ModelCard) -> str:
    calibration = card["calibration"]
    error = calibration["expected_calibration_error"]
    rows = [
        [split, format_number(values["before"]), format_number(values["after"])]
        for split, values in (("test", error["test"]), fitted_calibration_error(error))
        if values is not None
    ]
    text = (
        f"{_capitalize(calibration['method'])}: {calibration['temperature']:.4f}. "
        f"Expected calibration error ({error['n_bins']} bins: {error['formula']}), 0 at best:"
    )
    missing = "" if error["test"] else "It was not measured on test for this model."
    return _section("Calibration", text, markdown_table(("split", "before", "after"), rows), missing)


def fitted_calibration_error(error: CalibrationErrors) -> tuple[str, CalibrationError]:
    """Return what the temperature was fitted to, and the calibration error there."""
    pooled = error.get("pooled")
    return ("cross-validation and validation", pooled) if pooled else ("validation", error["validation"])


def _prediction_sets(card: ModelCard) -> str:
    conformal, sets = card["conformal"], card["conformal"]["test"]
    n_calibration = conformal["n_calibration_images"]
    text = f"{_capitalize(conformal['method'])}. Fitted on {n_calibration:,} cells, for any coverage."
    if sets is None:
        return _section("Prediction sets", text, "Their coverage was not measured on test for this model.")
    target, coverage = format_percent(sets["target_coverage"], 0), format_percent(sets["coverage"])
    coverage_text = (
        f"On {sets['n_images']:,} test cells, sets for {target}% contained the true class of {coverage}% and had "
        f"{sets['mean_set_size']:.2f} classes on average. The coverage holds over all cells together; the table above shows it "
        "for each class."
    )
    return _section("Prediction sets", text, coverage_text)


def _ood_detection(card: ModelCard) -> str:
    title, ood_detector = "Out-of-distribution detection", card["ood_detector"]
    if ood_detector is None:
        return _section(title, "None: the training cells were not available to fit it.")
    low, high = ood_detector["range_percentiles"]
    rows = [
        [name, entry["description"], f"{entry['low']:.4g} to {entry['high']:.4g}"]
        for name, entry in ood_detector["ranges"].items()
    ]
    structure, distance = ood_detector["structure"], ood_detector["feature_distance"]
    if structure is not None:
        rows.append(["structure", structure["description"], f"up to {structure['threshold']:.4g}"])
    if distance is not None:
        rows.append(["feature distance", distance["description"], f"up to {distance['threshold']:.4g}"])
    percentile = f" {structure['percentile']:g}" if structure is not None else ""
    text = (
        f"An image outside one of these ranges is flagged (`is_ood`). They are percentiles {low:g} to {high:g} of the "
        f"training cells; for structure and feature distance, percentiles{percentile} and {high:g} of the validation cells:"
    )
    flagged_rows = [[kind.replace("_", " "), format_percent(f)] for kind, f in ood_detector["flagged_fraction"].items()]
    return _section(
        title,
        text,
        markdown_table(("statistic", "definition", "range"), rows),
        "Fraction flagged among validation cells, and among synthetic images without a cell:",
        markdown_table(("images", "flagged, %"), flagged_rows),
    )


def _tta(card: ModelCard) -> str:
    reading = card.get("tta")
    if not reading:
        return ""
    calibration, sets = reading["calibration"], reading["conformal"]["test"]
    error = calibration["expected_calibration_error"]
    where, fitted_error = fitted_calibration_error(error)
    rows = [
        ["temperature", f"{calibration['temperature']:.4f}"],
        [f"expected calibration error on {where}", format_number(fitted_error["after"])],
    ]
    if error["test"]:
        rows.append(["expected calibration error on test", format_number(error["test"]["after"])])
    if sets:
        target = format_percent(sets["target_coverage"], 0)
        rows.append([f"coverage of prediction sets for {target}%, on test, %", format_percent(sets["coverage"])])
        rows.append(["their classes on average", f"{sets['mean_set_size']:.2f}"])
    text = (
        f"With `tta=True`, predictions are means over {reading['tta_views']} views of each image, the "
        "image itself first. These predictions have a calibration of their own; whether an image is out of distribution does not "
        "depend on it:"
    )
    return _section("With test-time augmentation", text, _metrics_table(reading), markdown_table(("", ""), rows))


def _interface(card: ModelCard) -> str:
    interface = card.get("interface")  # a card made without its data has none
    if interface is None:
        return ""
    lines = [
        [f"`{name}`", dtype, " x ".join(map(str, shape)), OUTPUT_DESCRIPTIONS.get(name, "stored pixels, unchanged")]
        for direction, dtype in (("inputs", "uint8"), ("outputs", "float32"))
        for name, shape in interface[direction].items()
    ]
    return _section(
        "Interface",
        markdown_table(("name in the ONNX graph", "type", "shape", "meaning"), lines),
        "Prediction sets and out-of-distribution flags are not part of the graph: their thresholds are in the card "
        "(`conformal`, `ood_detector`), and `nephros predict` applies them. The file's metadata hold the card too, under the "
        f"key `{CARD_METADATA_KEY}`.",
    )


def _license(card: ModelCard) -> str:
    license_info = card["license"]
    lines = [
        ("Model", license_info["model"]),
        ("Data", license_info["data"]),
        ("Attribution of the data", license_info["attribution"]),
    ]
    unknown_note = "" if license_info["data"] else "The license of the data is unknown: ask its source."
    return _section("License and attribution", _key_value_table(lines), unknown_note)
