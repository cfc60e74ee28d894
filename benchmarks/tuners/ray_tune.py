"""Ray Tune's HyperBandScheduler with random configurations, in an environment of its own that has Ray."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AIR_NEW_OUTPUT": "0"}

import ray
from ray import tune
from ray.tune.schedulers import HyperBandScheduler
from ray.tune.search.basic_variant import BasicVariantGenerator

from benchmarks.tuners.budget_config import THREADS, BudgetConfig
from benchmarks.tuners.epochs import start_trial, train_epoch
from benchmarks.tuners.event_log import EventLog
from nephros.data.dataset import Dataset
from nephros.training import checkpoint
from nephros.training.seeding import derive_seed
from nephros.tuning.space import Dimension

MAX_SAMPLES = 1000
"""Number of configurations, more than any budget here can train."""


class RayTrial(tune.Trainable):  # type: ignore[misc]  # Ray is untyped where this is checked
    """A trial with checkpoints, whose process serves one trial after another."""

    def setup(self, config: dict[str, Any], dataset: Dataset, budget_config: BudgetConfig) -> None:
        """Start the process's first trial."""
        self.budget_config, self.event_log, self.runner = (
            budget_config,
            EventLog(budget_config),
            budget_config.make_runner(dataset),
        )
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another trial in the same process, on the open data; `load_checkpoint` follows if the trial is resumed."""
        self.trainer = start_trial(self.budget_config, self.runner, self.event_log, self.trial_id, new_config)
        self.value = math.inf if self.budget_config.lower_is_better else -math.inf
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch, or end the trial when the budget is spent."""
        metrics = train_epoch(self.trainer, self.event_log, self.trial_id)
        if metrics is not None:
            self.value = float(getattr(metrics, self.budget_config.metric))
        return {self.budget_config.metric: self.value, "spent": metrics is None, "done": metrics is None}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save the state, as the scheduler pauses trials between rungs."""
        checkpoint.save(Path(checkpoint_dir) / "state.pt", self.trainer.state_dict())

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Load a saved state."""
        self.trainer.load_state_dict(checkpoint.load(Path(checkpoint_dir) / "state.pt"))


class BudgetSpent(tune.Stopper):  # type: ignore[misc]
    """Ends the experiment once a trial gets no epoch from the shared budget."""

    def __init__(self) -> None:
        self._spent = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Note whether the budget is spent; never stop a single trial."""
        self._spent = self._spent or bool(result.get("spent"))
        return False

    def stop_all(self) -> bool:
        """Return whether the budget is spent."""
        return self._spent


def tune_domain(dimension: Dimension) -> Any:
    """Return a dimension in Tune's words."""
    if dimension.when:
        raise NotImplementedError(f"{dimension.key} depends on others, which Tune's plain samplers can't say.")
    if dimension.kind == "categorical":
        return tune.choice(list(dimension.choices))
    if dimension.kind == "int":  # Tune leaves the upper end out
        sampler = tune.lograndint if dimension.log else tune.randint
        return sampler(int(dimension.low), int(dimension.high) + 1)
    return (tune.loguniform if dimension.log else tune.uniform)(dimension.low, dimension.high)


def make_tuner(config: BudgetConfig) -> tune.Tuner:
    """Return the experiment; the data reach the processes once, through Ray's shared memory."""
    trainable = tune.with_parameters(RayTrial, dataset=config.tuning_subset(config.load_data()), budget_config=config)
    seed = derive_seed(config.seed, "ray") % 2**32
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": THREADS}),
        param_space={dimension.key: tune_domain(dimension) for dimension in config.space},
        tune_config=tune.TuneConfig(
            metric=config.metric,
            mode="min" if config.lower_is_better else "max",
            num_samples=MAX_SAMPLES,
            scheduler=HyperBandScheduler(
                time_attr="training_iteration", max_t=config.max_epochs, reduction_factor=config.eta
            ),
            search_alg=BasicVariantGenerator(random_state=seed),
            reuse_actors=True,  # or every trial would start a process and import torch
        ),
        run_config=tune.RunConfig(
            name="trials", storage_path=str(Path(config.folder).absolute()), stop=BudgetSpent(), verbose=0
        ),
    )


def main() -> None:
    """Start Ray on as many cores as there are parallel trials, tune, and stop Ray."""
    config = BudgetConfig.read()
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temp_dir:  # sockets need short paths
        ray.init(
            address="local",
            num_cpus=config.workers * THREADS,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=256 * 2**20,
            _temp_dir=temp_dir,
        )
        try:
            make_tuner(config).fit()
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
