"""Short class names: short enough, different for different names, and the usual ones for MedMNIST."""

from __future__ import annotations

import pytest

from nephros.data.medmnist import MEDMNIST
from nephros.reporting.class_names import SHORT_NAME_LENGTH, short_class_names


@pytest.mark.parametrize(
    "names",
    [
        *(info.class_names for info in MEDMNIST.values()),
        ("Mesangial cells (activated)", "Mesangial cells (quiescent)"),
        ("Podocyte precursor population A", "Podocyte precursor population B"),
        ("a" * 40, "a" * 41, "a" * 42),
        ("x" * 30 + "1" + "x" * 30, "x" * 30 + "2" + "x" * 30),
        ("\u80be\u5c0f\u7ba1\u4e0a\u76ae\u7ec6\u80de" * 4, "Tr\u00e8s long nom de classe accentu\u00e9", ""),
        ("one two three four five six seven", "one two three four five six eight"),
    ],
)
def test_short_names_fit_and_stay_different(names: tuple[str, ...]) -> None:
    short = short_class_names(names)
    assert max(map(len, short)) <= SHORT_NAME_LENGTH
    assert len(set(short)) == len(names)
    for name, text in zip(names, short, strict=True):
        assert text == name or len(name) > SHORT_NAME_LENGTH


def test_names_of_tissuemnist_are_those_of_the_field() -> None:
    assert short_class_names(MEDMNIST["tissuemnist"].class_names) == [
        "Collecting duct",
        "Distal tubule",
        "Glom. endoth.",
        "Interst. endoth.",
        "Leukocytes",
        "Podocytes",
        "Proximal tubule",
        "Thick asc. limb",
    ]


def test_what_tells_two_names_apart_is_kept() -> None:
    first, second = short_class_names(["Mesangial cells (activated)", "Mesangial cells (quiescent)"])
    assert first.endswith("ated)")
    assert second.endswith("cent)")
    assert short_class_names(["Peritubular capillary"]) == ["Perit. capillary"]
