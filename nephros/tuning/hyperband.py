"""Hyperband's arithmetic and promotions: Li et al. 2018 (JMLR 18, 185), Algorithm 1, in whole numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nephros.errors import InvalidArgument


@dataclass(frozen=True)
class Rung:
    """One round of successive halving."""

    n_configs: int
    """Configurations that run in the rung."""
    epochs: int
    """Epochs per configuration at the end of the rung, those of earlier rungs included."""


@dataclass(frozen=True)
class Bracket:
    """One run of successive halving: many configurations for few epochs (large s), or few for all epochs (s = 0)."""

    s: int
    rungs: tuple[Rung, ...]

    @property
    def n_configs(self) -> int:
        """Configurations in the first rung."""
        return self.rungs[0].n_configs

    @property
    def total_epochs(self) -> int:
        """Epochs in all when promoted configurations continue from their checkpoints and none fails."""
        previous_epochs = [0, *(rung.epochs for rung in self.rungs)]
        return sum(
            rung.n_configs * (rung.epochs - previous)
            for rung, previous in zip(self.rungs, previous_epochs, strict=False)
        )

    @property
    def restarted_epochs(self) -> int:
        """Epochs in all if each rung trained its configurations from the start, as the paper counts its budget."""
        return sum(rung.n_configs * rung.epochs for rung in self.rungs)


def make_brackets(max_epochs: int, eta: int) -> tuple[Bracket, ...]:
    """Return the brackets s_max..0 of Algorithm 1, where R is `max_epochs`.

    s_max is the largest s with eta^s <= R. Bracket s starts n = ceil((s_max + 1) / (s + 1) * eta^s) configurations; its
    rung i runs floor(n / eta^i) of them to R // eta^(s - i) epochs. Whole numbers throughout, as floating-point logarithms
    lose a bracket at R = 243, eta = 3. Raises InvalidArgument for R below 1 and eta below 2.
    """
    if max_epochs < 1:
        raise InvalidArgument("max_epochs", max_epochs, "a whole number of at least 1")
    if eta < 2:
        raise InvalidArgument("eta", eta, "a whole number of at least 2")
    s_max = 0
    while eta ** (s_max + 1) <= max_epochs:
        s_max += 1
    return tuple(_make_bracket(s, s_max, max_epochs, eta) for s in range(s_max, -1, -1))


def _make_bracket(s: int, s_max: int, max_epochs: int, eta: int) -> Bracket:
    n_configs = -(-(s_max + 1) * eta**s // (s + 1))
    return Bracket(s, tuple(Rung(n_configs // eta**i, max_epochs // eta ** (s - i)) for i in range(s + 1)))


def select_brackets(max_epochs: int, eta: int, selection: str) -> tuple[Bracket, ...]:
    """Return the brackets that `selection` names: all, or one such as s=3; InvalidArgument when there is no such bracket."""
    all_brackets = make_brackets(max_epochs, eta)
    if selection == "all":
        return all_brackets
    prefix, _, suffix = selection.partition("=")
    matches = [bracket for bracket in all_brackets if prefix == "s" and suffix == str(bracket.s)]
    if not matches:
        options = ", ".join(f"s={bracket.s}" for bracket in all_brackets)
        hint = f"These are the brackets of `max_epochs` {max_epochs} and `eta` {eta}."
        raise InvalidArgument("brackets", selection, f"all or one of {options}", hint=hint)
    return tuple(matches)


def argsort_scores(scores: Sequence[float | None]) -> list[int]:
    """Return the positions of `scores` from best to worst: higher is better, failed ones last, ties in order of position."""
    return sorted(
        range(len(scores)),
        key=lambda i: (is_failed(scores[i]), 0.0 if is_failed(scores[i]) else -_as_float(scores[i]), i),
    )


def is_failed(score: float | None) -> bool:
    """Return whether a configuration with that score failed: None, or a metric that diverged to NaN or infinity."""
    return score is None or not math.isfinite(score)


def _as_float(score: float | None) -> float:
    assert score is not None
    return score


@dataclass(frozen=True)
class RungState:
    """The scores of a rung so far, and its promotions once all are in."""

    rung: Rung
    members: tuple[int, ...]
    """Indices within the bracket of the configurations that run in the rung, ascending."""
    scores: dict[int, float | None]
    """Index -> score of the configurations that have finished the rung; None for one that failed."""
    promoted: tuple[int, ...] | None
    """Members promoted to the next rung (none after the last), from best to worst; None while the rung is open."""

    @property
    def pending(self) -> tuple[int, ...]:
        """Members that have not finished the rung yet."""
        return tuple(index for index in self.members if index not in self.scores)


class Pending:
    """The score of a configuration that has not finished a rung."""


PENDING = Pending()
ScoreFunction = Callable[[int, Rung], float | Pending | None]


def rung_states(bracket: Bracket, score: ScoreFunction) -> list[RungState]:
    """Return the rungs of a bracket up to and including the first open one.

    `score(index, rung)` returns PENDING, a number (higher is better), or None for a failed configuration. Failed and
    diverged configurations are never promoted, so a rung may hold fewer than planned. The result is a pure function of the
    scores: the order in which they came in makes no difference.
    """
    states: list[RungState] = []
    members: tuple[int, ...] = tuple(range(bracket.n_configs))
    for i, rung in enumerate(bracket.rungs):
        scores = {index: value for index in members if not isinstance(value := score(index, rung), Pending)}
        if len(scores) < len(members):
            return [*states, RungState(rung, members, scores, None)]
        n_promoted = bracket.rungs[i + 1].n_configs if i + 1 < len(bracket.rungs) else 0
        ranking = [members[position] for position in argsort_scores([scores[index] for index in members])]
        promoted = tuple(index for index in ranking[:n_promoted] if not is_failed(scores[index]))
        states.append(RungState(rung, members, scores, promoted))
        members = tuple(sorted(promoted))
        if not members:
            break
    return states
