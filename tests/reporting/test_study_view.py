"""What a report works out of a study's records: fates, ranks, what the epochs bought, random search, importance."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from nephros.reporting.study.budget import RandomSearch, expected_best, random_search, spending
from nephros.reporting.study.importance import Importance, importance
from nephros.reporting.study.trial_tables import best_values, failures, rows
from nephros.reporting.study.view import View
from nephros.tuning.study_state import Records
from tests.reporting.study_simulator import Plan, simulate


def test_fates_of_the_posters_bracket() -> None:
    view = View(simulate(Plan(brackets="s=3")))
    assert Counter(view.fates.values()) == {"eliminated": 26, "best": 1}
    assert view.best is not None
    assert view.records.configs[view.best.key].epochs == 27


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
@pytest.mark.parametrize("epochs", [40, 150, None])
def test_the_first_rank_is_the_studys_best_at_every_stage(metric: str, epochs: int | None) -> None:
    for seed in range(5):
        view = View(simulate(Plan(metric=metric, fail=0.1, stop=0.2, seed=seed), epochs))
        assert view.best is not None
        assert next(key for key, rank in view.ranks().items() if rank == 1) == view.best.key
        assert sorted(view.ranks().values()) == list(range(1, len(view.ranks()) + 1))
        assert [row.rank for row in rows(view)][:1] == [1]
        assert spending(view).best[-1][1] == view.best.value


def test_epochs_are_counted_once_in_one_order_whoever_ran_them() -> None:
    records = simulate(Plan(fail=0.1))
    view = View(records)
    spent = spending(view)
    assert spent.total == records.epochs
    assert [s for s, _ in spent.starts] == [3, 2, 1, 0]
    shuffled = Records(records.settings, dict(reversed(list(records.configs.items()))), records.judged)
    assert spending(View(shuffled)) == spent
    values = [value for _, value in spent.best]
    assert values == sorted(values)
    assert spent.best_at(0) is None
    assert spent.best_at(10**6) == values[-1]


def test_scores_of_an_open_rung_do_not_count_yet() -> None:
    view = View(simulate(Plan(), 20))
    spent = spending(view)
    assert (spent.total, spent.values, spent.best, view.best) == (20, [], [], None)
    assert set(view.fates.values()) == {"running"}


def test_the_expected_best_is_the_mean_over_all_draws() -> None:
    for values in ([0.1, 0.3, 0.3, 0.9, 1.0], [5.0, 2.0, 1.5]):
        lower = values[0] > values[-1]
        pick = min if lower else max
        for k, expected in enumerate(expected_best(values), 1):
            assert expected == pytest.approx(statistics.mean(map(pick, itertools.combinations(values, k))))


def test_random_search_is_read_off_bracket_0_only_where_it_is_one() -> None:
    rival = random_search(View(simulate(Plan())))
    assert isinstance(rival, RandomSearch)
    assert (rival.n, rival.cost, rival.failures) == (4, 27, 0)
    assert rival.better[-1] == max(rival.values)
    for plan, epochs, why in (
        (Plan(brackets="s=3"), None, "leaves out"),
        (Plan(brackets="s=0"), None, "is random search itself"),
        (Plan(sampler="tpe"), None, "the sampler tpe chose"),
        (Plan(), 200, "not come to its end"),
        (Plan(fail=1.0), None, "bracket s = 0 failed"),
    ):
        assert why in str(random_search(View(simulate(plan, epochs))))


def test_a_failure_is_random_searchs_worst_draw_and_a_loss_is_better_lower() -> None:
    records = simulate(Plan(metric="val_loss"))
    lost = replace(records.configs[0, 1], state="failed", values={1: 2.0}, error="The loss became NaN.")
    rival = random_search(View(Records(records.settings, {**records.configs, (0, 1): lost})))
    assert isinstance(rival, RandomSearch)
    assert rival.failures == 1
    assert rival.cost == (27 * 3 + 1) / 4
    assert rival.values[0] == rival.values[1] == max(rival.values)
    assert list(rival.better) == sorted(rival.better, reverse=True)


def test_importance_finds_what_the_scores_hang_on_and_is_the_same_again() -> None:
    view = View(simulate(Plan()))
    found = importance(view)
    assert isinstance(found, Importance)
    assert next(iter(found.shares)) == "optimizer.lr"
    assert found.shares["optimizer.lr"] > found.chance["optimizer.lr"]
    assert (found.configs, found.epochs, found.s) == (27, 1, 3)
    assert found.left_out == ("optimizer.momentum",)
    assert found == importance(View(simulate(Plan())))


@pytest.mark.parametrize(
    ("plan", "epochs", "why"),
    [
        (Plan(), 5, "no bracket's first rung is closed"),
        (Plan(max_epochs=9), None, "it takes 12 scores after the same number of epochs, and there are 9"),
        (Plan(space={"optimizer.lr": {"low": 0.001, "high": 0.3, "log": True}}), None, "fewer than two fields"),
    ],
)
def test_importance_says_why_there_is_none(plan: Plan, epochs: int | None, why: str) -> None:
    assert why in str(importance(View(simulate(plan, epochs))))


def test_equal_scores_have_no_importance() -> None:
    records = simulate(Plan(brackets="s=3"), 27)
    flat = {key: replace(config, values={1: 0.3}) for key, config in records.configs.items()}
    assert "the same score" in str(importance(View(Records(records.settings, flat))))


def test_tables_show_values_failures_and_what_takes_no_part() -> None:
    view = View(simulate(Plan(max_epochs=9, fail=1.0)))
    assert view.best is not None
    assert view.fates[view.best.key] == "best"
    assert view.best.key in view.failed
    table = rows(view)
    assert len(table) == 17
    assert table[0].state == "best, failed after 5"
    assert any(row.state == "failed" and row.rank is None for row in table)
    assert sum(int(n) for _, n, _ in failures(view)) == len(view.failed)
    values: dict[str, Any] = {key: (value, own, active) for key, value, own, active in best_values(view)}
    assert values["model.hidden"] == ("300, 150", "none", True)
    lacking = next(config for config in view.configs if "optimizer.momentum" not in config.params)
    row = next(row for row in table if row.name == f"s{lacking.bracket}#{lacking.index}")
    assert row.values[2] == "\N{EN DASH}"


def test_a_metric_that_is_not_a_number_is_a_failure() -> None:
    records = simulate(Plan(brackets="s=3"))
    spoilt = replace(records.configs[3, 22], values={1: math.nan}, state="pruned")
    view = View(Records(records.settings, {**records.configs, (3, 22): spoilt}))
    assert (3, 22) in view.failed
    assert failures(view) == [("its metric was not a number", "1", "s3#22")]
    assert view.last_value((3, 22)) is None
