"""The model card for people: Markdown, made from the card's plain values alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nephros.inference.model_card import KEY
from nephros.inference.ood.structure import PERCENTILE
from nephros.text_tables import markdown, shown

Card = Mapping[str, Any]


def to_markdown(card: Card) -> str:
    """Return a card, as `nephros.inference.model_card.make_card` makes it, as a page of Markdown.

    Where the model was not scored on test, or nothing is known of what is familiar, the page says so in that place.
    """
    parts = (
        _head,
        _limits,
        _data,
        _network,
        _figures,
        _classes,
        _calibration,
        _sets,
        _unfamiliar,
        _interface,
        _licence,
    )
    return "\n".join(words for part in parts if (words := part(card)))


def _section(title: str, *blocks: str) -> str:
    return "\n".join([f"## {title}\n", *(block if block.endswith("\n") else f"{block}\n" for block in blocks if block)])


def _facts(lines: Sequence[tuple[str, object]]) -> str:
    return markdown(("what", "value"), [(what, str(value)) for what, value in lines if value not in (None, "")])


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _head(card: Card) -> str:
    return (
        f"# Model card: {card['recipe']}, learnt from {card['data']['title']}\n\n"
        f"A classifier of pictures of single cells into {len(card['class_names'])} classes, made with nephros "
        f"{card['nephros']}. Each figure here is also in the card as JSON, beside this page.\n"
    )


def _limits(card: Card) -> str:
    return _section("Limits of use", "".join(f"- {line}\n" for line in card.get("limits", [])))


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
    return _section("Data", _facts(lines))


def _network(card: Card) -> str:
    network = card["network"]
    epoch, parity = network.get("epoch"), network.get("parity")
    eight = network.get("quantisation")
    lines = [
        ("recipe", f"`{card['recipe']}`, hash `{card['recipe_hash']}`"),
        (
            "taught by",
            ", ".join(f"{one['recipe']} (weights `{one['weights_sha256'][:16]}`)" for one in card.get("teachers", [])),
        ),
        ("parameters", f"{network['parameters']:,}"),
        ("multiply-adds a view", f"{network['multiply_adds_a_view']:,}"),
        ("views of each image", network["views"]),
        ("precision", network["precision"]),
        ("weights of epoch", epoch),
        ("SHA-256 of the weights", f"`{network['weights_sha256']}`"),
        ("ONNX Runtime less torch, at most", None if parity is None else f"{parity:.1e}"),
        ("eight bits", eight and eight["method"]),
        ("accuracy lost by eight bits", eight and f"{eight['validation_accuracy']['loss']:.4f} on validation"),
        ("nephros", f"{card['nephros']}, commit `{card['commit']}`" if card["commit"] else card["nephros"]),
    ]
    return _section("Recipe and network", _facts(lines))


def _figures(card: Card) -> str:
    found = {"test": card["test"], "validation": card["validation"]}
    heads = (
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
    for split, figures in found.items():
        if figures is None:
            continue
        interval = figures["accuracy_interval"]
        numbers = [shown(figures[key]) for key in ("auc", "macro_f1", "macro_recall", "macro_precision", "loss")]
        between = f"{interval['low']:.4f} to {interval['high']:.4f}"
        rows.append([split, f"{figures['n']:,}", shown(figures["accuracy"]), between, *numbers])
    measured = f"Test figures are of {card['test']['of']}" if card["test"] else "The model was not scored on test"
    words = (
        f"{measured}. Validation steers training and the choice of recipe, and flatters accordingly. The interval: "
        f"{card['validation']['accuracy_interval']['method']}. The loss: mean cross-entropy an image, in nats."
    )
    return _section("How right it is", words, markdown(heads, rows))


def _classes(card: Card) -> str:
    if card["test"] is None:
        lines = "".join(f"- {number}: {name}\n" for number, name in enumerate(card["class_names"]))
        return _section("Classes", lines)
    heads = ("class", "name", "precision", "recall", "F1", "AUC", "test cells", "in its prediction set")
    held = (card["conformal"]["measured_on_test"] or {}).get("coverage_by_class")
    rows = []
    for row in card["test"]["per_class"]:
        numbers = [shown(row[key], 3) for key in ("precision", "recall", "f1", "auc")]
        share = held[row["class"]] if held else None
        rows.append(
            [str(row["class"]), row["name"], *numbers, f"{row['support']:,}", "" if share is None else _percent(share)]
        )
    return _section("Classes, on test", markdown(heads, rows))


def _calibration(card: Card) -> str:
    found = card["calibration"]
    error = found["expected_calibration_error"]
    rows = [
        [split, shown(error[split]["before"]), shown(error[split]["after"])]
        for split in ("test", "validation")
        if error[split] is not None
    ]
    words = (
        f"{_sentence(found['method'])}: {found['temperature']:.4f}. Expected calibration error ({error['bins']} bins: "
        f"{error['formula']}), where 0 is best:"
    )
    missing = "" if error["test"] else "On test it was not measured with these answers."
    return _section("Calibration", words, markdown(("split", "before", "after"), rows), missing)


def _sets(card: Card) -> str:
    found, measured = card["conformal"], card["conformal"]["measured_on_test"]
    words = f"{_sentence(found['method'])}. Fitted on {found['images']:,} cells, for any coverage that is asked for."
    result = (
        "Whether they keep their promise was not measured on test with these answers."
        if measured is None
        else f"On {measured['images']:,} test cells, sets for {_percent(measured['asked'], 0)} held the right class of "
        f"{_percent(measured['coverage'])} and had {measured['mean_set_size']:.2f} classes on average. The promise is over all "
        "cells alike: the table above says how often the cells of each class were in theirs."
    )
    return _section("Prediction sets", words, result)


def _unfamiliar(card: Card) -> str:
    found = card["unfamiliarity"]
    if found is None:
        return _section("What is called unfamiliar", "Nothing: its training cells were not at hand to learn it from.")
    low, high = found["percentiles"]
    rows = [
        [name, entry["what"], f"{entry['low']:.4g} to {entry['high']:.4g}"] for name, entry in found["ranges"].items()
    ]
    if structure := found.get("structure"):
        rows.append(["structure", structure["what"], f"up to {structure['threshold']:.4g}"])
    if found["distance"] is not None:
        rows.append(["distance", found["distance"]["what"], f"up to {found['distance']['threshold']:.4g}"])
    words = (
        f"A picture outside one of these ranges, percentiles {low:g} to {high:g} of training cells "
        f"(structure: up to {PERCENTILE:g}, and the distance: of validation cells):"
    )
    flagged = [[kind, _percent(share)] for kind, share in found["flagged"].items()]
    return _section(
        "What is called unfamiliar",
        words,
        markdown(("measure", "what it is", "familiar"), rows),
        "How many of these were called so, the last ones being made-up pictures that show no cell:",
        markdown(("pictures", "called unfamiliar"), flagged),
    )


OUTPUTS = {
    "probabilities": "calibrated, of each class",
    "features": "what the last layer is given",
    "maps": "of each class: what speaks for it, by place (class activation)",
    "distance": "of the features to the nearest class, for the limit above",
}


def _interface(card: Card) -> str:
    found = card.get("interface")  # a card made without its data, or by an earlier version, has none
    if found is None:
        return ""
    lines = [
        [f"`{name}`", kind, " x ".join(map(str, shape)), OUTPUTS.get(name, "stored pixels, as they are")]
        for which, kind in (("input", "uint8"), ("outputs", "float32"))
        for name, shape in found[which].items()
    ]
    return _section(
        "For programs",
        markdown(("name in the ONNX graph", "type", "shape", "what it is"), lines),
        "Prediction sets and what is called unfamiliar are not in the graph: their limits are in the card (`conformal`, "
        "`unfamiliarity`), and `nephros predict` applies them. The card is in the file too, under the metadata key "
        f"`{KEY}`.",
    )


def _licence(card: Card) -> str:
    found = card["licence"]
    lines = [("model", found["model"]), ("data", found["data"]), ("attribution of the data", found["attribution"])]
    unknown = "" if found["data"] else "The data's licence is not known to nephros: ask whoever gave it."
    return _section("Licence and attribution", _facts(lines), unknown)
