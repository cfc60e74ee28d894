"""A study of nephros: the driver, its storage, checkpoints and worker processes, as `nephros tune` puts them together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from benchmarks.tuners.budget_config import DEVICE, THREADS, Terms
from benchmarks.tuners.event_log import Ledger
from nephros.training.history import Epoch
from nephros.tuning.checkpoint_store import Store, checkpoint_name
from nephros.tuning.executors import EpochDone, Event, Hear, Processes
from nephros.tuning.hyperband import Bracket, Standing
from nephros.tuning.optuna_storage import Storage, address
from nephros.tuning.plan import plan
from nephros.tuning.scheduler import Driver
from nephros.tuning.settings import Settings
from nephros.tuning.study_state import Key, Records
from nephros.tuning.trial import Outcome, Task


class Account:
    """Notes in the ledger what a study's trials come to, each epoch once; a Watcher that learns their values."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._begun = set(ledger.params())
        self._noted = {(event.trial, event.epoch) for event in ledger.events()}

    def changed(self, records: Records, running: list[Task]) -> None:
        """Note the trials that are new."""
        for config in records.configs.values():
            if _name(config.key) not in self._begun:
                self._begun.add(_name(config.key))
                self._ledger.begin(_name(config.key), config.params)

    def closed(self, records: Records, bracket: Bracket, standing: Standing) -> None:
        """Nothing to note: the rung's epochs were told one by one."""

    def recall(self, store: Store, records: Records) -> None:
        """Note the epochs that an earlier attempt trained and was killed before it could note them."""
        for key in records.configs:
            state = store.load(checkpoint_name(*key))
            for row in state["history"] if state else []:
                self._note(key, Epoch(**row))

    def hear(self, event: Event) -> None:
        """Note what a worker told."""
        if isinstance(event, EpochDone):
            self._note(event.key, event.row)
        elif isinstance(event, Outcome):
            for row in event.rows:
                self._note(event.key, row)
            if event.error is not None:  # the epoch in which it diverged was trained as well
                self._tell(event.key, len(event.rows) + 1, None, 0.0)

    def _note(self, key: Key, row: Epoch) -> None:
        self._tell(key, row.epoch, row.val_accuracy, row.seconds)

    def _tell(self, key: Key, epoch: int, value: float | None, took: float) -> None:
        if (_name(key), epoch) not in self._noted:
            self._noted.add((_name(key), epoch))
            self._ledger.tell(_name(key), epoch, value, took)


def _name(key: Key) -> str:
    return f"s{key[0]}#{key[1]}"


class Overheard(Processes):
    """The workers, with someone who hears what the driver hears, just before it does."""

    account: Account

    def wait(self, hear: Hear, seconds: float) -> None:
        """Pass on what the workers say."""

        def both(event: Event) -> None:
            self.account.hear(event)
            hear(event)

        super().wait(both, seconds)


def settings_of(terms: Terms, name: str) -> Settings:
    """Return the settings of a study on these terms; opens the data for its provenance, as `nephros tune` does."""
    planned = plan(
        terms.base,
        max_epochs=terms.max_epochs,
        eta=terms.eta,
        subset=terms.subset,
        metric=terms.metric,
        seed=terms.seed,
        threads=THREADS,
        name=name,
        device=DEVICE,
    )
    request = {"source": terms.source, "size": None, "seed": terms.seed}
    return dataclasses.replace(planned, request=request, data=terms.data().provenance.to_dict())


def main() -> None:
    """Run the study, or go on with it where an earlier attempt was stopped."""
    terms = Terms.read()
    folder, name = Path(terms.folder), f"{terms.recipe}-{terms.seed}"
    storage, store = Storage(address(str(folder / "study.db")), name), Store(str(folder / "checkpoints"))
    storage.lease.take()
    settings = storage.settings() if storage.exists else settings_of(terms, name)
    storage.ensure(settings)
    setup = {
        "request": settings.request,
        "subset": settings.subset,
        "seed": settings.seed,
        "device": DEVICE,
        "threads": THREADS,
        "store": store.root,
    }
    pool, account = Overheard(terms.workers, setup), Account(Ledger(terms))
    pool.account = account
    account.recall(store, storage.records())
    Driver(storage, terms.space, store, pool, account).run()


if __name__ == "__main__":
    main()
