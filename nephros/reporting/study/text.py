"""What a study's report says in words: what to know before the numbers, how to go on, and how the study was made."""

from __future__ import annotations

import shlex

from nephros.reporting.study.budget import RandomSearch, Spending
from nephros.reporting.study.formatting import METRIC, counted, metric, named, shown, stopped
from nephros.reporting.study.importance import SHUFFLES, Importance
from nephros.reporting.study.view import View
from nephros.tuning.study_state import Key


def caveats(view: View) -> list[str]:
    """Return the sentences that a reader must know before the numbers."""
    settings, found = view.settings, []
    if settings.data["split"] == "synthetic":
        found.append("The cells are synthetic, made up by nephros: no number here says anything about kidneys.")
    if not view.records.over:
        found.append(
            f"This study has not finished: {view.records.epochs:,} of {counted(view.records.planned_epochs, 'epoch')} are spent."
        )
    if view.best is not None:
        found.append(
            "The best of many configurations was picked by its score on validation, so that score flatters it. "
            "The test split has not been read."
        )
        if view.best.epochs < settings.max_epochs and view.records.over:
            found.append(
                f"The best score was had after {counted(view.best.epochs, 'epoch')}, not after all {settings.max_epochs}: "
                f"{_why(view, view.best.key)}."
            )
    if settings.data["key"] and settings.data["split"] == "own":
        found.append(
            f"The data bears the name {settings.data['name']}, but it is not the published file: its split is another."
        )
    return found


def _why(view: View, key: Key) -> str:
    """Say why the best configuration's score is not one after all epochs."""
    if key in view.failed:
        return "further on it failed"
    config = view.records.configs[key]
    return (
        "its early stop ended it"
        if view.best and config.epochs == view.best.epochs
        else "its later scores were no better"
    )


def on(view: View) -> list[tuple[str, str]]:
    """Return (what for, command) lines of what a user may do next."""
    name = shlex.quote(view.settings.name)
    train = [("Train the best configuration as a run of its own", f"nephros train --from-study {name}")]
    resume = [("Go on with the study", f"nephros tune --resume {name}")]
    return (train if view.best else []) if view.records.over else [*resume, *(train if view.best else [])]


def numbers(view: View) -> list[tuple[str, str]]:
    """Return the (name, value) pairs beneath the headline."""
    records = view.records
    planned = sum(bracket.configs for bracket in view.settings.plan)
    spent, whole = f"{records.epochs:,}", f" of {records.planned_epochs:,}"
    started = f"{len(view.fates):,}" + ("" if len(view.fates) == planned else f" of {planned:,}")
    return [
        ("epochs spent of those planned", spent + whole),
        ("configurations", started),
        ("failed", f"{len(view.failed):,}"),
        ("brackets", "s = " + ", ".join(str(bracket.s) for bracket in view.settings.plan)),
    ]


def compared(view: View, spent: Spending, rival: RandomSearch | str) -> list[str]:
    """Return the sentences beside the picture of what the epochs bought."""
    if isinstance(rival, str):
        return [rival]
    said = [
        f"Bracket s = 0 is random search: it trains {counted(rival.n, 'configuration')} to the end, drawn like all others.",
        f"The dashed line is the expected best of the first 1 to {rival.n} of them in a random order, at {rival.cost:.4g} "
        "epochs each; the band spans the luckiest and the unluckiest order. It rests on these few alone.",
    ]
    if rival.failures:
        said.append(f"{rival.failures} of the {rival.n} failed; each failure counts as the worst of the others.")
    epochs = rival.cost * rival.n
    own = spent.best_at(epochs)
    if own is not None:
        other = rival.better[-1]
        said.append(
            f"After {epochs:,.4g} epochs the study's best was {shown(view, own)}, random search's {shown(view, other)}."
        )
    return said


def hanging(view: View, found: Importance | str) -> list[str]:
    """Return the sentences beside the picture of importances."""
    if isinstance(found, str):
        return [found]
    said = [
        f"Of the {counted(found.configs, 'configuration')} of bracket s = {found.s} after {counted(found.epochs, 'epoch')}, "
        "where all can be compared: how much of the spread of their ranks each field explains alone (fANOVA).",
        f"It says what matters early, not at the end of training. The tick is the most that the same reckoning gave for "
        f"scores dealt out at random, in {SHUFFLES} deals: a bar that falls short of it may be chance.",
    ]
    if found.failures:
        said.append(f"Left out, for want of a score: {counted(found.failures, 'failed configuration')}.")
    if found.left_out:
        said.append(f"Left out, as only some configurations have them: {', '.join(found.left_out)}.")
    return said


def making(view: View) -> list[tuple[str, str]]:
    """Return how the study was made, as (what, value) lines."""
    settings = view.settings
    seconds = sum(config.seconds for config in view.configs)
    early = sum(stopped(config) for config in view.configs)
    seen = "all training and validation images"
    if settings.subset is not None:
        seen = f"{settings.subset:,} training images; validation is cut to a quarter of that"
    runs = "; ".join(
        f"s = {bracket.s}: " + ", ".join(f"{rung.configs} to {rung.epochs}" for rung in bracket.rungs)
        for bracket in settings.plan
    )
    lines = [
        ("Study", settings.name),
        ("Made by", settings.command),
        ("Recipe", str(settings.recipe["name"])),
        ("R, most epochs", str(settings.max_epochs)),
        ("\N{GREEK SMALL LETTER ETA}, share kept", f"{settings.eta}: the best 1 of {settings.eta} go on"),
        ("Brackets", f"{settings.brackets} (configurations to epochs: {runs})"),
        ("Metric", f"{metric(view)}, {'lower' if settings.lower_is_better else 'higher'} is better"),
        ("Sampler", f"{settings.sampler}, seed {settings.seed}"),
        ("Images that trials see", seen),
        ("Device", f"{settings.device_type}, {counted(settings.threads, 'thread')} a trial"),
        ("Time in epochs", f"{seconds / 60:.1f} minutes, all configurations together"),
        ("Stopped early", f"{counted(early, 'configuration')}, by the recipe's own early stop" if early else ""),
        ("Begun", settings.created),
        ("Commit", settings.commit or "not in a git checkout"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in settings.versions.items())),
    ]
    return [(what, value) for what, value in lines if value]


def survived(view: View) -> str:
    """Return the survival picture in a sentence, for those who can't see it."""
    said = []
    for bracket, found in view.brackets:
        steps = ", ".join(f"{len(standing.members)} to {standing.rung.epochs}" for standing in found)
        said.append(f"bracket {bracket.s}: {steps}")
    best = (
        ""
        if view.best is None
        else f"; the best is {named(view.best.key)} with {METRIC[view.settings.metric]} {shown(view, view.best.value)}"
    )
    return f"Configurations and the epochs they were trained to, {'; '.join(said)}{best}"
