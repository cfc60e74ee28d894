"""Optuna's HyperbandPruner with its random sampler, in several processes on one SQLite storage, as Optuna documents."""

from __future__ import annotations

from pathlib import Path

import optuna

from benchmarks.tuners.budget_config import Terms
from benchmarks.tuners.epochs import begin, values
from benchmarks.tuners.event_log import Ledger
from benchmarks.tuners.process_pool import side_by_side
from nephros.errors import Diverged
from nephros.training.parts import seed_for
from nephros.tuning.sample import suggest


def _storage(terms: Terms) -> optuna.storages.RDBStorage:
    url = f"sqlite:///{Path(terms.folder).absolute() / 'optuna.db'}"
    return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})


def _name(terms: Terms) -> str:
    """The study's name: the pruner deals trials out to brackets by its hash."""
    return f"{terms.recipe}-{terms.seed}"


def _pruner(terms: Terms) -> optuna.pruners.HyperbandPruner:
    return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=terms.max_epochs, reduction_factor=terms.eta)


def work(terms: Terms, place: int) -> None:
    """Optimise until the budget is spent. Each process has a sampler seed of its own, or all would draw the same."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    bench, ledger = terms.bench(terms.cut(terms.data())), Ledger(terms)
    seed = seed_for(terms.seed, "optuna", place) % 2**32
    study = optuna.load_study(
        study_name=_name(terms),
        storage=_storage(terms),
        sampler=optuna.samplers.RandomSampler(seed=seed),
        pruner=_pruner(terms),
    )

    def objective(trial: optuna.Trial) -> float:
        name = str(trial.number)
        fit = begin(terms, bench, ledger, name, suggest(trial, terms.space))
        for row in values(fit, ledger, name):
            value = float(getattr(row, terms.metric))
            trial.report(value, row.epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        if not fit.over:
            study.stop()  # the budget is spent
            raise optuna.TrialPruned
        return value

    study.optimize(objective, catch=(Diverged,))


def main() -> None:
    """Make the study, then let all processes work on it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    terms = Terms.read()
    optuna.create_study(
        storage=_storage(terms),
        study_name=_name(terms),
        direction="minimize" if terms.lower_is_better else "maximize",
    )
    side_by_side(work, terms)


if __name__ == "__main__":
    main()
