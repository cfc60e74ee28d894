"""What a study's report says in words: what to know before the numbers, how to go on, and how the study was made."""

from __future__ import annotations

import shlex

from nephros.reporting.study.budget import BudgetCurve, RandomBaseline
from nephros.reporting.study.formatting import (
    METRIC_NAMES,
    config_name,
    format_metric,
    metric_label,
    pluralize,
    was_early_stopped,
)
from nephros.reporting.study.importance import N_SHUFFLES, Importance
from nephros.reporting.study.view import StudyView
from nephros.tuning.study_state import ConfigKey


def caveats(view: StudyView) -> list[str]:
    """Return the sentences that a reader must know before the numbers."""
    settings, sentences = view.settings, []
    if settings.data["split"] == "synthetic":
        sentences.append("The cells are synthetic, made up by nephros: no number here says anything about kidneys.")
    if not view.study_state.finished:
        sentences.append(
            f"This study has not finished: {view.study_state.trained_epochs:,} of "
            f"{pluralize(view.study_state.planned_epochs, 'epoch')} are spent."
        )
    if view.best is not None:
        sentences.append(
            "The best of many configurations was picked by its score on validation, so that score flatters it. "
            "The test split has not been read."
        )
        if view.best.epochs < settings.max_epochs and view.study_state.finished:
            sentences.append(
                f"The best score was had after {pluralize(view.best.epochs, 'epoch')}, not after all {settings.max_epochs}: "
                f"{_best_epoch_reason(view, view.best.key)}."
            )
    if settings.data["key"] and settings.data["split"] == "own":
        sentences.append(
            f"The data bears the name {settings.data['name']}, but it is not the published file: its split is another."
        )
    return sentences


def _best_epoch_reason(view: StudyView, key: ConfigKey) -> str:
    """Say why the best configuration's score is not one after all epochs."""
    if key in view.failed:
        return "further on it failed"
    config = view.study_state.configs[key]
    return (
        "its early stop ended it"
        if view.best and config.trained_epochs == view.best.epochs
        else "its later scores were no better"
    )


def next_steps(view: StudyView) -> list[tuple[str, str]]:
    """Return (what for, command) lines of what a user may do next."""
    name = shlex.quote(view.settings.name)
    train = [("Train the best configuration as a run of its own", f"nephros train --from-study {name}")]
    resume = [("Go on with the study", f"nephros tune --resume {name}")]
    return (train if view.best else []) if view.study_state.finished else [*resume, *(train if view.best else [])]


def key_figures(view: StudyView) -> list[tuple[str, str]]:
    """Return the (name, value) pairs beneath the headline."""
    study_state = view.study_state
    study_settings = sum(bracket.n_configs for bracket in view.settings.planned_brackets)
    trained_text, planned_text = f"{study_state.trained_epochs:,}", f" of {study_state.planned_epochs:,}"
    count_text = f"{len(view.statuses):,}" + ("" if len(view.statuses) == study_settings else f" of {study_settings:,}")
    return [
        ("epochs spent of those planned", trained_text + planned_text),
        ("configurations", count_text),
        ("failed", f"{len(view.failed):,}"),
        ("brackets", "s = " + ", ".join(str(bracket.s) for bracket in view.settings.planned_brackets)),
    ]


def random_baseline_notes(
    view: StudyView, budget_curve: BudgetCurve, random_baseline: RandomBaseline | str
) -> list[str]:
    """Return the sentences beside the picture of what the epochs bought."""
    if isinstance(random_baseline, str):
        return [random_baseline]
    sentences = [
        f"Bracket s = 0 is random search: it trains {pluralize(random_baseline.n_configs, 'configuration')} to the end, "
        "sampled like all others.",
        f"The dashed line is the expected best of the first 1 to {random_baseline.n_configs} of them in random order, at "
        f"{random_baseline.epochs_per_config:.4g} epochs each; "
        "the band spans the luckiest and the unluckiest order. It rests on these few alone.",
    ]
    if random_baseline.n_failures:
        sentences.append(
            f"{random_baseline.n_failures} of the {random_baseline.n_configs} failed; "
            "each failure counts as the worst of the others."
        )
    epochs = random_baseline.epochs_per_config * random_baseline.n_configs
    study_best = budget_curve.best_at(epochs)
    if study_best is not None:
        baseline_best = random_baseline.expected_best[-1]
        sentences.append(
            f"After {epochs:,.4g} epochs the study's best was {format_metric(view, study_best)}, "
            f"random search's {format_metric(view, baseline_best)}."
        )
    return sentences


def importance_notes(view: StudyView, importance: Importance | str) -> list[str]:
    """Return the sentences beside the picture of importances."""
    if isinstance(importance, str):
        return [importance]
    sentences = [
        f"Of the {pluralize(importance.n_configs, 'configuration')} of bracket s = {importance.bracket} after "
        f"{pluralize(importance.epochs, 'epoch')}, "
        "where all can be compared: how much of the spread of their ranks each field explains alone (fANOVA).",
        f"It says what matters early, not at the end of training. The tick is the most that the same reckoning gave for "
        f"scores dealt out at random, in {N_SHUFFLES} deals: a bar that falls short of it may be chance.",
    ]
    if importance.n_failures:
        sentences.append(f"Left out, for want of a score: {pluralize(importance.n_failures, 'failed configuration')}.")
    if importance.conditional_fields:
        sentences.append(
            f"Left out, as only some configurations have them: {', '.join(importance.conditional_fields)}."
        )
    return sentences


def provenance_rows(view: StudyView) -> list[tuple[str, str]]:
    """Return how the study was made, as (what, value) lines."""
    settings = view.settings
    seconds = sum(config.seconds for config in view.configs)
    n_early_stopped = sum(was_early_stopped(config) for config in view.configs)
    data_text = "all training and validation images"
    if settings.subset is not None:
        data_text = f"{settings.subset:,} training images; validation is cut to a quarter of that"
    brackets_text = "; ".join(
        f"s = {bracket.s}: " + ", ".join(f"{rung.n_configs} to {rung.epochs}" for rung in bracket.rungs)
        for bracket in settings.planned_brackets
    )
    lines = [
        ("Study", settings.name),
        ("Made by", settings.command),
        ("Recipe", str(settings.recipe["name"])),
        ("R, most epochs", str(settings.max_epochs)),
        ("\N{GREEK SMALL LETTER ETA}, share kept", f"{settings.eta}: the best 1 of {settings.eta} go on"),
        ("Brackets", f"{settings.brackets} (configurations to epochs: {brackets_text})"),
        ("Metric", f"{metric_label(view)}, {'lower' if settings.lower_is_better else 'higher'} is better"),
        ("Sampler", f"{settings.sampler}, seed {settings.seed}"),
        ("Images that trials see", data_text),
        ("Device", f"{settings.device_type}, {pluralize(settings.threads, 'thread')} a trial"),
        ("Time in epochs", f"{seconds / 60:.1f} minutes, all configurations together"),
        (
            "Stopped early",
            f"{pluralize(n_early_stopped, 'configuration')}, by the recipe's own early stop" if n_early_stopped else "",
        ),
        ("Begun", settings.created),
        ("Commit", settings.commit or "not in a git checkout"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in settings.versions.items())),
    ]
    return [(label, value) for label, value in lines if value]


def survival_alt_text(view: StudyView) -> str:
    """Return the survival picture in a sentence, for those who can't see it."""
    parts = []
    for bracket, rung_states in view.brackets:
        steps = ", ".join(f"{len(rung_state.members)} to {rung_state.rung.epochs}" for rung_state in rung_states)
        parts.append(f"bracket {bracket.s}: {steps}")
    best_text = (
        ""
        if view.best is None
        else f"; the best is {config_name(view.best.key)} with {METRIC_NAMES[view.settings.metric]} "
        f"{format_metric(view, view.best.value)}"
    )
    return f"Configurations and the epochs they were trained to, {'; '.join(parts)}{best_text}"
