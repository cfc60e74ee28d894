"""What a report derives from a study's state: statuses, ranks, scores by budget, random search, importance."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from nephros.reporting.study.budget import RandomBaseline, compute_budget_curve, estimate_random_baseline, expected_best
from nephros.reporting.study.importance import Importance, compute_importance
from nephros.reporting.study.trial_tables import best_values, config_rows, failure_rows
from nephros.reporting.study.view import StudyView
from nephros.tuning.study_state import StudyState
from tests.reporting.study_simulator import SimulationConfig, simulate


def test_statuses_of_the_posters_bracket() -> None:
    view = StudyView(simulate(SimulationConfig(brackets="s=3")))
    assert Counter(view.statuses.values()) == {"pruned": 26, "best": 1}
    assert view.best is not None
    assert view.study_state.configs[view.best.key].trained_epochs == 27


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
@pytest.mark.parametrize("epochs", [40, 150, None])
def test_the_first_rank_is_the_studys_best_at_every_stage(metric: str, epochs: int | None) -> None:
    for seed in range(2):
        view = StudyView(
            simulate(SimulationConfig(metric=metric, fail_rate=0.1, early_stop_rate=0.2, seed=seed), epochs)
        )
        assert view.best is not None
        assert next(key for key, rank in view.ranks().items() if rank == 1) == view.best.key
        assert sorted(view.ranks().values()) == list(range(1, len(view.ranks()) + 1))
        assert [row.rank for row in config_rows(view)][:1] == [1]
        assert compute_budget_curve(view).best_so_far[-1][1] == view.best.value


def test_epochs_are_counted_once_in_a_fixed_order() -> None:
    study_state = simulate(SimulationConfig(fail_rate=0.1))
    view = StudyView(study_state)
    budget_curve = compute_budget_curve(view)
    assert budget_curve.total_epochs == study_state.trained_epochs
    assert [s for s, _ in budget_curve.bracket_starts] == [3, 2, 1, 0]
    shuffled = StudyState(
        study_state.settings, dict(reversed(list(study_state.configs.items()))), study_state.best_metrics
    )
    assert compute_budget_curve(StudyView(shuffled)) == budget_curve
    values = [value for _, value in budget_curve.best_so_far]
    assert values == sorted(values)
    assert budget_curve.best_at(0) is None
    assert budget_curve.best_at(10**6) == values[-1]


def test_scores_of_an_open_rung_do_not_count_yet() -> None:
    view = StudyView(simulate(SimulationConfig(), 20))
    budget_curve = compute_budget_curve(view)
    assert (budget_curve.total_epochs, budget_curve.rung_scores, budget_curve.best_so_far, view.best) == (
        20,
        [],
        [],
        None,
    )
    assert set(view.statuses.values()) == {"running"}


def test_the_expected_best_is_the_mean_over_all_draws() -> None:
    for values in ([0.1, 0.3, 0.3, 0.9, 1.0], [5.0, 2.0, 1.5]):
        lower = values[0] > values[-1]
        pick = min if lower else max
        for k, expected in enumerate(expected_best(values), 1):
            assert expected == pytest.approx(statistics.mean(map(pick, itertools.combinations(values, k))))


def test_random_search_is_estimated_from_bracket_0() -> None:
    random_baseline = estimate_random_baseline(StudyView(simulate(SimulationConfig())))
    assert isinstance(random_baseline, RandomBaseline)
    assert (random_baseline.n_configs, random_baseline.epochs_per_config, random_baseline.n_failures) == (4, 27, 0)
    assert random_baseline.expected_best[-1] == max(random_baseline.values)


@pytest.mark.parametrize(
    ("plan", "epochs", "reason"),
    [
        (SimulationConfig(brackets="s=3"), None, "leaves out"),
        (SimulationConfig(brackets="s=0"), None, "is random search itself"),
        (SimulationConfig(sampler="tpe"), None, "the sampler tpe"),
        (SimulationConfig(), 200, "not finished"),
        (SimulationConfig(fail_rate=1.0), None, "bracket s = 0 failed"),
    ],
)
def test_without_a_random_bracket_0_there_is_a_reason(plan: SimulationConfig, epochs: int | None, reason: str) -> None:
    assert reason in str(estimate_random_baseline(StudyView(simulate(plan, epochs))))


def test_a_failure_is_random_searchs_worst_draw_and_a_loss_is_better_lower() -> None:
    study_state = simulate(SimulationConfig(metric="val_loss"))
    failed_config = replace(study_state.configs[0, 1], state="failed", values={1: 2.0}, error="The loss became NaN.")
    random_baseline = estimate_random_baseline(
        StudyView(StudyState(study_state.settings, {**study_state.configs, (0, 1): failed_config}))
    )
    assert isinstance(random_baseline, RandomBaseline)
    assert random_baseline.n_failures == 1
    assert random_baseline.epochs_per_config == (27 * 3 + 1) / 4
    assert random_baseline.values[0] == random_baseline.values[1] == max(random_baseline.values)
    assert list(random_baseline.expected_best) == sorted(random_baseline.expected_best, reverse=True)


def test_importance_finds_the_field_that_matters_and_is_reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nephros.reporting.study.importance.N_SHUFFLES", 2)
    view = StudyView(simulate(SimulationConfig()))
    importance = compute_importance(view)
    assert isinstance(importance, Importance)
    assert next(iter(importance.shares)) == "optimizer.lr"
    assert importance.shares["optimizer.lr"] > importance.chance_level["optimizer.lr"]
    assert (importance.n_configs, importance.epochs, importance.bracket) == (27, 1, 3)
    assert importance.conditional_fields == ("optimizer.momentum",)
    assert importance == compute_importance(StudyView(simulate(SimulationConfig())))


@pytest.mark.parametrize(
    ("plan", "epochs", "reason"),
    [
        (SimulationConfig(), 5, "no bracket's first rung is closed"),
        (SimulationConfig(max_epochs=9), None, "12 scores after the same number of epochs, and there are 9"),
        (
            SimulationConfig(space={"optimizer.lr": {"low": 0.001, "high": 0.3, "log": True}}),
            None,
            "fewer than two fields",
        ),
    ],
)
def test_missing_importance_has_a_reason(plan: SimulationConfig, epochs: int | None, reason: str) -> None:
    assert reason in str(compute_importance(StudyView(simulate(plan, epochs))))


def test_equal_scores_have_no_importance() -> None:
    study_state = simulate(SimulationConfig(brackets="s=3"), 27)
    flat = {key: replace(config, values={1: 0.3}) for key, config in study_state.configs.items()}
    assert "the same score" in str(compute_importance(StudyView(StudyState(study_state.settings, flat))))


def test_tables_show_values_failures_and_inactive_fields() -> None:
    view = StudyView(simulate(SimulationConfig(max_epochs=9, fail_rate=1.0)))
    assert view.best is not None
    assert view.statuses[view.best.key] == "best"
    assert view.best.key in view.failed
    table = config_rows(view)
    assert len(table) == 17
    assert table[0].status_text == "best, failed after 5"
    assert any(row.status_text == "failed" and row.rank is None for row in table)
    assert sum(int(n) for _, n, _ in failure_rows(view)) == len(view.failed)
    values: dict[str, Any] = {
        key: (value, recipe_default, active) for key, value, recipe_default, active in best_values(view)
    }
    assert values["model.hidden"] == ("300, 150", "none", True)
    config_without_momentum = next(config for config in view.configs if "optimizer.momentum" not in config.params)
    row = next(
        row for row in table if row.name == f"s{config_without_momentum.bracket}#{config_without_momentum.index}"
    )
    assert row.values[2] == "\N{EN DASH}"


def test_a_nan_metric_is_a_failure() -> None:
    study_state = simulate(SimulationConfig(brackets="s=3"))
    nan_config = replace(study_state.configs[3, 22], values={1: math.nan}, state="pruned")
    view = StudyView(StudyState(study_state.settings, {**study_state.configs, (3, 22): nan_config}))
    assert (3, 22) in view.failed
    assert failure_rows(view) == [("its metric became NaN or infinite", "1", "s3#22")]
    assert view.last_value((3, 22)) is None
