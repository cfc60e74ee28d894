"""Which method to keep by accuracy in cross-validation, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping

from nephros.text_tables import join_words

METHODS = ("head", "last-stage", "network", "self-training", "scratch")
"""Methods that a run can keep, the simplest first; self-training needs images without a label."""
PREFERENCE = ("self-training", "network", "last-stage", "head", "scratch")
"""The same, with those first that did best on classes that the source had not seen (`nephros reproduce transfer`)."""
NEW_CLASSES = (0.05, 0.04)
"""Accuracy by which the preferred method leads another on classes that are new to the weights: mean and standard deviation of a
normal distribution."""
KNOWN_CLASSES = (-0.06, 0.06)
"""The same over the head, on classes that the weights have learned before: training on few images makes them forget."""
KNOWN_SHARE = 0.3
"""How often classes are such, as far as nobody knows."""
SHIFT = 0.03
"""Standard deviation of what a lead on other cells, whose classes are not as frequent as those of the labels, differs by from the
lead among the labels, however many they are."""


def choose_method(accuracies: Mapping[str, float], n_images: int) -> str:
    """Return the method to keep by its accuracy on `n_images`: the first of PREFERENCE, unless another is clearly better.

    The highest accuracy of all would be a matter of luck where labels are few: of 30 images, a method that is 15 points worse is
    ahead in one of ten draws. Where labels are many, a lead among them may still not hold on other cells. So a lead is weighed
    against what is known beforehand by Bayes' rule, as if the two methods erred independently. Of methods that are always right,
    the simplest is kept.
    """
    kept, *others = [method for method in PREFERENCE if method in accuracies]
    for other in others:
        kept_accuracy, accuracy = accuracies[kept], accuracies[other]
        variance = (kept_accuracy * (1 - kept_accuracy) + accuracy * (1 - accuracy)) / n_images + SHIFT**2
        cases = {NEW_CLASSES: 1 - KNOWN_SHARE, KNOWN_CLASSES: KNOWN_SHARE} if other == "head" else {NEW_CLASSES: 1.0}
        is_simpler = METHODS.index(other) < METHODS.index(kept)
        if _expected_lead(kept_accuracy - accuracy, variance, cases) < 0 or (
            accuracy == kept_accuracy == 1 and is_simpler
        ):
            kept = other
    return kept


def _expected_lead(lead: float, variance: float, cases: Mapping[tuple[float, float], float]) -> float:
    """Return the mean of what is to be expected of a lead that was measured with some variance.

    `cases` are means and standard deviations of leads, with the probabilities of these cases before anything was measured.
    """
    weights, means = [], []
    for (mean, spread), probability in cases.items():
        total = spread**2 + variance
        weights.append(probability * math.exp(-((lead - mean) ** 2) / (2 * total)) / math.sqrt(total))
        means.append((mean * variance + lead * spread**2) / total)
    return sum(weight * mean for weight, mean in zip(weights, means, strict=True)) / sum(weights)


def explain_choice(kept: str, accuracies: Mapping[str, float]) -> str:
    """Return why `choose_method` kept a method that is not the most accurate; "" for the most accurate."""
    methods = [method for method in PREFERENCE if method in accuracies]
    better = [method for method in methods if accuracies[method] > accuracies[kept]]
    if not better:
        return ""
    verb = "is" if len(better) == 1 else "are"
    chance = f"{kept} is kept although {join_words(better)} {verb} ahead here, by too little to rely on"
    return (
        f"{chance}: on other classes that were new to the weights, {kept} did best."
        if kept == methods[0]
        else f"{chance}."
    )
