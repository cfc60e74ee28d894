"""Random search: every configuration is trained for all R epochs, until the budget is spent."""

from __future__ import annotations

import itertools

import optuna

from benchmarks.tuners.budget_config import BudgetConfig
from benchmarks.tuners.epochs import start_trial, train_epochs
from benchmarks.tuners.event_log import EventLog
from benchmarks.tuners.process_pool import run_processes
from nephros.errors import DivergedError
from nephros.training.seeding import derive_seed
from nephros.tuning.sample import suggest_params


def run_worker(config: BudgetConfig, worker_index: int) -> None:
    """Sample and train one configuration after another; each process samples its own."""
    runner, event_log = config.make_runner(config.tuning_subset(config.load_data())), EventLog(config)
    seed = derive_seed(config.seed, "random search", worker_index) % 2**32
    sampling_study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for number in itertools.count():
        trial = f"{worker_index}-{number}"
        trainer = start_trial(config, runner, event_log, trial, suggest_params(sampling_study.ask(), config.space))
        try:
            for _ in train_epochs(trainer, event_log, trial):
                pass
        except DivergedError:
            continue
        if not trainer.finished:
            return  # the budget is spent


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    run_processes(run_worker, BudgetConfig.read())
