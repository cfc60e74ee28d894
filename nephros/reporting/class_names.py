"""Short class names, for columns and captions that have no room for full ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from nephros.reporting.plots.style import wrap_label

SHORT_NAME_LENGTH = 17
"""Most characters of a short name."""

_USUAL_SHORT_NAMES = {
    "Collecting Duct, Connecting Tubule": "Collecting duct",
    "Distal Convoluted Tubule": "Distal tubule",
    "Glomerular endothelial cells": "Glom. endoth.",
    "Interstitial endothelial cells": "Interst. endoth.",
    "Proximal Tubule Segments": "Proximal tubule",
    "Thick Ascending Limb": "Thick asc. limb",
    "normal colon mucosa": "normal mucosa",
    "cancer-associated stroma": "cancer stroma",
    "colorectal adenocarcinoma epithelium": "adenocarcinoma",
    "actinic keratoses and intraepithelial carcinoma": "actinic keratoses",
    "basal cell carcinoma": "basal cell carc.",
    "benign keratosis-like lesions": "benign keratosis",
    "choroidal neovascularization": "neovascular.",
    "diabetic macular edema": "macular edema",
    "immature granulocytes (myelocytes, metamyelocytes and promyelocytes)": "immature granul.",
}
"""Names of MedMNIST's classes -> how their field shortens them."""


def short_class_names(names: Sequence[str]) -> list[str]:
    """Return a name of at most SHORT_NAME_LENGTH characters per class, different for different names, in their order.

    A name that is short enough stays. Others lose what is in parentheses or after a comma, unless it alone tells them from
    another, then a last word such as *cells*, then the ends of their longest words ("Peritubular capillary" becomes "Perit.
    capillary"), and at last their middle. Where two come out alike, their label follows.
    """
    short = [_shorten(name, _essence(name)) for name in names]
    ambiguous = _shared_by_several(short, names)
    short = [_shorten(name, name) if text in ambiguous else text for text, name in zip(short, names, strict=True)]
    ambiguous = _shared_by_several(short, names)
    return [_with_label(text, label) if text in ambiguous else text for label, text in enumerate(short)]


def _shared_by_several(short: Sequence[str], names: Sequence[str]) -> set[str]:
    """Return the short names that stand for more than one name."""
    counts = Counter(text for text, _ in set(zip(short, names, strict=True)))
    return {text for text, count in counts.items() if count > 1}


def _essence(name: str) -> str:
    """Return a name without what is in parentheses or after a comma, and without a last word that says nothing."""
    text = re.sub(r"\s*\([^()]*\)", "", name).partition(",")[0].strip() or name
    return re.sub(r"(?i)(?<=\w)[ _](cells?|segments?|nuclei|nucleus)$", "", text)


def _shorten(name: str, essence: str) -> str:
    name, essence = " ".join(name.split()), " ".join(essence.split())
    if len(name) <= SHORT_NAME_LENGTH:
        return name
    if name in _USUAL_SHORT_NAMES:
        return _USUAL_SHORT_NAMES[name]
    words = essence.split(" ")
    for position in sorted(range(len(words)), key=lambda position: -len(words[position])):
        if len(" ".join(words)) > SHORT_NAME_LENGTH:
            words[position] = _abbreviate(words[position])
    text = " ".join(words)
    if len(text) <= SHORT_NAME_LENGTH:
        return text
    tail = SHORT_NAME_LENGTH // 3
    return f"{text[: SHORT_NAME_LENGTH - tail - 1].rstrip()}…{text[-tail:].lstrip()}"


def _abbreviate(word: str) -> str:
    """Return a word of more than six letters up to the consonants after its second vowel or its fourth letter: ``Perit.``."""
    start = re.match(r"[A-Za-z]{3,}?[^\W\daeiouy_](?=[aeiouy])", word)
    return f"{start[0]}." if len(word) > 6 and start and len(start[0]) + 2 < len(word) else word


def _with_label(name: str, label: int) -> str:
    suffix = f" #{label}"
    return f"{name[: SHORT_NAME_LENGTH - len(suffix)].rstrip()}{suffix}"


def fit_class_labels(names: Sequence[str], width: int) -> list[str]:
    """Return a label per class in up to two lines of `width` characters: full names where all fit, else short ones."""
    full = [wrap_label(name, width, 2) for name in names]
    fits = all(
        " ".join(label.split()) == " ".join(name.split()) and max(map(len, label.split("\n"))) <= width
        for label, name in zip(full, names, strict=True)
        if name.strip()
    )
    return full if fits else [wrap_label(name, width, 2) for name in short_class_names(names)]
