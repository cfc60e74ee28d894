"""Hyperband against Algorithm 1: tables computed by hand, and a direct implementation of the paper in exact fractions."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nephros.errors import InvalidArgument
from nephros.tuning.hyperband import (
    PENDING,
    Bracket,
    Pending,
    Rung,
    argsort_scores,
    is_failed,
    make_brackets,
    rung_states,
    select_brackets,
)

TABLES: dict[tuple[int, int], list[list[tuple[int, int]]]] = {
    (9, 3): [[(9, 1), (3, 3), (1, 9)], [(5, 3), (1, 9)], [(3, 9)]],
    (27, 3): [[(27, 1), (9, 3), (3, 9), (1, 27)], [(12, 3), (4, 9), (1, 27)], [(6, 9), (2, 27)], [(4, 27)]],
    (81, 3): [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ],
    (100, 3): [
        [(81, 1), (27, 3), (9, 11), (3, 33), (1, 100)],
        [(34, 3), (11, 11), (3, 33), (1, 100)],
        [(15, 11), (5, 33), (1, 100)],
        [(8, 33), (2, 100)],
        [(5, 100)],
    ],
    (243, 3): [
        [(243, 1), (81, 3), (27, 9), (9, 27), (3, 81), (1, 243)],
        [(98, 3), (32, 9), (10, 27), (3, 81), (1, 243)],
        [(41, 9), (13, 27), (4, 81), (1, 243)],
        [(18, 27), (6, 81), (2, 243)],
        [(9, 81), (3, 243)],
        [(6, 243)],
    ],
    (16, 2): [
        [(16, 1), (8, 2), (4, 4), (2, 8), (1, 16)],
        [(10, 2), (5, 4), (2, 8), (1, 16)],
        [(7, 4), (3, 8), (1, 16)],
        [(5, 8), (2, 16)],
        [(5, 16)],
    ],
    (16, 4): [[(16, 1), (4, 4), (1, 16)], [(6, 4), (1, 16)], [(3, 16)]],
    (64, 2): [
        [(64, 1), (32, 2), (16, 4), (8, 8), (4, 16), (2, 32), (1, 64)],
        [(38, 2), (19, 4), (9, 8), (4, 16), (2, 32), (1, 64)],
        [(23, 4), (11, 8), (5, 16), (2, 32), (1, 64)],
        [(14, 8), (7, 16), (3, 32), (1, 64)],
        [(10, 16), (5, 32), (2, 64)],
        [(7, 32), (3, 64)],
        [(7, 64)],
    ],
    (64, 4): [[(64, 1), (16, 4), (4, 16), (1, 64)], [(22, 4), (5, 16), (1, 64)], [(8, 16), (2, 64)], [(4, 64)]],
    (1, 3): [[(1, 1)]],
    (2, 3): [[(1, 2)]],
}
"""(R, eta) -> brackets s_max..0 -> rungs: (configurations, epochs)."""


@pytest.mark.parametrize(("r", "eta"), TABLES)
def test_brackets_match_the_tables_of_algorithm_1(r: int, eta: int) -> None:
    brackets = make_brackets(r, eta)
    assert [[(rung.n_configs, rung.epochs) for rung in bracket.rungs] for bracket in brackets] == TABLES[r, eta]
    assert [bracket.s for bracket in brackets] == list(range(len(brackets) - 1, -1, -1))


def test_epochs_of_a_bracket_with_and_without_checkpoints() -> None:
    poster = make_brackets(27, 3)[0]
    assert poster.n_configs == 27
    assert poster.total_epochs == 27 * 1 + 9 * 2 + 3 * 6 + 1 * 18 == 81
    assert poster.restarted_epochs == 27 * 1 + 9 * 3 + 3 * 9 + 1 * 27 == 108
    assert [bracket.restarted_epochs for bracket in make_brackets(81, 3)] == [405, 363, 351, 378, 405]
    assert [bracket.total_epochs for bracket in make_brackets(9, 3)] == [9 + 6 + 6, 15 + 6, 27]


def count_steps(r: int, eta: int) -> int:
    """Return how many times R can be divided by eta without falling below 1."""
    s, left = 0, Fraction(r)
    while left / eta >= 1:
        s, left = s + 1, left / eta
    return s


def brackets_in_fractions(r: int, eta: int) -> list[tuple[int, list[tuple[int, int]]]]:
    """Return (s, [(n_i, r_i)]) as Algorithm 1 is printed, in exact fractions, epochs rounded down at the end."""
    s_max = count_steps(r, eta)
    budget = Fraction((s_max + 1) * r)
    brackets = []
    for s in reversed(range(s_max + 1)):
        n = math.ceil(budget / r * Fraction(eta) ** s / (s + 1))
        start = r * Fraction(eta) ** -s
        brackets.append(
            (s, [(math.floor(n * Fraction(eta) ** -i), math.floor(start * Fraction(eta) ** i)) for i in range(s + 1)])
        )
    return brackets


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int]:
    """Draw R and eta: any, and R at and next to powers of eta, where s_max changes."""
    eta = draw(st.integers(2, 12))
    powers = [eta**k + offset for k in range(1, 18) for offset in (-1, 0, 1) if eta**k < 200_000]
    return draw(st.integers(1, 100_000) | st.sampled_from(powers)), eta


@settings(max_examples=250, deadline=None)
@given(sizes())
def test_counts_and_budget_agree_with_the_paper(size: tuple[int, int]) -> None:
    r, eta = size
    brackets = make_brackets(r, eta)
    expected = brackets_in_fractions(r, eta)
    assert [(b.s, [(rung.n_configs, rung.epochs) for rung in b.rungs]) for b in brackets] == expected
    for bracket, (s, rungs) in zip(brackets, expected, strict=True):
        assert bracket.n_configs == rungs[0][0]
        assert bracket.rungs[-1].epochs == r
        # "Keep the best floor(n_i / eta)" leaves as many as the next rung runs.
        for (n, _), (after, _) in pairwise(rungs):
            assert after == n // eta
        assert bracket.restarted_epochs == sum(n * epochs for n, epochs in rungs)
        # B epochs per bracket, except that n is rounded up: at most one configuration's share in each rung.
        assert bracket.restarted_epochs <= len(expected) * r + Fraction((s + 1) * r, eta**s)
        trained = [0] * bracket.n_configs if bracket.n_configs < 10_000 else None
        if trained is not None:
            for n, epochs in rungs:
                trained[:n] = [epochs] * n
            assert bracket.total_epochs == sum(trained)


@pytest.mark.parametrize(
    ("r", "eta", "parameter", "value"), [(0, 3, "max_epochs", 0), (-9, 3, "max_epochs", -9), (9, 1, "eta", 1)]
)
def test_invalid_numbers_are_named(r: int, eta: int, parameter: str, value: int) -> None:
    with pytest.raises(InvalidArgument) as excinfo:
        make_brackets(r, eta)
    assert (excinfo.value.parameter, excinfo.value.value) == (parameter, value)


def test_brackets_are_selected_by_name() -> None:
    assert select_brackets(27, 3, "all") == make_brackets(27, 3)
    assert select_brackets(27, 3, "s=3") == (make_brackets(27, 3)[0],)
    assert select_brackets(27, 3, "s=0") == (make_brackets(27, 3)[3],)


@pytest.mark.parametrize("selection", ["s=4", "3", "s", "", "s=-1", "s=03", "t=3", "every"])
def test_an_unknown_bracket_names_the_existing_ones(selection: str) -> None:
    with pytest.raises(InvalidArgument, match="s=3, s=2, s=1, s=0") as excinfo:
        select_brackets(27, 3, selection)
    assert (excinfo.value.parameter, excinfo.value.value) == ("brackets", selection)


def test_scores_are_ranked_with_failures_last() -> None:
    nan, inf = math.nan, math.inf
    assert argsort_scores([0.1, 0.3, 0.2]) == [1, 2, 0]
    assert argsort_scores([0.5, 0.7, 0.5, 0.7]) == [1, 3, 0, 2]  # ties in order of position
    assert argsort_scores([nan, -5.0, None, -9.0]) == [1, 3, 0, 2]
    assert argsort_scores([None, nan, -inf, inf, -1e300]) == [4, 0, 1, 2, 3]
    assert argsort_scores([]) == []
    assert [is_failed(score) for score in (None, nan, inf, -inf, 0.0, -3.0)] == [True, True, True, True, False, False]


Scores = Mapping[tuple[int, int], float | None]
"""(index, epochs) -> score."""


def successive_halving(bracket: Bracket, scores: Scores, eta: int) -> list[tuple[list[int], list[int]]]:
    """Return (members, promoted from best to worst) of each rung, repeatedly picking the best."""
    members, rungs = list(range(bracket.n_configs)), []
    for i, rung in enumerate(bracket.rungs):
        scored = [(index, scores[index, rung.epochs]) for index in members]
        finite = [(index, score) for index, score in scored if score is not None and abs(score) < math.inf]
        promoted: list[int] = []
        n_promoted = 0 if rung is bracket.rungs[-1] else bracket.n_configs // eta ** (i + 1)
        while finite and len(promoted) < n_promoted:
            best = finite[0]
            for candidate in finite[1:]:
                if candidate[1] > best[1]:
                    best = candidate
            finite.remove(best)
            promoted.append(best[0])
        rungs.append((members, promoted))
        members = sorted(promoted)
        if not members:
            break
    return rungs


BAD = (None, math.nan, math.inf, -math.inf)


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, Bracket, Scores, random.Random]:
    """Draw a bracket and scores for all rungs: few distinct values, so that many are equal, and some failures."""
    eta = draw(st.integers(2, 5))
    bracket = draw(st.sampled_from(make_brackets(draw(st.integers(1, 60)), eta)))
    values: Sequence[float | None] = draw(
        st.lists(st.floats(allow_nan=False) | st.sampled_from(BAD), min_size=1, max_size=8)
    )
    rng = random.Random(draw(st.integers(0, 2**32)))
    scores = {(index, rung.epochs): rng.choice(values) for rung in bracket.rungs for index in range(bracket.n_configs)}
    return eta, bracket, scores, rng


@settings(max_examples=120, deadline=None)
@given(cases())
def test_promotions_agree_with_successive_halving_by_hand(case: tuple[int, Bracket, Scores, random.Random]) -> None:
    eta, bracket, scores, _ = case
    states = rung_states(bracket, lambda index, rung: scores[index, rung.epochs])
    expected = successive_halving(bracket, scores, eta)
    assert [(list(s.members), list(s.promoted or ())) for s in states] == expected
    assert all(rung_state.promoted is not None and rung_state.pending == () for rung_state in states)
    for rung_state in states:
        assert rung_state.scores.keys() == set(rung_state.members)


@settings(max_examples=120, deadline=None)
@given(cases())
def test_promotions_do_not_depend_on_the_order_of_scores(case: tuple[int, Bracket, Scores, random.Random]) -> None:
    """Each step finishes some pending tasks; the closed rungs at any time are a prefix of the final ones."""
    _, bracket, scores, rng = case
    final_states = rung_states(bracket, lambda index, rung: scores[index, rung.epochs])
    known_scores: dict[tuple[int, int], float | None] = {}

    def score(index: int, rung: Rung) -> float | Pending | None:
        return known_scores.get((index, rung.epochs), PENDING)

    while True:
        *closed, last = rung_states(bracket, score)
        assert repr(closed) == repr(final_states[: len(closed)])  # as text, since NaN is not equal to itself
        final = final_states[len(closed)]
        assert (last.rung, last.members) == (final.rung, final.members)
        if last.promoted is not None:
            break
        assert set(last.pending) == set(last.members) - {
            index for index, epochs in known_scores if epochs == last.rung.epochs
        }
        assert last.pending == tuple(sorted(last.pending))
        for index in rng.sample(last.pending, rng.randint(1, len(last.pending))):
            known_scores[index, last.rung.epochs] = scores[index, last.rung.epochs]
    assert repr([*closed, last]) == repr(final_states)
    assert len(known_scores) == sum(
        len(rung_state.members) for rung_state in final_states
    )  # only promoted configurations were trained


@settings(max_examples=80, deadline=None)
@given(cases(), st.floats(0, 1))
def test_rungs_of_partial_scores_are_a_prefix_of_the_final_ones(
    case: tuple[int, Bracket, Scores, random.Random], share: float
) -> None:
    """This holds even if scores of later rungs are known, as for configurations that stopped early."""
    _, bracket, scores, rng = case
    known_positions = {position for position in scores if rng.random() < share}
    final_states = rung_states(bracket, lambda index, rung: scores[index, rung.epochs])
    *closed, last = rung_states(
        bracket, lambda index, rung: scores[index, rung.epochs] if (index, rung.epochs) in known_positions else PENDING
    )
    assert repr(closed) == repr(final_states[: len(closed)])
    final = final_states[len(closed)]
    assert last.members == final.members
    assert repr(last.scores) == repr(
        {i: v for i, v in final.scores.items() if (i, last.rung.epochs) in known_positions}
    )
    assert (last.promoted is None) == (set(last.scores) != set(last.members))


def test_failures_leave_later_rungs_smaller() -> None:
    bracket = make_brackets(9, 3)[0]
    states = rung_states(bracket, lambda index, rung: float(index) if index in (4, 7) else None)
    assert [rung_state.members for rung_state in states] == [tuple(range(9)), (4, 7), (7,)]
    assert [rung_state.promoted for rung_state in states] == [(7, 4), (7,), ()]


def test_a_rung_without_survivors_is_the_last() -> None:
    (first_state,) = rung_states(make_brackets(9, 3)[0], lambda index, rung: math.nan)
    assert first_state.promoted == ()
    assert first_state.rung == Rung(9, 1)


def test_one_pending_score_delays_every_promotion() -> None:
    bracket = make_brackets(9, 3)[0]
    (first_state,) = rung_states(bracket, lambda index, rung: PENDING if index == 8 else float(-index))
    assert first_state.promoted is None
    assert first_state.pending == (8,)
