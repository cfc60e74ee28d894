"""A long-lived process that does a study's tasks; `python -m nephros.tuning.worker`, started by pools.Processes.

Lines of JSON come in (first the setup, then tasks) and go out (ready, an epoch's row, an outcome, trouble).
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import sys
import threading
from typing import IO, Any

import torch

from nephros import device as devices
from nephros.data.load import load
from nephros.data.subset import cut
from nephros.errors import UserError
from nephros.training.history import Epoch
from nephros.tuning.checkpoint_store import Store
from nephros.tuning.trial import Bench, outcome_to_dict, task_from_dict


def main() -> None:
    """Work until the driver goes, which ends this process at once, whatever it is doing.

    The setup has: request (what `load` takes), subset and seed (or subset null), device, threads, and store.
    """
    # Nothing else may write to the pipe that the driver reads.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    try:
        _work(lines, out)
    except OSError as error:
        _say(out, {"trouble": error.strerror or str(error), "errno": error.errno, "file": error.filename})
    except UserError as error:
        _say(out, {"trouble": str(error), "errno": None, "file": None})
    except ImportError as error:
        _say(out, {"trouble": f"A worker can't start ({error}): mend the installation.", "errno": None, "file": None})


def _listen(lines: queue.Queue[str]) -> None:
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)  # the driver is gone: its successor will start workers of its own


def _work(lines: queue.Queue[str], out: IO[str]) -> None:
    setup = json.loads(lines.get())
    torch.set_num_threads(setup["threads"])
    dataset = load(**setup["request"])
    if setup["subset"] is not None:
        dataset = cut(dataset, setup["subset"], setup["seed"])
    bench = Bench(dataset, devices.choose(setup["device"]), Store(setup["store"]))
    _say(out, {"ready": os.getpid()})
    while True:
        task = task_from_dict(json.loads(lines.get()))

        def hear(row: Epoch, key: tuple[int, int] = task.key) -> None:
            _say(out, {"key": key, "row": dataclasses.asdict(row)})

        _say(out, {"outcome": outcome_to_dict(bench.advance(task, hear))})


def _say(out: IO[str], values: dict[str, Any]) -> None:
    out.write(json.dumps(values) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
