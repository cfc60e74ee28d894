"""Random search: every configuration is trained for all R epochs, until the budget is spent."""

from __future__ import annotations

import itertools

import optuna

from benchmarks.tuners.budget_config import Terms
from benchmarks.tuners.epochs import begin, values
from benchmarks.tuners.event_log import Ledger
from benchmarks.tuners.process_pool import side_by_side
from nephros.errors import Diverged
from nephros.training.parts import seed_for
from nephros.tuning.sample import suggest


def work(terms: Terms, place: int) -> None:
    """Draw and train one configuration after another; each process draws its own."""
    bench, ledger = terms.bench(terms.cut(terms.data())), Ledger(terms)
    seed = seed_for(terms.seed, "random search", place) % 2**32
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for number in itertools.count():
        trial = f"{place}-{number}"
        fit = begin(terms, bench, ledger, trial, suggest(drawn.ask(), terms.space))
        try:
            for _ in values(fit, ledger, trial):
                pass
        except Diverged:
            continue
        if not fit.over:
            return  # the budget is spent


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    side_by_side(work, Terms.read())
