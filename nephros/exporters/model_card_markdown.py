"""The model card for people: Markdown, made from the card's plain values alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nephros.inference.model_card import CARD_METADATA_KEY
from nephros.inference.ood.structure import STRUCTURE_PERCENTILE
from nephros.text_tables import format_number, markdown_table

Card = Mapping[str, Any]


def card_to_markdown(card: Card) -> str:
    """Return a card, as `nephros.inference.model_card.make_card` makes it, as a page of Markdown.

    Where the model was not scored on test, or nothing is known of what is familiar, the page says so in that place.
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
        _interface,
        _license,
    )
    return "\n".join(text for section in sections if (text := section(card)))


def _section(title: str, *blocks: str) -> str:
    return "\n".join([f"## {title}\n", *(block if block.endswith("\n") else f"{block}\n" for block in blocks if block)])


def _key_value_table(lines: Sequence[tuple[str, object]]) -> str:
    return markdown_table(("what", "value"), [(name, str(value)) for name, value in lines if value not in (None, "")])


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _header(card: Card) -> str:
    return (
        f"# Model card: {card['recipe']}, learnt from {card['data']['title']}\n\n"
        f"A classifier of pictures of single cells into {len(card['class_names'])} classes, made with nephros "
        f"{card['nephros_version']}. Each figure here is also in the card as JSON, beside this page.\n"
    )


def _limitations(card: Card) -> str:
    return _section("Limits of use", "".join(f"- {line}\n" for line in card["limitations"]))


def _data(card: Card) -> str:
    data, shape = card["data"], card["input"]
    size = f"{shape['channels']} x {shape['height']} x {shape['width']} (channels, height, width)"
    lines = [
        ("data", data["name"]),
        ("split", data["split"]),
        ("remark", data["detail"]),
        ("training images", f"{data['training_images']:,}"),
        ("input", f"{size}, {shape['dtype']}"),
        ("SHA-256 of the data", data["sha256"] and f"`{data['sha256']}`"),
    ]
    return _section("Data", _key_value_table(lines))


def _network(card: Card) -> str:
    network = card["network"]
    epoch, parity = network.get("epoch"), network.get("onnx_max_abs_error")
    quantization = network.get("quantization")
    lines = [
        ("recipe", f"`{card['recipe']}`, hash `{card['recipe_hash']}`"),
        (
            "taught by",
            ", ".join(
                f"{teacher['recipe']} (weights `{teacher['weights_sha256'][:16]}`)"
                for teacher in card.get("teachers", [])
            ),
        ),
        ("parameters", f"{network['parameters']:,}"),
        ("multiply-adds a view", f"{network['multiply_adds_per_view']:,}"),
        ("views of each image", network["tta_views"]),
        ("precision", network["precision"]),
        ("weights of epoch", epoch),
        ("SHA-256 of the weights", f"`{network['weights_sha256']}`"),
        ("ONNX Runtime less torch, at most", None if parity is None else f"{parity:.1e}"),
        ("eight bits", quantization and quantization["method"]),
        (
            "accuracy lost by eight bits",
            quantization and f"{quantization['validation_accuracy']['drop']:.4f} on validation",
        ),
        (
            "nephros",
            f"{card['nephros_version']}, commit `{card['commit']}`" if card["commit"] else card["nephros_version"],
        ),
    ]
    return _section("Recipe and network", _key_value_table(lines))


def _metrics(card: Card) -> str:
    metrics_by_split = {"test": card["test"], "validation": card["validation"]}
    headers = (
        "split",
        "cells",
        "accuracy",
        "95 % interval",
        "AUC",
        "macro F1",
        "macro recall",
        "macro precision",
        "loss",
    )
    rows = []
    for split, metrics in metrics_by_split.items():
        if metrics is None:
            continue
        interval = metrics["accuracy_interval"]
        numbers = [
            format_number(metrics[key]) for key in ("auc", "macro_f1", "macro_recall", "macro_precision", "loss")
        ]
        interval_text = f"{interval['low']:.4f} to {interval['high']:.4f}"
        rows.append([split, f"{metrics['n']:,}", format_number(metrics["accuracy"]), interval_text, *numbers])
    test_sentence = (
        f"Test figures are of {card['test']['setup']}" if card["test"] else "The model was not scored on test"
    )
    text = (
        f"{test_sentence}. Validation steers training and the choice of recipe, and flatters accordingly. The interval: "
        f"{card['validation']['accuracy_interval']['method']}. The loss: mean cross-entropy an image, in nats."
    )
    return _section("How right it is", text, markdown_table(headers, rows))


def _classes(card: Card) -> str:
    if card["test"] is None:
        lines = "".join(f"- {number}: {name}\n" for number, name in enumerate(card["class_names"]))
        return _section("Classes", lines)
    headers = ("class", "name", "precision", "recall", "F1", "AUC", "test cells", "in its prediction set")
    coverage_per_class = (card["conformal"]["test"] or {}).get("coverage_per_class")
    rows = []
    for row in card["test"]["per_class"]:
        numbers = [format_number(row[key], 3) for key in ("precision", "recall", "f1", "auc")]
        coverage = coverage_per_class[row["class"]] if coverage_per_class else None
        rows.append(
            [
                str(row["class"]),
                row["name"],
                *numbers,
                f"{row['support']:,}",
                "" if coverage is None else _percent(coverage),
            ]
        )
    return _section("Classes, on test", markdown_table(headers, rows))


def _calibration(card: Card) -> str:
    calibration = card["calibration"]
    error = calibration["expected_calibration_error"]
    rows = [
        [split, format_number(error[split]["before"]), format_number(error[split]["after"])]
        for split in ("test", "validation")
        if error[split] is not None
    ]
    text = (
        f"{_capitalize(calibration['method'])}: {calibration['temperature']:.4f}. "
        f"Expected calibration error ({error['n_bins']} bins: "
        f"{error['formula']}), where 0 is best:"
    )
    missing = "" if error["test"] else "On test it was not measured with these answers."
    return _section("Calibration", text, markdown_table(("split", "before", "after"), rows), missing)


def _prediction_sets(card: Card) -> str:
    conformal, coverage_report = card["conformal"], card["conformal"]["test"]
    n_calibration = conformal["n_calibration_images"]
    text = f"{_capitalize(conformal['method'])}. Fitted on {n_calibration:,} cells, for any coverage that is asked for."
    coverage_text = (
        "Whether they keep their promise was not measured on test with these answers."
        if coverage_report is None
        else f"On {coverage_report['n_images']:,} test cells, sets for {_percent(coverage_report['target_coverage'], 0)} "
        f"held the right class of "
        f"{_percent(coverage_report['coverage'])} and had {coverage_report['mean_set_size']:.2f} classes on average. "
        "The promise is over all "
        "cells alike: the table above says how often the cells of each class were in theirs."
    )
    return _section("Prediction sets", text, coverage_text)


def _ood_detection(card: Card) -> str:
    ood_detector = card["ood_detector"]
    if ood_detector is None:
        return _section("What is called unfamiliar", "Nothing: its training cells were not at hand to learn it from.")
    low, high = ood_detector["range_percentiles"]
    rows = [
        [name, entry["description"], f"{entry['low']:.4g} to {entry['high']:.4g}"]
        for name, entry in ood_detector["ranges"].items()
    ]
    if structure := ood_detector.get("structure"):
        rows.append(["structure", structure["description"], f"up to {structure['threshold']:.4g}"])
    if ood_detector["feature_distance"] is not None:
        rows.append(
            [
                "distance",
                ood_detector["feature_distance"]["description"],
                f"up to {ood_detector['feature_distance']['threshold']:.4g}",
            ]
        )
    text = (
        f"A picture outside one of these ranges, percentiles {low:g} to {high:g} of training cells "
        f"(structure: up to {STRUCTURE_PERCENTILE:g}, and the distance: of validation cells):"
    )
    flagged_rows = [[kind, _percent(share)] for kind, share in ood_detector["flagged_fraction"].items()]
    return _section(
        "What is called unfamiliar",
        text,
        markdown_table(("measure", "what it is", "familiar"), rows),
        "How many of these were called so, the last ones being made-up pictures that show no cell:",
        markdown_table(("pictures", "called unfamiliar"), flagged_rows),
    )


OUTPUT_DESCRIPTIONS = {
    "probabilities": "calibrated, of each class",
    "features": "what the last layer is given",
    "class_activation_maps": "of each class: what speaks for it, by place (class activation)",
    "feature_distance": "of the features to the nearest class, for the limit above",
}


def _interface(card: Card) -> str:
    interface = card.get("interface")  # a card made without its data, or by an earlier version, has none
    if interface is None:
        return ""
    lines = [
        [f"`{name}`", dtype, " x ".join(map(str, shape)), OUTPUT_DESCRIPTIONS.get(name, "stored pixels, as they are")]
        for direction, dtype in (("inputs", "uint8"), ("outputs", "float32"))
        for name, shape in interface[direction].items()
    ]
    return _section(
        "For programs",
        markdown_table(("name in the ONNX graph", "type", "shape", "what it is"), lines),
        "Prediction sets and what is called unfamiliar are not in the graph: their limits are in the card (`conformal`, "
        "`ood_detector`), and `nephros predict` applies them. The card is in the file too, under the metadata key "
        f"`{CARD_METADATA_KEY}`.",
    )


def _license(card: Card) -> str:
    license_info = card["license"]
    lines = [
        ("model", license_info["model"]),
        ("data", license_info["data"]),
        ("attribution of the data", license_info["attribution"]),
    ]
    unknown_note = "" if license_info["data"] else "The data's licence is not known to nephros: ask whoever gave it."
    return _section("Licence and attribution", _key_value_table(lines), unknown_note)
