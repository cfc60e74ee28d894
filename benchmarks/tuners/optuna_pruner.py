"""Optuna's HyperbandPruner with its random sampler, in several processes on one SQLite storage, as in Optuna's documentation."""

from __future__ import annotations

from pathlib import Path

import optuna

from benchmarks.tuners.budget_config import BudgetConfig
from benchmarks.tuners.epochs import start_trial, train_epochs
from benchmarks.tuners.event_log import EventLog
from benchmarks.tuners.process_pool import run_processes
from nephros.errors import DivergedError
from nephros.training.seeding import derive_seed
from nephros.tuning.sample import suggest_params


def _storage(config: BudgetConfig) -> optuna.storages.RDBStorage:
    url = f"sqlite:///{Path(config.folder).absolute() / 'optuna.db'}"
    return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})


def _study_name(config: BudgetConfig) -> str:
    """Return the study's name, by whose hash the pruner assigns trials to brackets."""
    return f"{config.recipe}-{config.seed}"


def _pruner(config: BudgetConfig) -> optuna.pruners.HyperbandPruner:
    return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=config.max_epochs, reduction_factor=config.eta)


def run_worker(config: BudgetConfig, worker_index: int) -> None:
    """Optimize until the budget is spent; each process has its own sampler seed, lest all sample the same values."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    runner, event_log = config.make_runner(config.tuning_subset(config.load_data())), EventLog(config)
    seed = derive_seed(config.seed, "optuna", worker_index) % 2**32
    study = optuna.load_study(
        study_name=_study_name(config),
        storage=_storage(config),
        sampler=optuna.samplers.RandomSampler(seed=seed),
        pruner=_pruner(config),
    )

    def objective(trial: optuna.Trial) -> float:
        name = str(trial.number)
        trainer = start_trial(config, runner, event_log, name, suggest_params(trial, config.space))
        for metrics in train_epochs(trainer, event_log, name):
            value = float(getattr(metrics, config.metric))
            trial.report(value, metrics.epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        if not trainer.finished:
            study.stop()  # the budget is spent
            raise optuna.TrialPruned
        return value

    study.optimize(objective, catch=(DivergedError,))


def main() -> None:
    """Create the study, then run all processes."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config = BudgetConfig.read()
    optuna.create_study(
        storage=_storage(config),
        study_name=_study_name(config),
        direction="minimize" if config.lower_is_better else "maximize",
    )
    run_processes(run_worker, config)


if __name__ == "__main__":
    main()
