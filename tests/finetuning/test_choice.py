"""Which method of fine-tuning is kept."""

from __future__ import annotations

import numpy as np
import pytest

from nephros.finetuning.choice import explain_choice
from nephros.finetuning.cross_validation import Candidate, best_candidate


def candidate(method: str, correct: list[int], n: int = 30) -> Candidate:
    labels = np.arange(n) % 2
    predicted = np.where(np.isin(np.arange(n), correct), labels, 1 - labels)
    return Candidate(method, np.eye(2)[predicted], labels, ("a", "b"), 1.0)


def test_luck_on_few_images_does_not_choose() -> None:
    lucky = candidate("scratch", [*range(10), 20, 21, 22])
    assert best_candidate([candidate("last-stage", list(range(12))), lucky]).method == "last-stage"


@pytest.mark.parametrize("method", ["head", "last-stage", "scratch"])
def test_a_clearly_better_method_is_kept_whatever_the_order(method: str) -> None:
    candidates = [candidate("network", list(range(100)), 300), candidate(method, list(range(200)), 300)]
    assert best_candidate(candidates).method == best_candidate(candidates[::-1]).method == method


def test_of_methods_that_are_always_right_the_simplest_is_kept_and_no_baseline() -> None:
    same = [candidate(method, list(range(30))) for method in ("head", "last-stage", "network", "scratch")]
    assert best_candidate([*same, candidate("knn", list(range(30)))]).method == "head"
    assert best_candidate([candidate("network", [1]), candidate("knn", list(range(30)))]).method == "network"


def test_the_same_difference_decides_where_images_are_many() -> None:
    for n, expected in ((30, "network"), (3000, "head")):
        half = candidate("network", list(range(n // 2)), n)
        more = candidate("head", list(range(n // 10, n // 2 + n // 6)), n)
        assert best_candidate([half, more]).method == expected


def test_a_lead_that_other_cells_may_not_show_does_not_choose_however_many_images_there_are() -> None:
    for lead, expected in ((200, "network"), (500, "scratch")):
        network = candidate("network", list(range(8000)), 10_000)
        other = candidate("scratch", list(range(8000 + lead)), 10_000)
        assert best_candidate([network, other]).method == expected


@pytest.mark.parametrize(
    ("other", "n_ahead", "kept"), [("head", 7, "head"), ("head", 2, "network"), ("last-stage", 7, "network")]
)
def test_the_head_is_kept_sooner_since_the_weights_may_know_the_classes(other: str, n_ahead: int, kept: str) -> None:
    candidates = [candidate("network", list(range(32)), 60), candidate(other, list(range(32 + n_ahead)), 60)]
    assert best_candidate(candidates).method == kept


def test_a_choice_is_explained_only_where_another_method_is_ahead() -> None:
    assert explain_choice("network", {"head": 0.7, "network": 0.8, "knn": 0.9}) == ""
    assert explain_choice("head", {"head": 0.7, "knn": 0.9}) == ""
    ahead = explain_choice("network", {"head": 0.9, "last-stage": 0.85, "network": 0.8, "scratch": 0.1, "knn": 1.0})
    assert "last-stage and head are ahead" in ahead
    assert "network did best" in ahead
    assert "did best" not in explain_choice("head", {"head": 0.8, "last-stage": 0.85, "network": 0.7})
